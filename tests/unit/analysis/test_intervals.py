"""
A run's own interval: exact ranks, their coverage, and the brute-force twin.
"""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import a_round, environment

from pytest_kernelperf.analysis import interval_us
from pytest_kernelperf.analysis.intervals import order_statistic_ranks, samples_needed
from pytest_kernelperf.model import Interval, Process


def one_process(*rounds: list[float]) -> Process:
    return Process("p", "", environment(), tuple(a_round(each) for each in rounds))


def slow_ranks(count: int, share: float) -> tuple[int, int] | None:
    """
    Both ranks by summing the binomial's terms.
    """

    def at_most(k: int) -> float:
        return math.fsum(
            math.comb(count, i) * share**i * (1 - share) ** (count - i) for i in range(k + 1)
        )

    low = [r for r in range(1, count + 1) if at_most(r - 1) <= 0.025]
    high = [r for r in range(1, count + 1) if 1 - at_most(r - 1) <= 0.025]
    return (max(low), min(high)) if low and high else None


@pytest.mark.parametrize(
    ("count", "percentile", "ranks"),
    [
        (1000, 99, (983, 997)),
        (100, 50, (40, 61)),
        (5, 50, None),
        (6, 50, (1, 6)),
        (71, 95, None),
        (72, 95, (64, 72)),
        (367, 99, None),
        (368, 99, (360, 368)),
        (1000, 0, None),
        (1000, 100, None),
    ],
)
def test_ranks_of_known_cases(count: int, percentile: float, ranks: tuple[int, int] | None) -> None:
    """Conover's table for P50; the fewest counts from 0.99**368 < 0.025."""
    assert ranks == order_statistic_ranks(count, percentile)


@pytest.mark.parametrize("percentile", [25.0, 50.0, 90.0, 95.0])
@pytest.mark.parametrize("count", [3, 10, 40, 100])
def test_ranks_are_those_of_the_summed_binomial(count: int, percentile: float) -> None:
    assert slow_ranks(count, percentile / 100) == order_statistic_ranks(count, percentile)


@pytest.mark.parametrize("percentile", [50.0, 95.0, 99.0, 99.9, 1.0])
def test_the_fewest_samples_are_told_right(percentile: float) -> None:
    needed = samples_needed(percentile)

    assert order_statistic_ranks(needed, percentile) is not None
    assert order_statistic_ranks(needed - 1, percentile) is None


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """2000 rounds of skewed samples: at least 95 %, and not idly wide."""
    rng = np.random.default_rng(7)
    truth = math.exp(0.1 * 1.6448536)
    draws = np.sort(np.exp(0.1 * rng.normal(size=(2000, 400))), axis=1)
    ranks = order_statistic_ranks(400, 95.0)
    assert ranks is not None

    covered = (draws[:, ranks[0] - 1] <= truth) & (truth <= draws[:, ranks[1] - 1])

    assert 0.945 <= covered.mean() <= 0.985


def test_the_interval_is_as_wide_as_a_brute_force_bootstraps() -> None:
    """The bootstrap is the slow twin; it resamples what the ranks know exactly."""
    rng = np.random.default_rng(11)
    samples = np.exp(0.05 * rng.normal(size=500))
    boots = np.percentile(rng.choice(samples, (4000, 500)), 50, axis=1)

    interval = interval_us([one_process(list(samples))], 50)

    assert interval is not None
    assert np.percentile(boots, 2.5) == pytest.approx(interval.low, abs=0.002)
    assert np.percentile(boots, 97.5) == pytest.approx(interval.high, abs=0.002)


def test_all_rounds_and_processes_are_pooled() -> None:
    """Three samples alone are too few for anything; six are enough for the median."""
    first, second = one_process([1.0, 2.0, 3.0]), one_process([4.0], [5.0, 6.0])

    assert interval_us([first], 50) is None
    assert Interval(1.0, 6.0) == interval_us([first, second], 50)


def test_the_interval_encloses_the_estimate_even_where_rounds_drift() -> None:
    """One round of few, fast samples moves the mean of rounds, and hardly the pool."""
    interval = interval_us([one_process([1.0], [9.0] * 200)], 50)

    assert interval is not None
    assert (3.0, 9.0) == pytest.approx((interval.low, interval.high))


@given(st.lists(st.floats(1.0, 9.0), min_size=6, max_size=60), st.randoms())
def test_the_order_of_samples_changes_no_interval(samples: list[float], random: Random) -> None:
    mixed = random.sample(samples, len(samples))

    assert interval_us([one_process(samples)], 50) == interval_us([one_process(mixed)], 50)
