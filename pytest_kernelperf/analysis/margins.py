"""
The margin: how much slower is too slow, where a test does not say so itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from scipy import special

from pytest_kernelperf.analysis.change import moderated_variance, standard_error
from pytest_kernelperf.analysis.intervals import TAIL_PROBABILITY
from pytest_kernelperf.analysis.noise import (
    CENTER,
    FAR_TAIL,
    TAIL,
    Noise,
    Prior,
    ProcessLogs,
    band,
    columns,
    time_us_of,
)
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
    ("device", CENTER): 0.015,
    ("launch", CENTER): 0.02,
    ("launch", TAIL): 0.05,
    ("launch", FAR_TAIL): 0.10,
    ("wall", CENTER): 0.05,
    ("wall", TAIL): 0.10,
    ("wall", FAR_TAIL): 0.20,
}
# Noise beyond this does not widen the margin further: the verdict is INCONCLUSIVE more often
# instead.
_CAP_CENTER = 0.05
_CAP_FLOORS = 3.0
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
            prior = noise.prior(timer, percentile, time_us_of(column))
            found[percentile] = default_margin(timer, percentile, column, prior)
    return found


def default_margin(
    timer: str,
    percentile: float,
    baseline: Sequence[ProcessLogs],
    prior: Prior,
    card_variance: float = 0.0,
) -> float:
    """
    Return 3.9 standard errors of one candidate process, within the floor and cap of its kind.

    A provisional baseline and another card have no cap: there the wide margin is what is honest.
    """
    supported = supported_margin(baseline, prior, card_variance)
    floor = floor_margin(timer, percentile)
    if len(baseline) < MIN_PROCESSES:
        return max(floor, _provisional(percentile, baseline, prior, card_variance))
    if card_variance:
        return max(floor, supported)
    return min(max(floor, supported), _cap(timer, percentile, floor))


def supported_margin(
    baseline: Sequence[ProcessLogs], prior: Prior, card_variance: float = 0.0
) -> float:
    """
    Return the smallest margin at which an unchanged kernel gets its verdict in 95 % of runs.
    """
    return _STANDARD_ERRORS * standard_error(baseline, prior, card_variance)


def floor_margin(timer: str, percentile: float) -> float:
    """
    Return the smallest default margin of a timer and percentile.
    """
    return _FLOORS.get((timer, band(percentile)), _FLOORS["wall", band(percentile)])


def provisional_margin(percentile: float) -> float:
    """
    Return the smallest margin against a baseline of fewer than `MIN_PROCESSES` processes.
    """
    return _PROVISIONAL_CENTER if band(percentile) == CENTER else _PROVISIONAL_TAIL


def _provisional(
    percentile: float, baseline: Sequence[ProcessLogs], prior: Prior, card_variance: float
) -> float:
    # Few degrees of freedom make the interval itself wider than 3.9 standard errors allow for. The
    # verdict must come out UNCHANGED all the same: an update completes no baseline without it.
    quantile = float(special.stdtrit(moderated_variance(baseline, prior).df, 1 - TAIL_PROBABILITY))
    needed = (quantile + _STANDARD_ERRORS / 2) * standard_error(baseline, prior, card_variance)
    return max(provisional_margin(percentile), needed)


def _cap(timer: str, percentile: float, floor: float) -> float:
    if timer in ("device", "launch") and band(percentile) == CENTER:
        return _CAP_CENTER
    return _CAP_FLOORS * floor
