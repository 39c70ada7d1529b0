"""
The margin: how much slower is too slow, where a test does not say so itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import special

from pytest_kernelperf.analysis.change import expected_error, half_width
from pytest_kernelperf.analysis.looks import FULL_PLAN, LOOKS
from pytest_kernelperf.analysis.noise import CENTER, FAR_TAIL, TAIL, Noise, band
from pytest_kernelperf.analysis.scatter import Components, Prior, ProcessLogs, columns
from pytest_kernelperf.model import Reference

#: Fewer baseline processes than this make a verdict provisional.
MIN_PROCESSES = 3

# A conclusive verdict in 95 % of unchanged runs takes 3.9 standard errors (docs/verdicts.md): 1.96
# for the interval's half width and 1.96 for the candidate's own scatter.
_STANDARD_ERRORS = 3.9

# No default margin is smaller: slow days, hosts and addresses that no baseline has met yet.
# Single launches read one clock step (32 ns) instead of the mean of many, and wall times hold
# the host.
_FLOORS = {
    ("device", CENTER): 0.005,
    ("launch", CENTER): 0.01,
    ("launch", TAIL): 0.05,
    ("launch", FAR_TAIL): 0.10,
    ("wall", CENTER): 0.05,
    ("wall", TAIL): 0.10,
    ("wall", FAR_TAIL): 0.20,
}
# Nor this one, while all baseline processes come from one session: what other days and power states
# add is not known yet. Sessions that differ by 0.5 % (sd) would alarm in 2.6 % of unchanged runs.
_ONE_SESSION_FLOORS = {("device", CENTER): 0.010, ("launch", CENTER): 0.015}
# The slowdown that the full plan is to find. Up to there a margin is as wide as one process needs
# to come out UNCHANGED, so that few unchanged tests take a second look.
_GOALS = {
    ("device", CENTER): 0.02,
    ("launch", CENTER): 0.03,
    ("launch", TAIL): 0.10,
    ("launch", FAR_TAIL): 0.20,
    ("wall", CENTER): 0.15,
    ("wall", TAIL): 0.30,
    ("wall", FAR_TAIL): 0.60,
}
# Noise beyond this does not widen the margin further: the verdict is INCONCLUSIVE more often
# instead.
_CAP_CENTER = 0.05
_CAP_FLOORS = 3.0
# Nobody measures more processes than this to settle one verdict.
_MOST_PROCESSES = 30
# 95 % on one side.
_FOUND = 1.645
# What is promised of a slowdown holds for baselines whose noise was estimated too small, but one
# in ten: taken for the true one, it was found in 88 % of recorded candidates instead of 95.
_UPPER = 0.9
# Below MIN_PROCESSES the variance is a guess.
_PROVISIONAL_CENTER = 0.05
_PROVISIONAL_TAIL = 0.10


def margins(
    timer: str, reference: Reference, percentiles: Sequence[float], noise: Noise
) -> dict[float, float]:
    """
    Return the default margins of a baseline, for storing and showing with it.

    Args:
        timer: "device", "launch" or "wall".
        reference: With at least one kept sample.
        percentiles: Between 0 and 100.
        noise: From all baselines of the card's model.

    Returns:
        Percentile to fraction (0.015 = 1.5 %).
    """
    found = {}
    for percentile, column in zip(
        percentiles, columns(reference.processes, percentiles), strict=True
    ):
        if column:
            parts = noise.components(timer, percentile, column)
            found[percentile] = default_margin(timer, percentile, column, parts)
    return found


def default_margin(
    timer: str, percentile: float, baseline: Sequence[ProcessLogs], parts: Components
) -> float:
    """
    Return the margin that the noise supports, within the floor and cap of its kind.

    What one process supports, as long as the full plan then still finds its goal; else as much
    less as the full plan supports. A provisional baseline and another card have no cap: there the
    wide margin is what is honest, and more processes hardly help.
    """
    one_session = len({(each.card, each.session) for each in baseline}) == 1
    floor = floor_margin(timer, percentile, one_session=one_session)
    if len(baseline) < MIN_PROCESSES:
        return max(floor, _provisional(percentile, baseline, parts))
    one = _STANDARD_ERRORS * _standard_error(baseline, parts, LOOKS[0])
    if parts.card.variance:
        return max(floor, one)
    full = supported_margin(baseline, parts)
    wanted = max(floor, full, min(one, goal(timer, percentile) - full))
    return min(wanted, _cap(timer, percentile, floor))


def supported_margin(baseline: Sequence[ProcessLogs], parts: Components) -> float:
    """
    Return the smallest margin at which an unchanged kernel gets its verdict in 95 % of runs.
    """
    return _STANDARD_ERRORS * _standard_error(baseline, parts, FULL_PLAN)


def detectable_slowdown(baseline: Sequence[ProcessLogs], parts: Components, margin: float) -> float:
    """
    Return the minimum detectable slowdown: what the full plan calls REGRESSED in 95 % of runs.

    Its estimate must lie above the margin by half an interval, and does so in 95 % of runs if the
    truth lies 1.645 standard errors higher still. 0.02 = 2 %. The error is its upper limit.
    """
    known = expected_error(baseline, parts, FULL_PLAN)
    error = Prior(known.variance * _upper_factor(known.df), known.df)
    beyond = half_width(error, FULL_PLAN) + _FOUND * math.sqrt(error.variance)
    return math.expm1(math.log1p(margin) + beyond)


def _upper_factor(df: float) -> float:
    """
    Return how far above its estimate a variance may lie: its 90 % limit by the chi-squared law.
    """
    return df / (2 * float(special.gammaincinv(df / 2, 1 - _UPPER)))


def settled_by(
    change: float,
    margin: float,
    processes: int,
    baseline: Sequence[ProcessLogs],
    parts: Components,
) -> int | None:
    """
    Return how many candidate processes in all would decide a change like the one seen.

    Args:
        change: Relative change, as estimated so far.
        margin: The one it is judged by.
        processes: Candidate processes there are.
        baseline: What it is judged against.
        parts: What the baseline's scatter is made of.

    Returns:
        None if even thirty leave the interval on the margin.
    """
    distance = abs(math.log1p(change) - math.log1p(margin))
    # One after the other: where a session's few degrees of freedom come to weigh more than the
    # processes' many, the interval widens again.
    totals = range(processes + 1, _MOST_PROCESSES + 1)
    widths = ((n, half_width(expected_error(baseline, parts, n), n)) for n in totals)
    return next((n for n, width in widths if width < distance), None)


def floor_margin(timer: str, percentile: float, *, one_session: bool = False) -> float:
    """
    Return the smallest default margin of a timer and percentile.

    Args:
        timer: "device", "launch" or "wall".
        percentile: Between 0 and 100.
        one_session: Whether the baseline has met a single session only.
    """
    if one_session and (timer, band(percentile)) in _ONE_SESSION_FLOORS:
        return _ONE_SESSION_FLOORS[timer, band(percentile)]
    return _FLOORS.get((timer, band(percentile)), _FLOORS["wall", band(percentile)])


def goal(timer: str, percentile: float) -> float:
    """
    Return the slowdown that the full plan is to find, if the noise lets it.
    """
    return _GOALS.get((timer, band(percentile)), _GOALS["wall", band(percentile)])


def provisional_margin(percentile: float) -> float:
    """
    Return the smallest margin against a baseline of fewer than `MIN_PROCESSES` processes.
    """
    return _PROVISIONAL_CENTER if band(percentile) == CENTER else _PROVISIONAL_TAIL


def _provisional(percentile: float, baseline: Sequence[ProcessLogs], parts: Components) -> float:
    # Few degrees of freedom make the interval itself wider than 3.9 standard errors allow for. The
    # verdict must come out UNCHANGED all the same: an update completes no baseline without it.
    error = expected_error(baseline, parts, LOOKS[0])
    scatter = _STANDARD_ERRORS / 2 * math.sqrt(error.variance)
    return max(provisional_margin(percentile), half_width(error, LOOKS[0]) + scatter)


def _standard_error(baseline: Sequence[ProcessLogs], parts: Components, processes: int) -> float:
    return math.sqrt(expected_error(baseline, parts, processes).variance)


def _cap(timer: str, percentile: float, floor: float) -> float:
    if timer in ("device", "launch") and band(percentile) == CENTER:
        return _CAP_CENTER
    return _CAP_FLOORS * floor
