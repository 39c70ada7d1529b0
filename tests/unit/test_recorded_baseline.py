"""
A baseline of the attention gate, the H100 runs it was made of, and runs on four other cards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import pytest
from live import flat, to_six_digits

from pytest_kernelperf.gate import Gate
from pytest_kernelperf.model import Entry, Recorded, Reference, Status, Verdict
from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.runs import RunWriter, read_run

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "h100"
BASELINE = DATA / "baselines_ef6e74a9"
SLUG = "nvidia-h100-80gb-hbm3"
FILE = "tests/perf/test_attention.py"
NOISY = "test_attention[512-16] | device cold paced"
#: As they were recorded, one process each, a `--kernelperf-update` after each.
RUNS = ("process1", "process2", "process3", "process4", "process5")
THREES = tuple(combinations(RUNS, 3))


@lru_cache
def recorded(name: str) -> tuple[Recorded, ...]:
    """
    Return the measurements of one recorded run.
    """
    return read_run(DATA / f"{name}.run.gz").recorded


def judged(gate: Gate, name: str) -> list[Verdict]:
    """
    Return the verdicts that a gate gives on one recorded run.
    """
    return [v for one in recorded(name) for v in gate.judge(one.measurement, one.limits)]


def slowed(names: Sequence[str], factor: float) -> dict[str, Status]:
    """
    Return the statuses of device measurements, a process per run, with all times multiplied.
    """
    gate = Gate(BASELINE)
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


def test_the_baseline_judges_its_own_last_run() -> None:
    """
    As live but for one: since then this run has become a process of the baseline itself.
    """
    verdicts = judged(Gate(BASELINE), "process5")
    live = [verdict for one in recorded("process5") for verdict in one.verdicts]
    differing = [now for was, now in zip(live, verdicts, strict=True) if was.status != now.status]

    assert {Status.UNCHANGED: 35, Status.INCONCLUSIVE: 1} == Counter(v.status for v in verdicts)
    assert [(NOISY, Status.INCONCLUSIVE)] == [(v.case.key, v.status) for v in differing]


def test_every_number_of_the_records_is_the_one_told_live(tmp_path: Path) -> None:
    """
    The baseline is built again from the records, and each is judged against what it met live.

    The rule that turns numbers into verdicts has changed since the records were made: what was
    measured, and the change, are compared; not the interval, the margin and what they decide.
    """
    for name in RUNS:
        live = [verdict for one in recorded(name) for verdict in one.verdicts]
        now = judged(Gate(tmp_path), name)

        assert [measured(v) for v in live] == [to_six_digits(measured(v)) for v in now]

        _store_all(tmp_path, name)


def test_a_record_gives_the_verdicts_that_it_was_written_with(tmp_path: Path) -> None:
    """Judged, written with its verdicts, read on another machine, judged: to six digits."""
    there, here = Gate(BASELINE), Gate(BASELINE)
    for name in (*RUNS, "other_card"):
        live = [replace(one, verdicts=_judge(there, one)) for one in recorded(name)]
        writer = RunWriter(tmp_path / f"{name}.run.gz")
        for one in live:
            writer.append(one)
        writer.close()
        read = read_run(tmp_path / f"{name}.run.gz").recorded

        told = [flat(v) for one in read for v in one.verdicts]
        again = [flat(v) for one in read for v in _judge(here, one)]

        assert 36 == len(told)
        assert told == [to_six_digits(each) for each in again]


def test_the_stored_margins_are_those_of_the_stored_noise() -> None:
    """Up to what the suite's noise was when each was stored."""
    gate, entries = Gate(BASELINE), Baselines(BASELINE).load(SLUG, FILE)
    for one in recorded("process5"):
        stored = entries[one.measurement.case.key].reference.margins
        for verdict in _judge(gate, one):
            assert verdict.margin == pytest.approx(stored[verdict.percentile], abs=0.003)


def test_at_most_one_in_twenty_unchanged_verdicts_waits_for_more_processes() -> None:
    """And none regresses, nor on another card."""
    gate = Gate(BASELINE)
    statuses = Counter(v.status for name in RUNS for v in judged(gate, name))

    assert 180 == statuses.total()
    assert {Status.UNCHANGED, Status.INCONCLUSIVE} == set(statuses)
    assert statuses[Status.INCONCLUSIVE] <= 180 / 20


@pytest.mark.parametrize("name", ["other_card", "other_card_2", "other_card_3"])
def test_other_cards_runs_are_unchanged(name: str) -> None:
    """
    Recorded on cards that the baseline has never seen.
    """
    now = judged(Gate(BASELINE), name)

    assert {(Status.UNCHANGED, "OTHER_CARD"): 36} == Counter((v.status, v.reason) for v in now)


@pytest.mark.parametrize("name", ["other_card_3", "unchanged_13ab5362"])
def test_a_record_is_judged_here_as_it_was_live_on_the_card(name: str) -> None:
    """
    Every field of every verdict, numbers to six digits: one process, and ten.

    But for what is told to be detectable, which the rule since says otherwise.
    """
    live = [verdict for one in recorded(name) for verdict in one.verdicts]
    now = judged(Gate(BASELINE), name)

    assert [_settled(v) for v in live] == [to_six_digits(_settled(v)) for v in now]


def _settled(verdict: Verdict) -> dict[str, object]:
    return {key: value for key, value in flat(verdict).items() if key != "detectable"}


def _judge(gate: Gate, one: Recorded) -> tuple[Verdict, ...]:
    return gate.judge(one.measurement, one.limits)


def _store_all(root: Path, name: str) -> None:
    """
    Add a run's processes to the baselines by what was said live, whatever would be said today.
    """
    entries = dict(Baselines(root).load(SLUG, FILE))
    for one in recorded(name):
        found = one.measurement
        if any(verdict.status is Status.INCONCLUSIVE for verdict in one.verdicts):
            continue
        before = entries[found.case.key].reference.processes if found.case.key in entries else ()
        reference = Reference(
            found.plan, found.method, found.case.inputs, (*before, *found.processes)
        )
        entries[found.case.key] = Entry(reference, reference)
    Baselines(root).write(SLUG, FILE, entries)


#: What the rule decides, and what it decides by.
_RULE = {"status", "reason", "sentence", "margin", "detectable"}


def measured(verdict: Verdict) -> dict[str, object]:
    """
    Return what a verdict tells of the measurement, without what the rule makes of it.
    """
    return {
        key: value
        for key, value in flat(verdict).items()
        if key not in _RULE and not key.startswith("change_interval")
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
