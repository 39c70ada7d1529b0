"""
The text form of a round's times.
"""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_kernelperf.store.times import MAX_DISTINCT, MIN_RISES, format_times, parse_times

TIMES = st.lists(
    st.floats(min_value=1e-3, max_value=1e9, allow_nan=False), min_size=1, max_size=400
)


def test_equal_times_are_counted() -> None:
    assert format_times([6.048, 6.016, 6.016, 6.08]) == "6.016*2 6.048 6.08"


def test_ticks_come_back_exactly_from_1_us_to_1_ms() -> None:
    """A tick of 32 ns must stay a tick: the percentile estimator looks at the spacing."""
    times = tuple(round(0.032 * i, 3) for i in (40, 41, 41, 312, 3124, 3125, 31_249, 31_250))

    assert parse_times(format_times(times)) == times


def test_many_ticks_are_stored_as_rises_in_nanoseconds_and_come_back_exactly() -> None:
    """Single launches: 32 ns ticks that the profiler's records round to a nanosecond."""
    times = tuple(round(4.96 + 0.032 * i + jitter, 3) for i in range(20) for jitter in (0, 0.001))
    text = format_times((4.96, *times))

    assert text.startswith("4.96*2 ns 1 31 1 31 ")
    assert (4.96, *times) == parse_times(text)


def test_few_distinct_times_stay_readable() -> None:
    """A device round's twenty samples are read one by one in a diff."""
    assert "ns" not in format_times([20 + 0.001 * i for i in range(MIN_RISES - 1)])


def test_fractions_of_a_nanosecond_are_not_put_into_rises() -> None:
    times = tuple(round(4.96 + 0.0001 * i, 4) for i in range(2 * MIN_RISES))

    assert times == parse_times(format_times(times))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 999_999), min_size=1, max_size=100))
def test_whole_nanoseconds_up_to_1_ms_come_back_exactly(nanoseconds: list[int]) -> None:
    times = tuple(sorted(count / 1000 for count in nanoseconds))

    assert times == parse_times(format_times(times))


def test_many_distinct_times_are_stored_as_steps() -> None:
    draw = random.Random(1)
    text = format_times([72 * draw.lognormvariate(0, 0.18) for _ in range(200)])

    assert "~ " in text
    assert len(text) < 500


def test_many_distinct_times_within_few_grid_cells_are_counted() -> None:
    draw = random.Random(1)
    text = format_times([10_000 * draw.lognormvariate(0, 0.005) for _ in range(500)])

    assert "~" not in text
    assert len(text.split()) <= MAX_DISTINCT


@settings(max_examples=300, deadline=None)
@given(TIMES)
def test_every_order_statistic_comes_back_within_five_per_ten_thousand(times: list[float]) -> None:
    """Percentiles and their order-statistic intervals interpolate between these, so they do too."""
    back = parse_times(format_times(times))

    assert len(back) == len(times)
    for expected, got in zip(sorted(times), back, strict=True):
        assert math.isclose(expected, got, rel_tol=5e-4)


@settings(max_examples=300, deadline=None)
@given(TIMES)
def test_writing_what_was_read_gives_the_same_text(times: list[float]) -> None:
    text = format_times(times)

    assert format_times(parse_times(text)) == text


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.001, 1.0), st.integers(100, 600))
@example(1, 1.0, 121)  # grid steps that could pass for whole nanoseconds
def test_writing_what_was_read_gives_the_same_text_for_wide_rounds(
    seed: int, spread: float, count: int
) -> None:
    draw = random.Random(seed)
    text = format_times([50 * draw.lognormvariate(0, spread) for _ in range(count)])

    assert format_times(parse_times(text)) == text


@pytest.mark.parametrize(
    "times", [[], [0.0], [-1.0], [math.nan], [1.0, math.nan, 2.0], [math.inf]], ids=str
)
def test_times_that_are_none_are_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        format_times(times)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a number"),
        ("6.0 fast", "'fast' is not a number"),
        ("nan", "not a positive time"),
        ("-6.0", "not a positive time"),
        ("0", "not a positive time"),
        ("6.1 6.0", "ascend"),
        ("6.0*x", "'x' is not a whole number"),
        ("6.0*0", "count out of range"),
        ("6.0*-1", "not a whole number"),
        ("6.0*999999999", "count out of range"),
        ("6.0~ 1 -1", "'-1' is not a whole number"),
        ("6.0~ 999999999", "beyond any time"),
        ("6.0  6.1", "'' is not a number"),
        ("6.0 ns -32", "'-32' is not a whole number"),
        ("6.0 ns 32*0", "count out of range"),
        ("6.0 ns 3.2", "'3.2' is not a whole number"),
        ("fast ns 32", "'fast' is not a number"),
        ("6.0 32 ns", "'ns' is not a number"),
    ],
)
def test_text_that_is_none_of_the_forms_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_times(text)
