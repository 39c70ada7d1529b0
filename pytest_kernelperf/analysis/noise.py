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
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from scipy import special

from pytest_kernelperf.analysis.percentiles import gives
from pytest_kernelperf.analysis.scatter import (
    UNKNOWN,
    VARIANCE_FLOOR,
    Components,
    Prior,
    ProcessLogs,
    card_df,
    card_excess,
    columns,
    mixed,
    process_df,
    process_variance,
    session_df,
    session_excess,
    time_us_of,
)
from pytest_kernelperf.model import Reference

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


# Between two cards of one model, P50 differ by 1.2 % rms (docs/verdicts.md; launch timer); a guess
# above. Another card of the wall timer sits in another host. Ten pairs of cards or so know it.
_CARD_SD = {"device": 0.012, "launch": 0.012}
_CARD_SD_WALL = 0.05
_CARD_TAIL_FACTOR = 1.5
_CARD_DF = 10.0

_Key = tuple[str, float, int]
_Priors = tuple[tuple[_Key, Prior], ...]


@dataclass(frozen=True)
class Noise:
    """
    What one set of baselines knows of noise; a value, so that a verdict depends on nothing else.

    Each table holds ((timer, percentile, time scale), prior), sorted by key.

    Attributes:
        priors: Of a process's mean.
        sessions: Of what a session adds; only where a baseline has several.
        cards: Of what a card adds; only where a baseline has several.
    """

    priors: _Priors = ()
    sessions: _Priors = ()
    cards: _Priors = ()

    def prior(self, timer: str, percentile: float, time_us: float) -> Prior:
        """
        Return the suite's prior for a time, or the fixed one where the suite is too small.
        """
        key = (timer, percentile, time_scale(time_us))
        return dict(self.priors).get(key) or fixed_prior(timer, percentile)

    def components(
        self,
        timer: str,
        percentile: float,
        baseline: Sequence[ProcessLogs],
        *,
        other_card: bool = False,
    ) -> Components:
        """
        Return the variances of one baseline, each its own mixed with the suite's.

        Args:
            timer: "device", "launch" or "wall".
            percentile: Between 0 and 100.
            baseline: At least one process.
            other_card: Whether the candidate was measured on a card that the baseline lacks, or
                on its cards in other shares.
        """
        time_us = time_us_of(baseline)
        key = (timer, percentile, time_scale(time_us))
        own = Prior(process_variance(baseline), process_df(baseline))
        process = mixed(self.prior(timer, percentile, time_us), own)
        process = replace(process, variance=max(process.variance, VARIANCE_FLOOR))
        session = mixed(
            dict(self.sessions).get(key, UNKNOWN), session_excess(baseline, process.variance)
        )
        card = UNKNOWN
        if other_card:
            guess = mixed(fixed_card_prior(timer, percentile), dict(self.cards).get(key, UNKNOWN))
            card = mixed(guess, card_excess(baseline, process.variance, session.variance))
        return Components(process, session, card)


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
    found: dict[_Key, list[tuple[ProcessLogs, ...]]] = defaultdict(list)
    for timer, reference in references:
        given = [each for each in percentiles if gives(timer, each)]
        for percentile, column in zip(given, columns(reference.processes, given), strict=True):
            if column:
                found[timer, percentile, time_scale(time_us_of(column))].append(column)
    noise = Noise(priors=_fitted(found))
    noise = replace(noise, sessions=_excesses(found, noise, cards=False))
    return replace(noise, cards=_excesses(found, noise, cards=True))


_Found = Mapping[_Key, Sequence[Sequence[ProcessLogs]]]


def _fitted(found: _Found) -> _Priors:
    fits = {
        key: fit_prior([(process_variance(c), process_df(c)) for c in suite if process_df(c) >= 2])
        for key, suite in found.items()
    }
    return tuple(sorted((key, prior) for key, prior in fits.items() if prior is not None))


def _excesses(found: _Found, noise: Noise, *, cards: bool) -> _Priors:
    """
    Return what sessions or cards add, averaged over the suite's baselines that know.

    Their degrees of freedom do not add up over tests: all tests met the same sessions and cards.
    """
    priors = []
    for key, suite in sorted(found.items()):
        known = []
        for column in filter(card_df if cards else session_df, suite):
            parts = noise.components(key[0], key[1], column)
            if cards:
                known.append(card_excess(column, parts.process.variance, parts.session.variance))
            else:
                known.append(session_excess(column, parts.process.variance))
        if known:
            mean = sum(each.variance for each in known) / len(known)
            priors.append((key, Prior(mean, max(each.df for each in known))))
    return tuple(priors)


def fixed_card_prior(timer: str, percentile: float) -> Prior:
    """
    Return the documented variance that one card adds: half of the difference between two.
    """
    sd = _CARD_SD.get(timer, _CARD_SD_WALL)
    sd *= 1.0 if band(percentile) == CENTER else _CARD_TAIL_FACTOR
    return Prior(sd**2 / 2, _CARD_DF)


def fit_prior(samples: Sequence[tuple[float, float]]) -> Prior | None:
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
