"""
What is known of a timer's noise before a test's own baseline is looked at: a variance prior.

A baseline of five processes knows its own variance only to a factor of two. The other tests'
baselines of the same timer and time scale know what such variances usually are; mixing both
(empirical Bayes) keeps the false-alarm rate and finds more than either alone (docs/verdicts.md).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy import special

from pytest_kernelperf.analysis.percentiles import Floats, gives, round_logs
from pytest_kernelperf.model import Process, Reference

#: No process mean is trusted to repeat better than this: 0.02 %, the best that pacing gave.
VARIANCE_FLOOR = 0.0002**2

# Fewer tests than this can't say how variances vary from test to test.
_MIN_REFERENCES = 3
# The suite's word never weighs more than this against a baseline's own: kernels of one suite
# differ by a factor of 50 in their noise, and a few alike ones would hide the odd one out.
_MAX_PRIOR_DF = 12.0
_MIN_PRIOR_DF = 1.0

CENTER, TAIL, FAR_TAIL = "center", "tail", "far tail"

# Standard deviation of a process's mean, and the degrees of freedom it counts for, where no suite
# can be asked. Device and launch as measured (docs/verdicts.md): process .24-.47 %, round .2-.5 %
# over 5 rounds; P99 of clean bursts .5 % typically, up to 2.7 %. Wall holds the host, which moves
# by several percent.
_FIXED_SD: Mapping[tuple[str, str], float] = MappingProxyType(
    {
        ("device", CENTER): 0.004,
        ("launch", CENTER): 0.006,
        ("launch", TAIL): 0.010,
        ("launch", FAR_TAIL): 0.015,
        ("wall", CENTER): 0.03,
        ("wall", TAIL): 0.06,
        ("wall", FAR_TAIL): 0.12,
    }
)
_FIXED_DF = 4.0


@dataclass(frozen=True)
class Prior:
    """
    A scaled inverse chi-square: the variance of a process's mean log time, and its weight.
    """

    variance: float
    df: float


@dataclass(frozen=True)
class ProcessLogs:
    """
    One process's rounds, one percentile: natural logs of microseconds.
    """

    card: str
    rounds: Floats

    @property
    def mean(self) -> float:
        """
        The process's estimate.
        """
        return float(self.rounds.mean())


@dataclass(frozen=True)
class Noise:
    """
    The priors of one set of baselines; a value, so that a verdict depends on nothing else.

    Attributes:
        priors: ((timer, percentile, time scale), prior), sorted by key.
    """

    priors: tuple[tuple[tuple[str, float, int], Prior], ...] = ()

    def prior(self, timer: str, percentile: float, time_us: float) -> Prior:
        """
        Return the suite's prior for a time, or the fixed one where the suite is too small.
        """
        key = (timer, percentile, time_scale(time_us))
        return dict(self.priors).get(key) or fixed_prior(timer, percentile)


def band(percentile: float) -> str:
    """
    Return which part of the distribution a percentile belongs to: noise and margins go by it.
    """
    if percentile <= 75:
        return CENTER
    return TAIL if percentile <= 97 else FAR_TAIL


def time_scale(time_us: float) -> int:
    """
    Return 0 below 10 µs, 1 below 100 µs, 2 from there: one scale's noise has the same causes.
    """
    return int(time_us >= 10) + int(time_us >= 100)


def fixed_prior(timer: str, percentile: float) -> Prior:
    """
    Return the documented prior of a timer and percentile.
    """
    sd = _FIXED_SD.get((timer, band(percentile)), _FIXED_SD["wall", band(percentile)])
    return Prior(sd**2, _FIXED_DF)


def noise_from(
    references: Iterable[tuple[str, Reference]],
    percentiles: Sequence[float] = (50.0, 95.0, 99.0),
) -> Noise:
    """
    Learn the priors from all baselines of one card model.

    Args:
        references: Timer and reference of each baseline entry, any order.
        percentiles: For which priors are wanted; others get the fixed one.
    """
    samples: dict[tuple[str, float, int], list[tuple[float, int]]] = defaultdict(list)
    for timer, reference in references:
        given = [each for each in percentiles if gives(timer, each)]
        for percentile, column in zip(given, columns(reference.processes, given), strict=True):
            df = within_card_df(column)
            if df >= 2:
                key = (timer, percentile, time_scale(time_us_of(column)))
                samples[key].append((within_card_variance(column), df))
    fitted = {key: fit_prior(found) for key, found in samples.items()}
    return Noise(tuple(sorted((key, prior) for key, prior in fitted.items() if prior is not None)))


def columns(
    processes: Sequence[Process], percentiles: Sequence[float]
) -> tuple[tuple[ProcessLogs, ...], ...]:
    """
    Return, per percentile, every process's rounds; processes without a kept sample are left out.
    """
    logs = [(each.environment.card, round_logs(each, percentiles)) for each in processes]
    return tuple(
        tuple(ProcessLogs(card, table[:, index]) for card, table in logs if table.size)
        for index in range(len(percentiles))
    )


def time_us_of(column: Sequence[ProcessLogs]) -> float:
    """
    Return the percentile of at least one process, microseconds.
    """
    return math.exp(sum(each.mean for each in column) / len(column))


def within_card_df(column: Sequence[ProcessLogs]) -> int:
    """
    Return the degrees of freedom of `within_card_variance`.
    """
    return len(column) - len({each.card for each in column})


def within_card_variance(column: Sequence[ProcessLogs]) -> float:
    """
    Return the sample variance of process means about their card's mean; the floor if there is none.
    """
    by_card: dict[str, list[float]] = defaultdict(list)
    for each in column:
        by_card[each.card].append(each.mean)
    squares = sum(float(np.square(np.subtract(m, np.mean(m))).sum()) for m in by_card.values())
    return max(squares / max(within_card_df(column), 1), VARIANCE_FLOOR)


def fit_prior(samples: Sequence[tuple[float, int]]) -> Prior | None:
    """
    Fit the prior to several baselines' sample variances by matching moments of their logs.

    Args:
        samples: (sample variance > 0, its degrees of freedom >= 1) of each baseline.

    Returns:
        None for fewer than three baselines. Its degrees of freedom are held between 1 and 12.

    Source:
        Smyth (2004), Linear models and empirical Bayes methods ..., section 6.2 (fitFDist).
    """
    if len(samples) < _MIN_REFERENCES:
        return None
    variances, dfs = (np.array(each, dtype=np.float64) for each in zip(*samples, strict=True))
    logs = np.log(variances) - special.digamma(dfs / 2) + np.log(dfs / 2)
    excess = logs.var(ddof=1) - special.polygamma(1, dfs / 2).mean()
    df = _MAX_PRIOR_DF
    if excess > 0:
        df = min(max(2 * inverse_trigamma(float(excess)), _MIN_PRIOR_DF), _MAX_PRIOR_DF)
    variance = math.exp(float(logs.mean()) + float(special.digamma(df / 2)) - math.log(df / 2))
    return Prior(variance, df)


def inverse_trigamma(value: float) -> float:
    """
    Return y with trigamma(y) = value > 0, by Newton's method on 1 / trigamma.

    Source:
        Smyth (2004), appendix.
    """
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, y))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, y))
        y += step
        if -step / y < 1e-10:
            break
    return y
