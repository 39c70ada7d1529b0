"""
Draw the plots of docs/method.md from recorded H100 processes.

    python docs/plots.py [FOLDER]     # docs/plots without it; takes seconds and no GPU

Needs matplotlib (`pip install -e ".[plot,torch]"` has it). The same records give the same files.
The replay is the one that tests/unit/test_recorded_reality.py holds the gate to.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit")]

from harm import slower  # noqa: E402
from reality import FOLDER, Turn, cards, planned, statuses  # noqa: E402

from pytest_kernelperf.analysis.noise import columns  # noqa: E402
from pytest_kernelperf.calibration.folder import Folder  # noqa: E402
from pytest_kernelperf.calibration.summary import gather, proof_of  # noqa: E402
from pytest_kernelperf.model import Measurement, Process  # noqa: E402
from pytest_kernelperf.report.calibration_plot import detection_figure  # noqa: E402
from pytest_kernelperf.report.svg import svg_text  # noqa: E402
from pytest_kernelperf.store.runs import read_run  # noqa: E402

#: The card of the baseline before run 6: five processes, half a minute apart.
CARD = "GPU-ef6e74a9"
#: One that repeats to 0.1 %, and the one whose clock steps in some processes.
QUIET, NOISY = "test_attention[128-8]", "test_attention[512-16]"
INK, FAINT, BLUE, AMBER, RED = "#222222", "#bbbbbb", "#1f6fb2", "#e0a100", "#b3261e"


def main(folder: Path) -> None:
    """
    Write every plot into a folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (noise, detection, slowed, timers, clock_step):
        path = folder / f"{draw.__name__}.svg"
        path.write_text(svg_text(draw()), encoding="utf-8")
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def noise() -> Figure:
    """
    Return each round's P50, and what its process's rounds alone would promise.
    """
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    for axes, test in zip(figure.subplots(1, 2, sharey=True), (QUIET, NOISY), strict=True):
        _draw_rounds(axes, [process for each in recorded(test) for process in each.processes])
        axes.set(title=f"{shape(test)}, device P50", xlabel="process")
    figure.axes[0].set_ylabel("difference from the mean, %")
    return figure


def _draw_rounds(axes: Axes, processes: Sequence[Process]) -> None:
    (column,) = columns(processes, (50.0,))
    means = np.array([each.mean for each in column])
    for at, each in enumerate(column, start=1):
        place = at + np.linspace(-0.3, 0.3, each.rounds.size)
        axes.plot(place, 100 * (each.rounds - means.mean()), "o", color=FAINT, ms=4)
        _draw_interval(axes, at, each.rounds - means.mean(), BLUE)
    _draw_interval(axes, len(column) + 1, means - means.mean(), RED)
    names = [str(at) for at in range(1, len(column) + 1)]
    axes.set_xticks(range(1, len(column) + 2), [*names, "all"])


def _draw_interval(axes: Axes, place: float, values: np.ndarray, color: str) -> None:
    """
    Draw the mean with Student's 95 % interval over values that are taken as independent.
    """
    half = stats.t.ppf(0.975, values.size - 1) * stats.sem(values)
    axes.errorbar(place, 100 * values.mean(), 100 * half, color=color, marker="_", ms=12, capsize=4)


def detection() -> Figure:
    """
    Return what is told of recorded processes whose times are all scaled, by the scale.

    Those of cards with ten or more: by the full plan, five against five.
    """
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    sizes = [step / 4 for step in range(21)]
    found = planned("device")
    quiet = [each for each in found if each.kernel != shape(NOISY)]
    groups = {
        "below 10 µs": [each for each in quiet if each.time_us < 10],
        "10 µs and above": [each for each in quiet if each.time_us >= 10],
        shape(NOISY): [each for each in found if each.kernel == shape(NOISY)],
    }
    for axes, (name, group) in zip(figure.subplots(1, 3, sharey=True), groups.items(), strict=True):
        shares = np.array([list(_shares(group, size)) for size in sizes]).T
        axes.stackplot(sizes, shares, colors=(RED, AMBER, "#dfe8ef"))
        axes.set(xlabel="slowdown, %", xlim=(0, 5), ylim=(0, 100))
        axes.set_title(f"{name}: {len(group)} candidates", fontsize="medium")
    figure.axes[0].set_ylabel("candidates, %")
    figure.axes[1].text(3.4, 50, "REGRESSED", ha="center", color="white")
    figure.axes[2].text(2, 70, "INCONCLUSIVE", ha="center")
    figure.axes[2].text(0.1, 92, "UNCHANGED", fontsize="x-small")
    return figure


def _shares(group: Sequence[Turn], percent: float) -> Iterator[float]:
    told = statuses(group, slower(1 + percent / 100))
    for status in ("REGRESSED", "INCONCLUSIVE", "UNCHANGED"):
        yield 100 * told[status] / len(group)


def slowed() -> Figure:
    """
    Return how many of the really slowed kernels of one card's calibration were found.
    """
    (listed,) = json.loads((FOLDER / "cards.json").read_text(encoding="utf-8"))["calibrations"]
    return detection_figure(proof_of(gather(Folder(FOLDER / listed["folder"]))))


def timers() -> Figure:
    """
    Return the distributions that each timer gives of one kernel, with the seed report's figures.
    """
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    axes = figure.subplots()
    found = {
        each.measurement.case.timer: each.measurement
        for each in read_run(FOLDER / "validation.run.gz").recorded
        if each.measurement.case.test == "test_every_timer[128-8]"
    }
    shares = np.linspace(0, 100, 201)
    for timer, color, at_us in (("device", BLUE, 2.7), ("launch", AMBER, 4.4), ("wall", RED, 45)):
        times_us = [t for p in found[timer].processes for r in p.rounds for t in r.times_us]
        axes.plot(np.percentile(times_us, shares), shares, color=color)
        axes.text(at_us, 45, timer, color=color)
    seed = json.loads((ROOT / "docs" / "data" / "seed_report.json").read_text(encoding="utf-8"))
    told = seed["times_us"]["128-8"]
    axes.plot([8 * told[q] for q in told], [float(q) for q in told], "D--", color=INK, ms=5)
    axes.text(22, 45, "seed report:\nP50, P95, P99", color=INK, va="top")
    axes.set(xscale="log", xlabel="µs per call", ylabel="samples at or below, %", xlim=(2.5, 120))
    axes.set_xticks([3, 5, 10, 20, 50, 100], ["3", "5", "10", "20", "50", "100"])
    axes.minorticks_off()
    return figure


def clock_step() -> Figure:
    """
    Return time and canary clock of every sample of the noisy shape, five rounds a process.
    """
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    processes = [each.processes[0] for each in recorded(NOISY)]
    rounds = [one for each in processes for one in each.rounds]
    ends = np.cumsum([0, *(len(each.times_us) for each in rounds)])
    for one, (start, end) in zip(rounds, pairwise(ends), strict=True):
        above.plot(range(start, end), one.times_us, color=BLUE, lw=1)
        below.plot(range(start, end), one.clock_mhz, color=RED, lw=1)
    starts = ends[:: len(rounds) // len(processes)][:-1]
    for number, start in enumerate(starts, start=1):
        above.axvline(start, color=FAINT)
        below.axvline(start, color=FAINT)
        above.text(start + 3, 25.3, f"process {number}", fontsize="small")
    above.set(ylabel="time, µs", ylim=(24.4, 25.4))
    below.set(ylabel="canary, MHz", xlabel="sample", xlim=(0, ends[-1]))
    return figure


def recorded(test: str) -> list[Measurement]:
    """
    Return the device measurements of one test by the processes of `CARD`.
    """
    (card,) = (each for each in cards() if each.uuid.startswith(CARD))
    found = [each.measurement for process in card.processes for each in process]
    return [each for each in found if (each.case.test, each.case.timer) == (test, "device")]


def shape(test: str) -> str:
    """
    Return what the documents call a shape: 512x16 for test_attention[512-16].
    """
    return test.split("[")[1].rstrip("]").replace("-", "x")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "plots")
