"""
The baseline in this repository and the H100 runs that it was made of: the gate on real records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import pytest

from pytest_kernelperf.gate import Gate
from pytest_kernelperf.model import Recorded, Status, UpdateMode, Verdict
from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.runs import read_run

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "baselines"
SLUG = "nvidia-h100-80gb-hbm3"
FILE = "tests/perf/test_attention.py"
NOISY = "test_attention[512-16] | device cold paced"
#: As they were recorded, one process each, a `--kernelperf-update` after each.
RUNS = ("process1", "process2", "process3", "process4", "unchanged")
#: The last of them is the one that users are given to judge.
SHIPPED_RUN = ROOT / "records" / "h100-attention.json.gz"
THREES = tuple(combinations(RUNS, 3))


@lru_cache
def recorded(name: str) -> tuple[Recorded, ...]:
    """
    Return the measurements of one recorded run.
    """
    path = ROOT / "tests" / "data" / "h100" / f"{name}.run.gz"
    return read_run(SHIPPED_RUN if name == "unchanged" else path).recorded


def judged(gate: Gate, name: str) -> list[Verdict]:
    """
    Return the verdicts that a gate gives on one recorded run.
    """
    return [v for one in recorded(name) for v in gate.judge(one.measurement, one.limits)]


def slowed(names: Sequence[str], factor: float) -> dict[str, Status]:
    """
    Return the statuses of device measurements, a process per run, with all times multiplied.
    """
    gate = Gate(SHIPPED)
    found = {}
    for ones in zip(*map(recorded, names), strict=True):
        first = ones[0]
        if first.measurement.case.timer == "device":
            scaled = [_times_scaled(one, factor) for one in ones]
            processes = tuple(process for each in scaled for process in each.processes)
            joined = replace(first.measurement, processes=processes)
            (verdict,) = (v for v in gate.judge(joined, first.limits) if v.judged)
            found[first.measurement.case.key] = verdict.status
    return found


def _times_scaled(one: Recorded, factor: float):
    processes = tuple(
        replace(
            process,
            id=f"{process.id}x{factor}",
            rounds=tuple(
                replace(each, times_us=tuple(time * factor for time in each.times_us))
                for each in process.rounds
            ),
        )
        for process in one.measurement.processes
    )
    return replace(one.measurement, processes=processes)


def test_the_shipped_baseline_is_below_200_kb() -> None:
    assert Baselines(SHIPPED).path(SLUG, FILE).stat().st_size < 200_000


def test_another_process_as_latest_of_every_entry_still_fits(tmp_path: Path) -> None:
    """What the next `--kernelperf-update` of unchanged kernels will store."""
    entries = {
        key: replace(
            entry,
            latest=replace(
                entry.reference,
                margins={},
                processes=(replace(entry.reference.processes[0], id="f" * 32),),
            ),
        )
        for key, entry in Baselines(SHIPPED).load(SLUG, FILE).items()
    }

    assert Baselines(tmp_path).write(SLUG, FILE, entries).stat().st_size < 200_000


def test_the_shipped_baseline_is_as_the_store_writes_it(tmp_path: Path) -> None:
    """An update must not change lines of entries that it leaves alone."""
    shipped = Baselines(SHIPPED)
    written = Baselines(tmp_path).write(SLUG, FILE, shipped.load(SLUG, FILE))

    assert shipped.path(SLUG, FILE).read_bytes() == written.read_bytes()


def test_the_shipped_baseline_judges_the_unchanged_run() -> None:
    """
    As live but for one: since then this run has become a process of the baseline itself.
    """
    verdicts = judged(Gate(SHIPPED), "unchanged")
    live = [verdict for one in recorded("unchanged") for verdict in one.verdicts]
    differing = [now for was, now in zip(live, verdicts, strict=True) if was.status != now.status]

    assert {Status.UNCHANGED: 35, Status.INCONCLUSIVE: 1} == Counter(v.status for v in verdicts)
    assert [(NOISY, Status.INCONCLUSIVE)] == [(v.case.key, v.status) for v in differing]


def test_every_verdict_of_the_records_is_the_one_given_live(tmp_path: Path) -> None:
    """
    The baseline is built again from the records, and each is judged against what it met live.
    """
    for name in RUNS:
        live = [verdict for one in recorded(name) for verdict in one.verdicts]
        now = judged(Gate(tmp_path), name)

        assert [flat(v) for v in live] == [to_six_digits(flat(v)) for v in now]

        Gate(tmp_path).update(recorded(name), UpdateMode())


def test_another_cards_run_is_unchanged_as_it_was_live() -> None:
    """
    Recorded on a card that the shipped baseline has never seen.
    """
    live = [verdict for one in recorded("other_card") for verdict in one.verdicts]
    now = judged(Gate(SHIPPED), "other_card")

    assert [flat(v) for v in live] == [to_six_digits(flat(v)) for v in now]
    assert {(Status.UNCHANGED, "OTHER_CARD"): 36} == Counter((v.status, v.reason) for v in now)


def flat(verdict: Verdict) -> dict[str, object]:
    """
    Return a verdict's fields, with the ends of its intervals as fields of their own.
    """
    found = asdict(verdict)
    for name in ("interval_us", "change_interval"):
        ends = found.pop(name) or {}
        found |= {f"{name}.{end}": value for end, value in ends.items()}
    return found


def to_six_digits(fields: dict[str, object]) -> dict[str, object]:
    """
    Return the fields with numbers that equal all that agree with them to six digits.
    """
    return {
        key: pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value
        for key, value in fields.items()
    }


@pytest.mark.parametrize("names", THREES)
def test_ten_per_cent_is_regressed_in_all_nine_kernels(names: Sequence[str]) -> None:
    assert [Status.REGRESSED] * 9 == list(slowed(names, 1.10).values())


@pytest.mark.parametrize("name", RUNS)
def test_one_process_regresses_nothing(name: str) -> None:
    assert [Status.INCONCLUSIVE] * 9 == list(slowed([name], 1.10).values())


@pytest.mark.parametrize("names", THREES)
def test_three_per_cent_is_regressed_in_all_but_the_noisy_kernel(names: Sequence[str]) -> None:
    """And there too it does not pass as unchanged."""
    statuses = slowed(names, 1.03)

    assert statuses.pop(NOISY) in {Status.REGRESSED, Status.INCONCLUSIVE}
    assert [Status.REGRESSED] * 8 == list(statuses.values())


@pytest.mark.parametrize("name", RUNS)
def test_a_slowdown_of_half_a_per_cent_is_never_regressed(name: str) -> None:
    """It is below the margin of 1.5 %."""
    assert Status.REGRESSED not in slowed([name], 1.005).values()
