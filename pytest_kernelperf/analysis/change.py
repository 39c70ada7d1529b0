"""
The change against a baseline and its interval: the interval that is shown and that decides.

On log time, a process's mean has a variance s² (process and rounds together). The baseline's own
estimate of s² is moderated by the suite's prior; the change of K candidate processes against B
baseline processes has the standard error sqrt(s² / K + s² / B), and Student's t with the
moderated degrees of freedom gives the interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from pytest_kernelperf.analysis.looks import tail_probability
from pytest_kernelperf.analysis.noise import (
    CENTER,
    VARIANCE_FLOOR,
    Prior,
    ProcessLogs,
    band,
    within_card_df,
    within_card_variance,
)
from pytest_kernelperf.model import Interval

# Rounds this much noisier than the baseline's are no accident.
_NOISIER_P = 0.001
# Between two cards of one model, P50 differ by 1.2 % rms (docs/verdicts.md; launch timer); a guess
# above. Another card of the wall timer sits in another host.
_CARD_SD = {"device": 0.012, "launch": 0.012}
_CARD_SD_WALL = 0.05
_CARD_TAIL_FACTOR = 1.5
# How well that figure is known: about ten pairs of cards.
_CARD_DF = 10.0


@dataclass(frozen=True)
class ChangeEstimate:
    """
    A relative change against a baseline, with the interval that decides.

    Attributes:
        relative: 0.03 = 3 % slower.
        interval: Two-sided, relative; 95 % over all looks (looks.py).
        noisier: The candidate's rounds scatter far more than the baseline's; the interval allows
            for it.
    """

    relative: float
    interval: Interval
    noisier: bool = False


def estimate_change(
    candidate: Sequence[ProcessLogs],
    baseline: Sequence[ProcessLogs],
    prior: Prior,
    card_variance: float = 0.0,
) -> ChangeEstimate:
    """
    Estimate how much slower the candidate is than the baseline.

    Args:
        candidate: At least one process with at least one round; log µs.
        baseline: Likewise.
        prior: Variance of a process's mean.
        card_variance: Variance of the difference between cards; 0.0 for the same card.
    """
    noise = moderated_variance(baseline, prior)
    noisier = is_noisier(candidate, baseline)
    own = _candidate_variance(candidate, baseline, noise.variance, noisier)
    df = min(noise.df, _round_df(candidate)) if noisier else noise.df
    within = own / len(candidate) + noise.variance / len(baseline)
    width = _half_width(within, df, card_variance, tail_probability(len(candidate)))
    change = _mean(candidate) - _mean(baseline)
    return ChangeEstimate(
        math.expm1(change),
        Interval(math.expm1(change - width), math.expm1(change + width)),
        noisier,
    )


def moderated_variance(baseline: Sequence[ProcessLogs], prior: Prior) -> Prior:
    """
    Return the variance of one process's mean after seeing the baseline.

    Prior and sample are weighted by their degrees of freedom.

    Source:
        Smyth (2004), equation for the posterior variance of a normal linear model.
    """
    df = within_card_df(baseline)
    total = prior.df + df
    variance = (prior.df * prior.variance + df * within_card_variance(baseline)) / total
    return Prior(max(variance, VARIANCE_FLOOR), total)


def card_variance(timer: str, percentile: float, baseline_cards: int) -> float:
    """
    Return the variance of the change that another card of the same model brings by itself.

    Args:
        timer: "device", "launch" or "wall".
        percentile: Between 0 and 100.
        baseline_cards: On how many cards the baseline was measured; more of them average out.
    """
    sd = _CARD_SD.get(timer, _CARD_SD_WALL)
    sd *= 1.0 if band(percentile) == CENTER else _CARD_TAIL_FACTOR
    # The measured figure is of a difference, so it holds two cards' variances: the candidate's
    # stays, the baseline's shrinks with the number of its cards.
    return sd**2 * (1 + 1 / baseline_cards) / 2


def standard_error(
    baseline: Sequence[ProcessLogs], prior: Prior, card_variance: float = 0.0
) -> float:
    """
    Return the standard error of the change of one candidate process with the baseline's plan.
    """
    variance = moderated_variance(baseline, prior).variance
    return math.sqrt(variance * (1 + 1 / len(baseline)) + card_variance)


def is_noisier(candidate: Sequence[ProcessLogs], baseline: Sequence[ProcessLogs]) -> bool:
    """
    Return whether the candidate's rounds scatter more than the baseline's, by an F test at 0.1 %.
    """
    df, base_df = _round_df(candidate), _round_df(baseline)
    if df < 1 or base_df < 1:
        return False
    ratio = _round_variance(candidate) / _round_variance(baseline)
    return bool(special.fdtrc(df, base_df, ratio) < _NOISIER_P)


def _candidate_variance(
    candidate: Sequence[ProcessLogs],
    baseline: Sequence[ProcessLogs],
    variance: float,
    noisier: bool,
) -> float:
    """
    Return the variance of one candidate process's mean.

    From the baseline's, both sides' numbers of rounds, and its own rounds where they are noisier.
    """
    rounds, base_rounds = _rounds(candidate), _rounds(baseline)
    expected = _round_variance(baseline) if _round_df(baseline) else 0.0
    own = _round_variance(candidate) if noisier else expected
    # What the process itself adds stays. More rounds than the baseline's shrink the total by at
    # most their ratio.
    adjusted = variance - expected / base_rounds + own / rounds
    least = variance if noisier else variance * min(1.0, base_rounds / rounds)
    return max(adjusted, least)


def _half_width(within: float, df: float, card: float, tail: float) -> float:
    if card:  # Satterthwaite's degrees of freedom of the sum
        df = (within + card) ** 2 / (within**2 / df + card**2 / _CARD_DF)
    return float(special.stdtrit(df, 1 - tail)) * math.sqrt(within + card)


def _mean(column: Sequence[ProcessLogs]) -> float:
    return float(np.mean([each.mean for each in column]))


def _rounds(column: Sequence[ProcessLogs]) -> float:
    """
    Return the harmonic mean of the numbers of rounds, which is what variances of means average by.
    """
    return len(column) / sum(1 / each.rounds.size for each in column)


def _round_df(column: Sequence[ProcessLogs]) -> int:
    return sum(each.rounds.size - 1 for each in column)


def _round_variance(column: Sequence[ProcessLogs]) -> float:
    """
    Return the variance between rounds of one process, pooled over processes.
    """
    squares = sum(float(np.square(each.rounds - each.mean).sum()) for each in column)
    return max(squares / max(_round_df(column), 1), VARIANCE_FLOOR)
