"""
Times the same kernels by every method: which one tells the truth about single launches?

    python benchmarks/timer_crosscheck.py --out crosscheck.json        # an H100, about 20 s

Two spins and the mean of a long graph are the yardsticks: a method for single launches is true if
the second spin reads longer by exactly its extra cycles, if its P50 is the graph's, and if its
tail is the kernel's own. The spins' difference, not a spin: a kernel's start and end take time
too, and no clock cycle of theirs is known. Warm L2, one input set, paced.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_kernelperf.measure import Job, Subject, measure
from pytest_kernelperf.measure.card import Card, card_for, rest
from pytest_kernelperf.measure.graph import capture
from pytest_kernelperf.model import Case

PERCENTILES = (50, 95, 99)
SPIN_CYCLES = 20_000
SPIN, DOUBLE_SPIN = "spin 20 000 cycles", "spin 40 000 cycles"
BURST, BURSTS, GAP_US = 100, 10, 2000.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    arguments.add_argument("--out", type=Path, help="JSON file for the results")
    options = arguments.parse_args()
    card = card_for(torch.cuda.current_device())
    results = {name: crosscheck(card, subject) for name, subject in subjects()}
    card.wake()
    shots = [card.shoot(lambda: None, 1, flush=False) for _ in range(9)]
    known_us = SPIN_CYCLES / statistics.median(shot.after_mhz for shot in shots)
    report = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "spin_difference_us": round(known_us, 3),
        "results": results,
    }
    print(table(report))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def subjects() -> Iterator[tuple[str, Subject]]:
    """
    Yield the kernels: one of known length, one of memory, one of arithmetic, one call of two nodes.
    """
    half = {"device": "cuda", "dtype": torch.float16}

    def spin(x: Any) -> Any:
        torch.cuda._sleep(SPIN_CYCLES)
        return x

    def double_spin(x: Any) -> Any:
        torch.cuda._sleep(2 * SPIN_CYCLES)
        return x

    yield SPIN, Subject(spin, (torch.zeros(8, **half),))
    yield DOUBLE_SPIN, Subject(double_spin, (torch.zeros(8, **half),))
    yield "add 2 MB", Subject(lambda x: x + 1, (torch.randn(512, 1024, **half),))
    square = torch.randn(1024, 1024, **half)
    yield "matmul 1024", Subject(torch.mm, (square, square.clone()))
    q, k, v = (torch.randn(16, 8, 256, 64, **half) for _ in range(3))
    yield "SDPA 256x16", Subject(torch.nn.functional.scaled_dot_product_attention, (q, k, v))


def crosscheck(card: Card, subject: Subject) -> dict[str, dict[str, float]]:
    """
    Return P50, P95 and P99 by method, microseconds.
    """
    for _ in range(5):
        subject.fn(*subject.args)
    return {
        "graph (means)": percentiles(by_timer(subject, "device")),
        "cupti": percentiles(by_timer(subject, "launch")),
        "event pairs": percentiles(event_pairs(card, subject)),
        "event nodes": percentiles(event_nodes(card, subject)),
        "wall": percentiles(by_timer(subject, "wall")),
    }


def by_timer(subject: Subject, timer: str) -> list[float]:
    """
    Measure with one of the plugin's own timers; the method must be its best, not a fallback.
    """
    best = {"device": "graph", "launch": "cupti", "wall": "event-sync"}[timer]
    job = Job(Case("", "", "", timer, "warm", "paced"), rounds=2, tail=True)
    _, (found,) = measure(subject, [job])
    if found.problem or found.method != best:
        raise SystemExit(
            f"{timer}: expected {best}, got {found.method} {found.problem or found.notes}"
        )
    return [time_us for one in found.processes[0].rounds for time_us in one.times_us]


def event_pairs(card: Card, subject: Subject) -> list[float]:
    """
    Time launches by an event before and after each, enqueued behind the blocker.
    """
    marks = pairs(external=False)

    def run() -> None:
        for begin, end in marks:
            begin.record()
            subject.fn(*subject.args)
            end.record()

    run()
    return bursts(card, run, marks)


def event_nodes(card: Card, subject: Subject) -> list[float]:
    """
    Time launches by event nodes captured around each call of a graph.
    """
    marks = pairs(external=True)

    def call(index: int) -> Any:
        begin, end = marks[index]
        begin.record()
        output = subject.fn(*subject.args)
        end.record()
        return output

    captured = capture(call, BURST)
    captured.run()
    return bursts(card, captured.run, marks)


def pairs(*, external: bool) -> list[tuple[Any, Any]]:
    """
    Return a pair of events for each launch of a burst.
    """

    def mark() -> Any:
        return torch.cuda.Event(enable_timing=True, external=external)

    return [(mark(), mark()) for _ in range(BURST)]


def bursts(card: Card, run: Callable[[], None], marks: list[tuple[Any, Any]]) -> list[float]:
    """
    Run paced, blocked bursts and read the marks, the first launch of each burst left out.
    """
    times_us: list[float] = []
    for _ in range(BURSTS):
        rest(GAP_US)
        shot = card.shoot(run, BURST, flush=False)
        assert shot.slack_us is not None
        assert shot.slack_us >= 0, "the release came before the last enqueue"
        times_us += [begin.elapsed_time(end) * 1e3 for begin, end in marks[1:]]
    return times_us


def percentiles(times_us: list[float]) -> dict[str, float]:
    """
    Return the percentiles by name.
    """
    values = np.percentile(times_us, PERCENTILES, method="inverted_cdf")
    return {f"p{q}": round(float(value), 3) for q, value in zip(PERCENTILES, values, strict=True)}


def table(report: dict[str, Any]) -> str:
    """
    Return the results as text: what each method reads beyond the yardstick, and its tail.
    """
    lines = [f"{report['device']}, torch {report['torch']}; µs"]
    heading = (
        f"{'':22}{'method':16}{'P50':>9}{'P95':>9}{'P99':>9}{'P50 - graph':>13}{'P99 / P50':>11}"
    )
    lines.append(heading)
    for name, methods in report["results"].items():
        yardstick = methods["graph (means)"]["p50"]
        for method, read in methods.items():
            excess, tail = read["p50"] - yardstick, read["p99"] / read["p50"]
            numbers = "".join(f"{read[f'p{q}']:9.3f}" for q in PERCENTILES)
            lines.append(f"{name:22}{method:16}{numbers}{excess:+13.3f}{tail:11.3f}")
            name = ""
    known_us = report["spin_difference_us"]
    lines.append(f"20 000 more cycles take {known_us} µs at the canary's clock; by method:")
    spin, double = report["results"][SPIN], report["results"][DOUBLE_SPIN]
    lines += [f"  {m:16}{double[m]['p50'] - spin[m]['p50']:9.3f}" for m in spin]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
