"""
The looks: how much error each spends, and when a measurement wants more processes.
"""

from __future__ import annotations

import pytest
from measured import CASE

from pytest_kernelperf.analysis.looks import LOOKS, next_look, tail_probability, wants_more
from pytest_kernelperf.model import Status, Verdict


def verdict(status: Status, *, judged: bool = True) -> Verdict:
    return Verdict(CASE, 50.0, status, status.value, "", judged=judged)


def test_what_can_fail_a_test_spends_no_more_than_its_level() -> None:
    """The first look fails nothing; the other two add up to 2.5 % on each side."""
    assert 0.025 == tail_probability(1)
    assert 0.025 == pytest.approx(tail_probability(3) + tail_probability(5))


@pytest.mark.parametrize(("processes", "look"), [(2, 3), (4, 5), (7, 5), (0, 1)])
def test_a_number_between_two_looks_counts_as_the_later(processes: int, look: int) -> None:
    assert tail_probability(look) == tail_probability(processes)


@pytest.mark.parametrize(
    ("processes", "following"), [(0, 1), (1, 3), (2, 3), (3, 5), (4, 5), (5, 5), (8, 8)]
)
def test_the_undecided_want_the_next_look_until_the_last(processes: int, following: int) -> None:
    assert (1, 3, 5) == LOOKS
    assert following == next_look(processes)
    assert following == wants_more([verdict(Status.INCONCLUSIVE)], processes)


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.INCONCLUSIVE])
def test_whatever_is_decided_wants_no_more(status: Status) -> None:
    assert 1 == wants_more([verdict(status)], 1)


def test_one_undecided_percentile_among_passing_ones_wants_more() -> None:
    assert 3 == wants_more([verdict(Status.UNCHANGED), verdict(Status.INCONCLUSIVE)], 1)


@pytest.mark.parametrize("status", [Status.MISSED_TARGET, Status.REGRESSED, Status.INVALID])
def test_a_test_that_fails_anyway_wants_no_more(status: Status) -> None:
    assert 1 == wants_more([verdict(status), verdict(Status.INCONCLUSIVE)], 1)


def test_shown_percentiles_want_nothing() -> None:
    assert 1 == wants_more([verdict(Status.INCONCLUSIVE, judged=False)], 1)
    assert 1 == wants_more([], 1)
