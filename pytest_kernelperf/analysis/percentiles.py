"""
Percentiles of samples, rounds and processes: the one estimator that everything here uses.

A round's percentile is the inverse of its distribution function, averaged where that jumps (Hyndman
& Fan 1996, definition 2), so the P50 is the ordinary median. Samples read from a clock with visible
steps get one addition: each stands for the range of one step to either side. Without it the
median of a 3 µs kernel on the H100's 32 ns clock moves by 0 % or 1 %, never by what happened in
between.
"""

from __future__ import annotations

import math
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_kernelperf.model import Process

Floats = NDArray[np.float64]
_Sorted = Sequence[float] | Floats
MEDIAN = 50.0

# Half of the samples must share a value: continuous times never do, and times on a clock with steps
# wide enough to matter always do.
_MIN_TIED_SHARE = 0.5
# Steps finer than this relative to the time are rounding, and too small to matter.
_MIN_RELATIVE_TICK = 2e-5
# A gap wider than this separates two modes of the kernel, not two readings of a clock.
_MAX_RELATIVE_TICK = 0.2
# An interval that a coarse clock reads as nothing still needs a logarithm; a picosecond will do.
_LEAST_US = 1e-6
# q * n within this of a whole number is that number (0.07 * 100 is not 7 in binary).
_COUNT_TOLERANCE = 1e-9


class _Remembered:
    """
    What was worked out of processes, each as long as it lives.

    By identity: a process holds thousands of numbers, and comparing them takes as long again.
    """

    def __init__(self) -> None:
        self._found: dict[int, tuple[weakref.ref[Process], dict[tuple[float, ...], Floats]]] = {}

    def of(self, process: Process) -> dict[tuple[float, ...], Floats]:
        """
        Return what is known of one process, to be added to.
        """
        key = id(process)
        if key not in self._found:
            # Forgotten with the process, before another one can have its id.
            gone = weakref.ref(process, lambda _: self._found.pop(key, None))
            self._found[key] = gone, {}
        return self._found[key][1]


_LOGS = _Remembered()


def ascending_us(times_us: Iterable[float]) -> Floats:
    """
    Return samples, ascending: by numpy, which sorts them faster than a list is sorted.
    """
    found = np.fromiter(times_us, np.float64)
    found.sort()
    return found


def find_tick_us(times_us: Sequence[float] | Floats) -> float:
    """
    Return the clock's step as the samples show it.

    The spacing of the values that occur at least twice; a single odd reading does not count.

    Args:
        times_us: Positive durations of one clock, microseconds, any order.

    Returns:
        Microseconds; 0.0 if fewer than half of the samples share a value, or no step is seen.
    """
    values = np.sort(np.asarray(times_us, dtype=np.float64))
    if values.size < 3:
        return 0.0
    median = float(values[values.size // 2])
    rises = np.flatnonzero(values[1:] - values[:-1] >= _MIN_RELATIVE_TICK * median) + 1
    bounds = np.concatenate(([0], rises, [values.size]))
    counts = bounds[1:] - bounds[:-1]
    is_shared = counts >= 2
    shared = values[bounds[:-1][is_shared]]
    if counts[is_shared].sum() < _MIN_TIED_SHARE * values.size or shared.size < 2:
        return 0.0
    tick = float((shared[1:] - shared[:-1]).min())
    return tick if tick <= _MAX_RELATIVE_TICK * median else 0.0


def percentile_of(sorted_us: _Sorted, percentile: float, tick_us: float = 0.0) -> float:
    """
    Return one percentile of one set of samples.

    With a tick t, a sample x counts as spread evenly over x - t to x + t. A constant time read at a
    random phase of the clock falls on two neighbouring steps in proportion, and this gives it
    back exactly. Slower samples never lower the result (for a given tick), and it stays within the
    samples' range.

    Args:
        sorted_us: At least one duration, ascending, microseconds.
        percentile: Between 0 and 100.
        tick_us: The clock's step; 0.0 where it has none that matters.

    Returns:
        Microseconds.

    Source:
        Hyndman & Fan (1996), Sample quantiles in statistical packages, definition 2.
    """
    count = percentile / 100.0 * len(sorted_us)
    if abs(count - round(count)) < _COUNT_TOLERANCE:
        count = float(round(count))
    if tick_us == 0.0:
        return _at_count(sorted_us, count)
    return _at_spread_count(sorted_us, count, tick_us)


def round_logs(process: Process, percentiles: Sequence[float]) -> Floats:
    """
    Return the natural logs of each round's percentiles.

    Args:
        process: Its rounds share one clock, so they share the tick too.
        percentiles: Between 0 and 100.

    Returns:
        Shape (rounds, percentiles), read-only; rounds without a kept sample are left out.
    """
    # A baseline's processes are asked by every verdict and every prior.
    known = _LOGS.of(process)
    asked = tuple(percentiles)
    if asked not in known:
        known[asked] = _round_logs(process, asked)
        known[asked].setflags(write=False)
    return known[asked]


def _round_logs(process: Process, percentiles: Sequence[float]) -> Floats:
    rounds = [ascending_us(each.times_us) for each in process.rounds if each.times_us]
    if not rounds:
        return np.empty((0, len(percentiles)))
    tick_us = find_tick_us(np.concatenate(rounds))
    times = [[percentile_of(each, q, tick_us) for q in percentiles] for each in rounds]
    logs: Floats = np.log(np.maximum(times, _LEAST_US))
    return logs


def gives(timer: str, percentile: float) -> bool:
    """
    Return whether a timer can give a percentile.

    A device sample is the mean of many calls, so single calls' percentiles are not in it.
    """
    return timer != "device" or percentile == MEDIAN


def percentile_us(processes: Sequence[Process], q: float) -> float:
    """
    Return a percentile over processes: what tables show and verdicts compare.

    The geometric mean over processes of the geometric mean over rounds, since noise multiplies
    times and processes, not samples, are what is independent.

    Args:
        processes: With at least one kept sample between them.
        q: Percentile between 0 and 100.

    Returns:
        Microseconds.

    Raises:
        ValueError: If no sample was kept.
    """
    means = [logs.mean() for logs in (round_logs(each, (q,)) for each in processes) if logs.size]
    if not means:
        raise ValueError(
            f"P{q:g} of no samples: expected at least one kept sample in {len(processes)} "
            "process(es), got none; look at the discarded samples' reasons"
        )
    return math.exp(float(np.mean(means)))


def _at_count(values: _Sorted, count: float) -> float:
    if count.is_integer() and 0 < count < len(values):
        return float(values[int(count) - 1] + values[int(count)]) / 2
    return float(values[min(max(math.ceil(count), 1), len(values)) - 1])


def _at_spread_count(values: _Sorted, count: float, tick: float) -> float:
    """
    Solve "so many samples lie below x" where each sample is spread over one tick to either side.
    """
    low, high = _bracket(values, count, tick)
    first = bisect_left(values, low - tick)
    steps = list(_steps(values, first, bisect_left(values, high + tick, first)))
    edges = (edge for value, _ in steps for edge in (value - tick, value + tick))
    knots = sorted({low, high, *(edge for edge in edges if low < edge < high)})
    below = [first + _spread_below(knot, steps, tick) for knot in knots]
    return min(max(_invert(knots, below, count), float(values[0])), float(values[-1]))


def _bracket(values: _Sorted, count: float, tick: float) -> tuple[float, float]:
    # The solution is within a tick of the samples next to the plain percentile, wherever the
    # others are.
    rank = min(max(math.floor(count), 1), len(values))
    following = min(rank + 1, len(values))
    return float(values[rank - 1]) - tick, float(values[following - 1]) + tick


def _steps(values: _Sorted, first: int, last: int) -> Iterator[tuple[float, int]]:
    """
    Yield the distinct values of one stretch and how often each occurs.
    """
    while first < last:
        after = bisect_right(values, values[first], first, last)
        yield float(values[first]), after - first
        first = after


def _spread_below(x: float, steps: Sequence[tuple[float, int]], tick: float) -> float:
    below = 0.0
    for value, count in steps:
        share = (x - value) / (2 * tick) + 0.5
        if share > 0.0:
            below += count * share if share < 1.0 else count
    return below


def _invert(knots: Sequence[float], below: Sequence[float], count: float) -> float:
    """
    Return where the line through (knots, below) reaches the count; the middle where it is flat.
    """
    tolerance = _COUNT_TOLERANCE * max(count, 1.0)
    reached = bisect_left(below, count - tolerance)
    if reached in (0, len(knots)):
        return knots[min(reached, len(knots) - 1)]
    passed = bisect_right(below, count + tolerance)
    if passed > reached:
        return (knots[reached] + knots[passed - 1]) / 2
    share = (count - below[reached - 1]) / (below[reached] - below[reached - 1])
    return knots[reached - 1] + share * (knots[reached] - knots[reached - 1])
