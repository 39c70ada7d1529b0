"""
A run's own interval for a percentile, from exact order statistics: no resampling, no assumed shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from scipy import special

from pytest_kernelperf.analysis.percentiles import Floats, ascending_us, percentile_us
from pytest_kernelperf.model import Interval, Process

#: Probability left on each side of a 95 % interval.
TAIL_PROBABILITY = 0.025


@lru_cache(maxsize=1024)
def order_statistic_ranks(count: int, percentile: float) -> tuple[int, int] | None:
    """
    Return the ranks of the samples that enclose a percentile with at least 95 % probability.

    The number of samples below the true percentile is binomial whatever the distribution is.

    Args:
        count: Number of samples.
        percentile: Between 0 and 100.

    Returns:
        Two ranks, counted from 1; None if even the extremes enclose too little (fewer than 6
        samples for P50, 72 for P95, 368 for P99).

    Source:
        Conover (1999), Practical Nonparametric Statistics, 3.2, exact binomial.
    """
    share = percentile / 100.0
    if not 0.0 < share < 1.0 or count < samples_needed(percentile):
        return None
    return _last_rank_below(count, share), count + 1 - _last_rank_below(count, 1.0 - share)


def samples_needed(percentile: float) -> int:
    """
    Return the fewest samples that `order_statistic_ranks` can work with.
    """
    share = max(percentile, 100.0 - percentile) / 100.0
    return math.ceil(math.log(TAIL_PROBABILITY) / math.log(share))


def interval_us(processes: Sequence[Process], q: float) -> Interval | None:
    """
    Return the 95 % interval of a percentile within this run.

    It says how well these samples settle the percentile. It does not cover what changes from
    process to process: comparisons with a baseline use the change interval instead.

    Args:
        processes: Their kept samples are pooled.
        q: Percentile between 0 and 100.

    Returns:
        Microseconds; it includes the estimate of `percentile_us`. None if the samples are too few.
    """
    times_us = pooled_us(processes)
    if not times_us.size:
        return None
    return enclosing_interval_us(times_us, q, percentile_us(processes, q))


def pooled_us(processes: Sequence[Process]) -> Floats:
    """
    Return all kept samples, ascending.
    """
    rounds = (each.times_us for process in processes for each in process.rounds)
    return ascending_us(chain.from_iterable(rounds))


def enclosing_interval_us(sorted_us: Floats, q: float, estimate_us: float) -> Interval | None:
    """
    Return `interval_us` of pooled samples whose percentile is known already.
    """
    ranks = order_statistic_ranks(len(sorted_us), q)
    if ranks is None:
        return None
    low_us, high_us = (float(sorted_us[rank - 1]) for rank in ranks)
    # Rounds that drifted apart can push the mean of their percentiles out of the pooled interval.
    return Interval(min(low_us, estimate_us), max(high_us, estimate_us))


def _last_rank_below(count: int, share: float) -> int:
    """
    Return the largest rank r with P(fewer than r of `count` below) <= TAIL_PROBABILITY; at least 1.
    """
    low, high = 1, count
    while low < high:
        middle = (low + high + 1) // 2
        if special.bdtr(middle - 1, count, share) <= TAIL_PROBABILITY:
            low = middle
        else:
            high = middle - 1
    return low
