"""
A run's own processes are never foreign, and nobody is accused on a number that means nothing here.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pytest_kernelperf.measure import neighbours
from pytest_kernelperf.measure.neighbours import (
    FAMILY,
    TURN,
    Neighbours,
    begin_turn,
    end_turns,
    turn_age_s,
)

#: No processes of this machine: above the largest number that Linux gives.
STRANGER, ANOTHER = 2**23, 2**23 + 1


@pytest.mark.parametrize(
    ("pids", "family", "foreign"),
    [
        ([], "", 0),
        ([STRANGER], "", 0),
        ([STRANGER, ANOTHER], "", 1),
        ([STRANGER, STRANGER], "", 0),
        ([STRANGER, ANOTHER], "5,6", 0),
        ([STRANGER, ANOTHER], "5, not a number", 0),
    ],
    ids=["nobody", "us by another number", "us and one", "one twice", "us three", "odd names"],
)
def test_in_a_container_as_many_as_we_may_be_are_not_foreign(monkeypatch, pids, family, foreign):
    monkeypatch.setenv(FAMILY, family)

    assert foreign == Neighbours.around(pids).count()


@pytest.mark.parametrize(
    ("pids", "family", "foreign"),
    [
        ([], "", 0),
        ([STRANGER], "", 1),
        ([STRANGER, ANOTHER], "", 2),
        ([STRANGER, ANOTHER], f"{STRANGER}", 1),
    ],
    ids=["nobody", "one", "two", "one of two is named"],
)
def test_where_our_own_number_is_seen_all_others_are_known(monkeypatch, pids, family, foreign):
    monkeypatch.setenv(FAMILY, family)

    assert foreign == Neighbours.around([os.getpid(), *pids]).count()


def test_children_belong_to_the_family_and_parents_do_not(monkeypatch):
    monkeypatch.delenv(FAMILY, raising=False)
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True
    ) as child:
        found = Neighbours.around([os.getpid(), child.pid, os.getppid()])
        child.communicate("\n")

    assert {os.getppid()} == found.strangers


def test_only_those_that_compute_count_where_that_is_known(monkeypatch):
    monkeypatch.delenv(FAMILY, raising=False)
    seen = Neighbours.around([os.getpid(), STRANGER, ANOTHER])
    unnamed = Neighbours.around([STRANGER, ANOTHER])

    assert (1, 0) == (seen.count({ANOTHER}), seen.count(()))
    # One of the two is us, and nobody knows which.
    assert (1, 0) == (unnamed.count({STRANGER, ANOTHER}), unnamed.count({STRANGER}))


def test_of_a_family_under_numbers_that_mean_nothing_one_computes_and_the_rest_are_foreign(
    monkeypatch,
):
    """
    Six processes of a run hold contexts; a stranger that computes must not pass for a seventh.
    """
    monkeypatch.setenv(FAMILY, "1,2,3,4,5,6")
    waiting = [STRANGER + number for number in range(2, 7)]
    seen = Neighbours.around([STRANGER, ANOTHER, *waiting])

    assert (1, 0) == (seen.count({STRANGER, ANOTHER}), seen.count({ANOTHER}))


@pytest.mark.parametrize(
    ("pids", "is_alone"),
    [
        ([], True),
        ([STRANGER], True),
        ([STRANGER, ANOTHER], False),
        ([os.getpid()], True),
        ([os.getpid(), STRANGER], False),
    ],
    ids=["nobody", "us by another number", "us and one", "us", "us and a stranger"],
)
def test_a_process_is_alone_where_nobody_else_can_be(monkeypatch, pids, is_alone):
    monkeypatch.setenv(FAMILY, "5,6")

    assert is_alone is Neighbours.around(pids).is_alone


def test_a_turn_begins_when_its_family_is_named_and_ends_with_it(monkeypatch):
    now_s = iter([100.0, 101.5])
    clock = SimpleNamespace(monotonic=lambda: next(now_s))
    monkeypatch.setattr(neighbours, "time", clock)
    for name in (FAMILY, TURN):
        monkeypatch.setenv(name, "")

    before_s = turn_age_s()
    begin_turn((5, 6))
    family, age_s = os.environ[FAMILY], turn_age_s()
    end_turns()

    assert (math.inf, "5,6", 1.5) == (before_s, family, age_s)
    assert {FAMILY, TURN}.isdisjoint(os.environ)
