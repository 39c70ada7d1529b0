"""
How often an unchanged kernel's shown interval holds no change: against one run, and against runs.

On these cards five processes of one pytest were recorded first, and then one of each of nine and
more pytests. `test_recorded_reality.py` mixes them, which no user does.
"""

from __future__ import annotations

import pytest
from reality import Measured, against, cards, last_look

from pytest_kernelperf.model import Status, Verdict

#: How many processes the recording run had, by the first part of the card's UUID.
AT_ONCE = {"GPU-2b382370": 5, "GPU-c145c352": 5}
RECORDED = [card for card in cards() if card.uuid[:12] in AT_ONCE]


def in_turn(runs: tuple[Measured, ...], start: int, count: int) -> list[Measured]:
    return [runs[(start + step) % len(runs)] for step in range(min(count, len(runs) - 1))]


def told(baseline: list[Measured], line: list[Measured]) -> list[Verdict]:
    return [last_look(turn)[50.0] for turn in against(baseline, [line])]


def held(verdicts: list[Verdict]) -> float:
    """Return the share of the intervals that hold no change; all must be UNCHANGED."""
    assert {Status.UNCHANGED} == {each.status for each in verdicts}
    hits = sum(v.change_interval.low <= 0 <= v.change_interval.high for v in verdicts)
    return hits / len(verdicts)


@pytest.mark.parametrize("card", RECORDED, ids=lambda card: card.uuid[:12])
def test_runs_hold_no_change_against_other_runs_as_often_as_it_says(card) -> None:
    """
    77 of 81 on GPU-2b382370, 93 of 99 on GPU-c145c352; 92 to 98 % are asked.
    """
    runs = card.processes[AT_ONCE[card.uuid[:12]] :]
    verdicts = [
        verdict
        for start in range(len(runs))
        for verdict in told(in_turn(runs, start, 5), in_turn(runs, start + 5, len(runs) - 5))
    ]

    assert held(verdicts) >= 0.92


@pytest.mark.parametrize("card", RECORDED, ids=lambda card: card.uuid[:12])
def test_runs_hold_no_change_against_one_runs_processes_less_often(card) -> None:
    """
    NOT AS ASKED: 62 of 81 on GPU-2b382370, 64 of 99 on GPU-c145c352.

    No false alarm: the margin allows for it.
    """
    size = AT_ONCE[card.uuid[:12]]
    recorded, runs = card.processes[:size], card.processes[size:]
    verdicts = [
        verdict
        for start in range(len(runs))
        for verdict in told(list(recorded), in_turn(runs, start, 5))
    ]

    assert held(verdicts) >= 0.6
