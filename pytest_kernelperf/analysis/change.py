"""
The change against a baseline and its interval: the interval that is shown and that decides.

On log time, a process's mean has a variance s² (process and rounds together). The baseline's own
estimate of s² is mixed with the suite's prior and with the candidate's own processes; the change of
K candidate processes against B baseline processes has the variance s² / K + s² / B, to which
sessions and other cards add theirs. Student's t gives the interval, at the error of the look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from scipy import special

from pytest_kernelperf.analysis.looks import tail_probability
from pytest_kernelperf.analysis.scatter import (
    VARIANCE_FLOOR,
    Components,
    Prior,
    ProcessLogs,
    by_card,
    by_session,
    mixed,
    process_df,
    process_variance,
)
from pytest_kernelperf.model import Interval

_Share = Callable[[Sequence[ProcessLogs]], float]

# Rounds this much noisier than the baseline's are no accident.
_NOISIER_P = 0.001


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

    @classmethod
    def from_log(cls, center: float, half_width: float, *, noisier: bool = False) -> ChangeEstimate:
        """
        Return what a difference of log times and half of its interval's width are as a change.
        """
        low, high = math.expm1(center - half_width), math.expm1(center + half_width)
        return cls(math.expm1(center), Interval(low, high), noisier)


def estimate_change(
    candidate: Sequence[ProcessLogs], baseline: Sequence[ProcessLogs], parts: Components
) -> ChangeEstimate:
    """
    Estimate how much slower the candidate is than the baseline.

    Args:
        candidate: At least one process with at least one round; log µs.
        baseline: Likewise.
        parts: What the baseline's scatter is made of.
    """
    # Candidates that fall into two modes, of which the baseline met one, show it themselves.
    own = Prior(process_variance(candidate), process_df(candidate))
    process = mixed(parts.process, own)
    noisier = is_noisier(candidate, baseline)
    variance = _candidate_variance(candidate, baseline, process.variance, noisier)
    df = min(process.df, _within(candidate).df) if noisier else process.df
    error = _sum(
        Prior(variance / len(candidate) + process.variance / len(baseline), df),
        _left(parts.session, by_session, candidate, baseline),
        _left(parts.card, by_card, candidate, baseline),
    )
    width = half_width(error, len(candidate))
    change = _mean(candidate) - _mean(baseline)
    return ChangeEstimate.from_log(change, width, noisier=noisier)


def expected_error(baseline: Sequence[ProcessLogs], parts: Components, processes: int) -> Prior:
    """
    Return the variance of the change that so many candidate processes will have.

    They are expected in one session, on one card, and with the baseline's plan.
    """
    process, one = parts.process, baseline[:1]
    return _sum(
        Prior(process.variance * (1 / processes + 1 / len(baseline)), process.df + processes - 1),
        _left(parts.session, by_session, one, baseline),
        _left(parts.card, by_card, one, baseline),
    )


def half_width(error: Prior, processes: int) -> float:
    """
    Return half of the interval's width, log scale, at the look of so many candidate processes.
    """
    quantile = float(special.stdtrit(error.df, 1 - tail_probability(processes)))
    return quantile * math.sqrt(error.variance)


def is_noisier(candidate: Sequence[ProcessLogs], baseline: Sequence[ProcessLogs]) -> bool:
    """
    Return whether the candidate's rounds scatter more than the baseline's, by an F test at 0.1 %.
    """
    now, before = _within(candidate), _within(baseline)
    if now.df < 1 or before.df < 1:
        return False
    ratio = now.variance / before.variance
    return bool(special.fdtrc(now.df, before.df, ratio) < _NOISIER_P)


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
    before = _within(baseline)
    expected = before.variance if before.df else 0.0
    own = _within(candidate).variance if noisier else expected
    # What the process itself adds stays. More rounds than the baseline's shrink the total by at
    # most their ratio.
    adjusted = variance - expected / base_rounds + own / rounds
    least = variance if noisier else variance * min(1.0, base_rounds / rounds)
    return max(adjusted, least)


def _sum(*terms: Prior) -> Prior:
    """
    Return the sum of independent variances, with Satterthwaite's degrees of freedom.
    """
    known = [each for each in terms if each.variance]
    total = sum(each.variance for each in known)
    return Prior(total, total**2 / sum(each.variance**2 / each.df for each in known))


def _left(part: Prior, share: _Share, *sides: Sequence[ProcessLogs]) -> Prior:
    """
    Return what of a session's or card's variance is left in the difference of two sides' means.
    """
    if not part.variance:
        return part
    return Prior(part.variance * sum(map(share, sides)), part.df)


def _mean(column: Sequence[ProcessLogs]) -> float:
    return fmean(each.mean for each in column)


def _rounds(column: Sequence[ProcessLogs]) -> float:
    """
    Return the harmonic mean of the numbers of rounds, which is what variances of means average by.
    """
    return len(column) / sum(1 / each.rounds.size for each in column)


def _within(column: Sequence[ProcessLogs]) -> Prior:
    """
    Return the variance between rounds of one process, pooled over processes.
    """
    df = sum(each.rounds.size - 1 for each in column)
    return Prior(max(sum(each.squares for each in column) / max(df, 1), VARIANCE_FLOOR), df)
