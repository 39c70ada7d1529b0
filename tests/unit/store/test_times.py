"""
The text form of a round's times.
"""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kernelperf.store.times import MAX_DISTINCT, format_times, parse_times

TIMES = st.lists(
    st.floats(min_value=1e-3, max_value=1e9, allow_nan=False), min_size=1, max_size=400
)


def test_equal_times_are_counted() -> None:
    assert format_times([6.048, 6.016, 6.016, 6.08]) == "6.016*2 6.048 6.08"


def test_ticks_come_back_exactly_from_1_us_to_1_ms() -> None:
    """A tick of 32 ns must stay a tick: the percentile estimator looks at the spacing."""
    times = tuple(round(0.032 * i, 3) for i in (40, 41, 41, 312, 3124, 3125, 31_249, 31_250))

    assert parse_times(format_times(times)) == times


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
    ],
)
def test_text_that_is_none_of_the_forms_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_times(text)
