"""
What a kernel takes depends on what its process and the card did before, as two cards' records show.

On each, five processes that took turns test by test recorded a baseline; later runs went through
the tests in one process.
"""

from __future__ import annotations

import numpy as np
import pytest
from test_recorded_coverage import AT_ONCE, RECORDED

from pytest_kernelperf.model import Process, Round

CARDS = pytest.mark.parametrize("card", RECORDED, ids=lambda card: card.uuid[:12])
#: On GPU-2b382370, the run that had started fresh processes before it came to 128x32.
DISTURBED = {"GPU-2b382370": 4}


def groups(card, shape: str) -> tuple[list[Process], list[Process]]:
    """
    Return the processes of one shape: those that took turns, and those of plain runs.
    """
    found = [
        one.measurement.processes[0]
        for measured in card.processes
        for one in measured
        if one.measurement.case.test.endswith(f"[{shape}]")
    ]
    size = AT_ONCE[card.uuid[:12]]
    return found[:size], found[size:]


def level(process: Process) -> float:
    """
    Return the log of the mean of its rounds' medians.
    """
    return float(np.mean([np.log(np.median(one.times_us)) for one in process.rounds]))


def clock_mhz(one: Round) -> float:
    return float(np.median(one.clock_mhz))


def start(process: Process) -> tuple[float, float]:
    """
    Return how much longer the first round took than the rest, and its clock's distance in MHz.
    """
    logs = [np.log(np.median(one.times_us)) for one in process.rounds]
    clocks = [clock_mhz(one) for one in process.rounds]
    return float(logs[0] - np.mean(logs[1:])), float(clocks[0] - np.mean(clocks[1:]))


@CARDS
def test_processes_that_take_turns_agree_with_each_other_and_not_with_later_runs(card) -> None:
    """
    0.14 and 0.08 % among themselves, 0.23 and 0.17 % among runs, 0.52 and 0.36 % between the two.
    """
    in_turns, plain = groups(card, "128-32")
    off = DISTURBED.get(card.uuid[:12])
    runs = [level(one) for number, one in enumerate(plain) if number != off]
    turns = [level(one) for one in in_turns]

    assert np.ptp(turns) < 0.0015
    assert np.ptp(runs) < 0.0025
    assert np.mean(runs) - np.mean(turns) > 0.0035
    # Slower at a clock that is no lower.
    clocks = [
        [clock_mhz(one) for each in part for one in each.rounds] for part in (in_turns, plain)
    ]
    assert np.mean(clocks[1]) > np.mean(clocks[0])


@pytest.mark.parametrize(("uuid", "off"), DISTURBED.items())
def test_a_run_that_had_started_processes_lies_with_those_that_took_turns(uuid, off) -> None:
    (card,) = [each for each in RECORDED if each.uuid.startswith(uuid)]
    in_turns, plain = groups(card, "128-32")

    assert abs(level(plain[off]) - np.mean([level(one) for one in in_turns])) < 0.0025


@CARDS
def test_a_process_that_paused_begins_at_a_lower_clock_and_slower(card) -> None:
    """
    256x8 is the fourth test: who takes turns has paused before it, a plain run has not.
    """
    in_turns, plain = groups(card, "256-8")
    slower, lower_mhz = np.mean([start(one) for one in in_turns], axis=0)
    plain_slower, plain_lower_mhz = np.mean([start(one) for one in plain], axis=0)

    assert slower > 0.003
    assert lower_mhz < -15
    assert abs(plain_slower) < 0.001
    assert abs(plain_lower_mhz) < 12
