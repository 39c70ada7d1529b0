"""
What the gate said beside a process that multiplied matrices on the same H100 without a pause.

Two runs of `benchmarks/neighbour_evidence.py`, against a baseline taken on the card alone: the
first alone, the second beside the neighbour, which took the clock down by a fifth.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
from live import told

from pytest_kernelperf.gate import Gate
from pytest_kernelperf.model import Measurement, Recorded, Round, Status
from pytest_kernelperf.store.runs import read_run

FOLDER = Path(__file__).parents[1] / "data" / "h100" / "neighbour_4d43358e"
ALONE, BESIDE = "run0", "run1"
#: About what the canary reads on the card alone.
FULL_CLOCK_MHZ = 1975.0


@lru_cache
def recorded(name: str) -> tuple[Recorded, ...]:
    """
    Return the measurements of one run: negate, softmax, matmul, attention.
    """
    return read_run(FOLDER / f"{name}.run.gz").recorded


def judged(measurement: Measurement) -> Status:
    """
    Return the status of a measurement's only verdict, judged now.
    """
    (verdict,) = Gate(FOLDER / "baselines").judge(measurement, recorded(ALONE)[0].limits)
    return verdict.status


def rounds_of(name: str) -> list[Round]:
    """
    Return all rounds of all kernels of a run.
    """
    found = [process for one in recorded(name) for process in one.measurement.processes]
    return [each for process in found for each in process.rounds]


def test_alone_all_kernels_are_unchanged() -> None:
    assert [Status.UNCHANGED] * 4 == [judged(one.measurement) for one in recorded(ALONE)]


def test_beside_a_neighbour_none_is_regressed() -> None:
    statuses = [judged(one.measurement) for one in recorded(BESIDE)]

    assert [Status.UNCHANGED, *[Status.INCONCLUSIVE] * 3] == statuses


@pytest.mark.parametrize("name", [ALONE, BESIDE])
def test_the_verdicts_are_those_of_the_card(name) -> None:
    gate = Gate(FOLDER / "baselines")

    assert told(recorded(name)) == told(map(gate.judge_again, recorded(name)))


def test_the_driver_told_of_the_neighbour_in_every_round_and_alone_in_none() -> None:
    assert {0} == {each.foreign_processes for each in rounds_of(ALONE)}
    assert {1} == {each.foreign_processes for each in rounds_of(BESIDE)}


@pytest.mark.parametrize("number", range(4))
def test_beside_a_neighbour_none_is_regressed_where_no_clock_fell_either(number) -> None:
    """
    Another neighbour might take memory bandwidth instead of power: the driver still names it.
    """
    measurement = recorded(BESIDE)[number].measurement

    blind = replace(measurement, processes=tuple(_at_full_clock(p) for p in measurement.processes))

    assert Status.REGRESSED != judged(blind)


def test_it_is_the_driver_and_the_clock_that_excuse_what_was_slower() -> None:
    """
    With the word of neither, all but the one that was not slower would be called so.
    """
    beside = [one.measurement for one in recorded(BESIDE)]
    alone = [replace(m, processes=tuple(_unwarned(p) for p in m.processes)) for m in beside]

    assert [Status.UNCHANGED, *[Status.REGRESSED] * 3] == [judged(each) for each in alone]


def _unwarned(process):
    rounds = tuple(replace(each, foreign_processes=0) for each in process.rounds)
    return _at_full_clock(replace(process, rounds=rounds))


def _at_full_clock(process):
    rounds = [
        replace(each, clock_mhz=tuple(FULL_CLOCK_MHZ for _ in each.clock_mhz), throttle=())
        for each in process.rounds
    ]
    return replace(process, rounds=tuple(rounds))
