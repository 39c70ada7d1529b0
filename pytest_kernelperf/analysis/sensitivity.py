"""
How far a kernel's time follows the SM clock, from the samples of one run.

A compute-bound kernel slows as its clock does, a memory-bound one does not. Where the clock moved
within a run, its samples tell which; where it did not, the most that is possible is assumed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pytest_kernelperf.model import Process

# The slowest and the fastest third of the samples by clock must lie this far apart to tell.
_LEAST_SPAN = 0.025
# So far apart they lie at one clock, because canaries scatter by about 0.4 % from sample to sample.
_SCATTER = 0.01
# Neighbouring samples are alike, so standard errors are too small: three instead of two.
_ERRORS = 3.0
_LEAST_SAMPLES = 30


def most_that_time_follows(processes: Sequence[Process]) -> float:
    """
    Return an upper bound of the slope of log time against the log of the clock's period.

    Args:
        processes: With a canary's reading per sample.

    Returns:
        Between 0 (memory-bound) and 1 (compute-bound, or unknown); the largest of the processes.
    """
    slopes = [slope for each in processes if (slope := _slope(each)) is not None]
    return max(slopes) if slopes and len(slopes) == len(processes) else 1.0


def _slope(process: Process) -> float | None:
    """
    Compare the samples at the lowest clocks with those at the highest; None if they do not tell.
    """
    pairs = _samples(process)
    if len(pairs) < _LEAST_SAMPLES:
        return None
    third = len(pairs) // 3
    low, high = pairs[:third], pairs[-third:]
    span = _mean(high, 0) - _mean(low, 0)
    if span < _LEAST_SPAN:
        return None
    slower = _mean(low, 1) - _mean(high, 1)
    error = math.hypot(_error(low), _error(high))
    return min(max((slower + _ERRORS * error) / (span - _SCATTER), 0.0), 1.0)


def _samples(process: Process) -> list[tuple[float, float]]:
    """
    Return (log clock, log time) of every sample that has both, ascending by clock.
    """
    return sorted(
        (math.log(mhz), math.log(time_us))
        for taken in process.rounds
        # A launch round has one reading per burst, a stored one a single median.
        if len(taken.clock_mhz) == len(taken.times_us)
        for mhz, time_us in zip(taken.clock_mhz, taken.times_us, strict=True)
        if mhz > 0 and time_us > 0
    )


def _mean(pairs: Sequence[tuple[float, float]], part: int) -> float:
    return statistics.fmean(pair[part] for pair in pairs)


def _error(pairs: Sequence[tuple[float, float]]) -> float:
    return statistics.stdev(pair[1] for pair in pairs) / math.sqrt(len(pairs))
