"""
The one percentile estimator: worked examples, slow twins, properties.
"""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import a_process, a_round, environment, slowed

from pytest_kernelperf.analysis.percentiles import (
    _LOGS,
    find_tick_us,
    percentile_of,
    percentile_us,
    round_logs,
)
from pytest_kernelperf.model import Process

TICK = 0.032
times = st.lists(st.floats(1.0, 100.0), min_size=1, max_size=40)
ticks = st.lists(st.integers(90, 130), min_size=1, max_size=40)
percentiles = st.floats(0.0, 100.0)


def slow_percentile(samples: list[float], q: float) -> float:
    """
    Hyndman & Fan's definition 2, from its definition: the middle of all x that split the samples.
    """
    ordered = sorted(samples)
    count = round(q * len(ordered) / 100, 9)
    fits = [
        x
        for x in ordered
        if sum(y <= x for y in ordered) >= count and sum(y < x for y in ordered) <= count
    ]
    return (fits[0] + fits[-1]) / 2


def slow_spread_percentile(samples: list[float], q: float, tick: float) -> float:
    """
    The spread-out distribution function, searched by halving.
    """

    def below(x: float) -> float:
        return sum(min(max((x - y) / (2 * tick) + 0.5, 0), 1) for y in samples)

    def first(enough: float) -> float:
        low, high = min(samples) - 2 * tick, max(samples) + 2 * tick
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (low, middle) if below(middle) >= enough else (middle, high)
        return high

    count = q * len(samples) / 100
    middle = (first(count - 1e-7) + first(count + 1e-7)) / 2
    return min(max(middle, min(samples)), max(samples))


def read_on_clock(duration_us: float, count: int, seed: int = 0) -> np.ndarray:
    """
    A constant duration, read at a random phase of a clock with steps.
    """
    phase = np.random.default_rng(seed).uniform(0, TICK, count)
    return np.floor((duration_us + phase) / TICK) * TICK


@pytest.mark.parametrize(
    ("samples", "q", "expected"),
    [
        ([3.0], 99, 3.0),
        ([1.0, 2.0, 3.0], 50, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 50, 2.5),
        (list(range(1, 21)), 95, 19.5),
        (list(range(1, 101)), 7, 7.5),
        (list(range(1, 101)), 99.9, 100.0),
        ([1.0, 2.0], 0, 1.0),
        ([1.0, 2.0], 100, 2.0),
    ],
)
def test_worked_examples(samples: list[float], q: float, expected: float) -> None:
    """By hand; 0.07 * 100 is above 7 in binary and must count as 7."""
    assert expected == percentile_of(np.array(samples, dtype=float), q)


@given(times, percentiles)
def test_without_ticks_it_is_the_textbook_definition(samples: list[float], q: float) -> None:
    actual = percentile_of(np.sort(samples), q)

    assert slow_percentile(samples, q) == pytest.approx(actual)


@given(ticks, st.floats(1.0, 99.0))
def test_with_ticks_it_solves_the_spread_out_distribution(counts: list[int], q: float) -> None:
    samples = [n * TICK for n in counts]

    actual = percentile_of(np.sort(samples), q, TICK)

    assert slow_spread_percentile(samples, q, TICK) == pytest.approx(actual, abs=1e-6)


@given(times, percentiles, st.data())
def test_a_slower_sample_never_lowers_it(
    samples: list[float], q: float, data: st.DataObject
) -> None:
    extra = data.draw(st.lists(st.floats(0.0, 5.0), min_size=len(samples), max_size=len(samples)))
    slower = np.sort(np.array(samples) + extra)

    assert percentile_of(slower, q) >= percentile_of(np.sort(samples), q)


@given(ticks, percentiles, st.data())
def test_a_slower_sample_never_lowers_it_on_a_clock_with_steps(
    counts: list[int], q: float, data: st.DataObject
) -> None:
    extra = data.draw(st.lists(st.integers(0, 3), min_size=len(counts), max_size=len(counts)))
    before = np.sort(np.array(counts) * TICK)
    after = np.sort((np.array(counts) + extra) * TICK)

    assert percentile_of(after, q, TICK) >= percentile_of(before, q, TICK) - 1e-9


@given(st.permutations([3.0, 3.032, 3.032, 3.064, 3.064, 3.064, 3.096, 3.2]))
def test_the_order_of_samples_in_a_round_changes_nothing(samples: list[float]) -> None:
    process = Process("p", "", environment(), (a_round(samples),))

    # At 3.0576, by hand: 1 + 2 * 0.9 + 3 * 0.4 of the 8 lie below.
    assert percentile_us([process], 50) == pytest.approx(3.0576, abs=1e-12)


@given(times, st.floats(0.1, 10.0))
def test_scaling_the_samples_scales_it(samples: list[float], factor: float) -> None:
    process = Process("p", "", environment(), (a_round(samples),))

    expected = factor * percentile_us([process], 50)

    assert expected == pytest.approx(percentile_us([slowed(process, factor)], 50), rel=1e-9)


@pytest.mark.parametrize("slower", [0.0, 0.0025, 0.005, 0.01])
def test_a_fraction_of_a_tick_is_seen_in_the_median(slower: float) -> None:
    """One percent of a 3.1 µs kernel is one step of the H100's clock; a quarter of it is seen."""
    duration = 3.1 * (1 + slower)
    samples = read_on_clock(duration, 4000)

    process = Process("p", "", environment(), (a_round(samples),))

    assert duration == pytest.approx(percentile_us([process], 50), rel=0.0008)


def test_a_plain_median_would_not_see_it() -> None:
    """The reason for the tick: the ordinary median of both is the same step."""
    first, second = (read_on_clock(3.1 * (1 + x), 4001) for x in (0.0, 0.002))

    assert np.median(first) == np.median(second)


@pytest.mark.parametrize(
    ("samples", "tick"),
    [
        ([3.008, 3.04, 3.04, 3.072, 3.072, 3.072, 3.008], 0.032),
        ([3.008, 3.008, 3.04, 3.04, 3.041], 0.032),  # one odd reading is not a step
        ([3.0, 3.1, 3.2, 3.3], 0.0),  # continuous
        ([3.0, 3.0, 3.0, 3.0], 0.0),  # no step seen
        ([3.0, 3.0, 3.0, 5.0, 5.0], 0.0),  # two modes
        ([3.0, 3.0, 3.00003, 3.00003], 0.0),  # rounding
        ([3.0, 3.0], 0.0),  # too few
    ],
)
def test_the_tick_is_found_in_the_data(samples: list[float], tick: float) -> None:
    assert tick == pytest.approx(find_tick_us(samples))


def test_processes_and_rounds_count_alike_whatever_their_number_of_samples() -> None:
    """Geometric means: rounds of 4 and 9 give 6, processes of 6 and 24 give 12."""
    first = Process("a", "", environment(), (a_round([4.0] * 3), a_round([9.0] * 30)))
    second = Process("b", "", environment(), (a_round([24.0]),))

    assert percentile_us([first, second], 50) == pytest.approx(12.0)


def test_rounds_and_processes_without_samples_are_left_out() -> None:
    empty = Process("a", "", environment(), (a_round([]),))
    half = Process("b", "", environment(), (a_round([]), a_round([5.0])))

    assert (0, 1) == round_logs(empty, (50.0,)).shape
    assert percentile_us([empty, half], 50) == pytest.approx(5.0)


def test_no_sample_at_all_is_an_error_that_says_where_to_look() -> None:
    empty = Process("a", "", environment(), (a_round([]),))

    with pytest.raises(ValueError, match=r"P99 of no samples: expected .* got none; look at"):
        percentile_us([empty], 99)


def test_a_time_that_the_clock_read_as_nothing_breaks_nothing() -> None:
    process = Process("a", "", environment(), (a_round([0.0] * 6),))

    assert percentile_us([process], 50) == pytest.approx(1e-6)


def test_the_made_up_process_has_the_level_it_was_asked_for() -> None:
    """The other files' tests rest on it."""
    assert percentile_us([a_process(20.0)], 50) == pytest.approx(20.0)


def test_a_process_is_worked_out_once_and_nobody_can_change_it() -> None:
    process = a_process(20.0)
    logs = round_logs(process, (50.0, 99.0))

    assert round_logs(process, [50.0, 99.0]) is logs
    assert round_logs(process, (99.0, 50.0)).tolist() == logs[:, ::-1].tolist()
    with pytest.raises(ValueError, match="read-only"):
        logs += 1.0


def test_what_was_worked_out_is_of_that_very_process_and_goes_with_it() -> None:
    """
    Not of an equal one, nor of one that gets its place in memory.
    """
    gc.collect()
    known = len(_LOGS._found)
    for level_us in (10.0, 20.0, 40.0, 80.0):
        process = a_process(level_us, round_sd=0.0)
        assert np.exp(round_logs(process, (50.0,))).mean() == pytest.approx(level_us)
    assert len(_LOGS._found) == known + 1
    del process

    gc.collect()
    assert len(_LOGS._found) == known
