"""
A run's own processes are never foreign, and nobody is accused on a number that means nothing here.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pytest_kernelperf.measure.neighbours import FAMILY, Neighbours

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
