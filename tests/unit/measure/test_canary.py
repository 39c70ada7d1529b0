"""
Samples are dropped on the canaries' evidence, never by value.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kernelperf.measure.canary import (
    BLOCKER_TIMEOUT,
    CLOCK_FELL,
    LATE_ENQUEUE,
    Shot,
    clock_fell,
    mhz_of,
    overhead_of,
    sift,
)
from pytest_kernelperf.model import Discard

USUAL = Shot(10.0, 1980.0, 1980.0, slack_us=1.0)
#: Clock down by 10 %, time up by 11 %: a compute-bound kernel under the power cap.
CAPPED = Shot(11.11, 1782.0, 1782.0, slack_us=1.0)


def test_the_clock_is_cycles_over_time_without_the_overhead():
    assert mhz_of(50_000, 26.75, 1.5) == pytest.approx(1980.2, abs=0.1)


def test_the_overhead_is_what_does_not_grow_with_the_length():
    """
    Worked example: at 2000 MHz, 10 000 cycles are 5 µs, 50 000 are 25 µs; both carry 1.5 µs more.
    """
    assert overhead_of((10_000, 6.5), (50_000, 26.5)) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("short_us", "long_us"),
    [(6.5, 6.5), (26.5, 6.5), (4.0, 26.5)],
    ids=["no growth", "shrinks", "negative overhead"],
)
def test_lengths_that_make_no_sense_give_no_overhead(short_us, long_us):
    assert overhead_of((10_000, short_us), (50_000, long_us)) == 0.0


def test_a_sample_that_slowed_with_its_clock_is_dropped_with_the_evidence():
    kept, dropped = sift([USUAL] * 9 + [CAPPED])

    assert [USUAL] * 9 == kept
    assert [Discard(CLOCK_FELL, 11.11, 1782.0)] == dropped


@pytest.mark.parametrize(
    "shot",
    [
        replace(CAPPED, time_us=10.0),
        replace(CAPPED, time_us=10.5),
        replace(CAPPED, before_mhz=1980.0),
        replace(CAPPED, before_mhz=1850.0, after_mhz=1782.0),
        replace(USUAL, time_us=30.0),
        Shot(11.11, 1940.0, 1940.0),
        Shot(11.11, None, None),
    ],
    ids=[
        "memory-bound: time does not follow",
        "time follows by less than half",
        "only one canary fell",
        "canaries disagree",
        "slow at the usual clock",
        "clock fell by 2 % only",
        "no canary",
    ],
)
def test_a_sample_without_full_evidence_is_kept(shot):
    kept, dropped = sift([USUAL] * 9 + [shot])

    assert shot in kept
    assert [] == dropped


def test_a_half_followed_clock_is_enough():
    """
    Slowed by 11.1 %, time by 5.6 %: at slope one half the sample goes.
    """
    assert clock_fell(replace(CAPPED, time_us=10.56), 1980.0, 10.0)


def test_a_late_release_is_dropped_whatever_the_time():
    late = replace(USUAL, time_us=9.0, slack_us=-1.9e6)

    assert ([USUAL], [Discard(BLOCKER_TIMEOUT, 9.0, 1980.0)]) == sift([USUAL, late])
    assert LATE_ENQUEUE == sift([late], LATE_ENQUEUE)[1][0].reason


def test_a_late_sample_does_not_decide_what_is_usual():
    late = replace(CAPPED, slack_us=-1.0)

    assert [USUAL] == sift([USUAL, *[late] * 20])[0]


def test_where_the_clock_stays_low_for_most_of_a_round_most_is_dropped_but_not_all():
    kept, dropped = sift([USUAL] * 6 + [CAPPED] * 14)

    assert ([USUAL] * 6, 14) == (kept, len(dropped))


def test_a_round_at_one_low_clock_is_kept():
    assert [CAPPED] * 20 == sift([CAPPED] * 20)[0]


@given(
    st.lists(
        st.builds(
            Shot,
            time_us=st.floats(1.0, 100.0),
            before_mhz=st.floats(300.0, 2000.0),
            after_mhz=st.floats(300.0, 2000.0),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_a_quarter_of_a_round_is_never_dropped(shots):
    kept, dropped = sift(shots)

    assert len(shots) == len(kept) + len(dropped)
    assert 4 * len(kept) >= len(shots)


@given(st.lists(st.floats(0.1, 1000.0), min_size=1, max_size=40))
def test_no_value_alone_is_ever_dropped(times_us):
    """
    Whatever the times: at one clock, all stay.
    """
    shots = [Shot(time_us, 1980.0, 1975.0, slack_us=0.5) for time_us in times_us]

    assert (shots, []) == sift(shots)
