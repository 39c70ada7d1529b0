"""
The ratio of two measurements whose samples one process took in turn, with the interval it deserves.

Rounds were taken side by side, so whatever moved the machine in one moved both, and each round's
ratio is free of it. Two things are left: how the ratio scatters from round to round, which the
rounds show, and what stays with a callable for a whole process (where its code and memory lie),
which they can't show. The interval holds both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from scipy import special

from pytest_kernelperf.analysis.intervals import TAIL_PROBABILITY
from pytest_kernelperf.analysis.percentiles import Floats, round_logs
from pytest_kernelperf.analysis.scatter import VARIANCE_FLOOR, Prior
from pytest_kernelperf.model import Interval, Process

# Scatter of one round's log ratio: (sd, degrees of freedom it counts for). Device: fitted to 72
# pairs of callables on two H100s (docs/verdicts.md), by the method of `noise.fit_prior`.
_ROUND_PRIOR: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"device": (0.0036, 3.0), "launch": (0.006, 3.0), "wall": (0.015, 3.0)}
)
# What stays for a whole process: device from 18 pairs of one and the same cuDNN kernel, whose
# means differed by more than their rounds explain (sd 0.29 % with one odd pair, none without it).
_PROCESS_SD: Mapping[str, float] = MappingProxyType(
    {"device": 0.0025, "launch": 0.0025, "wall": 0.005}
)
#: How well that figure is known.
_PROCESS_DF = 10.0
# Tails scatter more than the middle: as the fixed priors of `noise` have it.
_TAIL_FACTOR = 2.0


@dataclass(frozen=True)
class LogRatio:
    """
    The log of one measurement's percentile over another's.

    Attributes:
        center: Natural log; 0.0 = equally long.
        half_width: Of the 95 % interval.
        round_sd: Scatter of one round's log ratio, moderated.
        fixed_variance: The part of the variance that more rounds do not lessen.
        rounds: How many rounds both sides sampled.
    """

    center: float
    half_width: float
    round_sd: float
    fixed_variance: float
    rounds: int

    @property
    def ratio(self) -> float:
        """
        The ratio itself.
        """
        return math.exp(self.center)

    @property
    def interval(self) -> Interval:
        """
        The ratio's 95 % interval.
        """
        return Interval(
            math.exp(self.center - self.half_width), math.exp(self.center + self.half_width)
        )

    def rounds_to_clear(self, limit: float) -> int | None:
        """
        Return about how many rounds would part the interval from a limit; None if none would.

        Args:
            limit: The ratio that the interval should not hold.
        """
        reach = ((self.center - math.log(limit)) / 1.96) ** 2 - self.fixed_variance
        return math.ceil(self.round_sd**2 / reach) if reach > 0 else None


def log_ratio(
    numerator: Sequence[Process],
    denominator: Sequence[Process],
    percentile: float,
    timer: str,
) -> LogRatio | None:
    """
    Return how much longer the numerator took, round by round.

    Args:
        numerator: Processes of one measurement.
        denominator: Those of the other, with the same rounds.
        percentile: Between 0 and 100.
        timer: "device", "launch" or "wall".

    Returns:
        None if no round was sampled on both sides.

    Raises:
        ValueError: If the rounds do not pair.
    """
    differences = _differences(numerator, denominator, percentile)
    if not differences.size:
        return None
    tail = 1.0 if percentile == 50 else _TAIL_FACTOR
    noise = _moderated(differences, timer, tail)
    own = noise.variance / differences.size
    fixed = (tail * _PROCESS_SD.get(timer, _PROCESS_SD["wall"])) ** 2 / len(numerator)
    # Satterthwaite's degrees of freedom of the sum.
    df = (own + fixed) ** 2 / (own**2 / noise.df + fixed**2 / _PROCESS_DF)
    return LogRatio(
        center=float(differences.mean()),
        half_width=float(special.stdtrit(df, 1 - TAIL_PROBABILITY)) * math.sqrt(own + fixed),
        round_sd=math.sqrt(noise.variance),
        fixed_variance=fixed,
        rounds=int(differences.size),
    )


def _moderated(differences: Floats, timer: str, tail: float) -> Prior:
    """
    Return the variance of one round's ratio: what the rounds show, weighted with what is usual.

    Source:
        Smyth (2004), equation for the posterior variance of a normal linear model.
    """
    sd, prior_df = _ROUND_PRIOR.get(timer, _ROUND_PRIOR["wall"])
    df = differences.size - 1
    squares = float(np.square(differences - differences.mean()).sum())
    total = prior_df + df
    return Prior(max((prior_df * (tail * sd) ** 2 + squares) / total, VARIANCE_FLOOR), total)


def _differences(
    numerator: Sequence[Process], denominator: Sequence[Process], percentile: float
) -> Floats:
    """
    Return each round's log ratio, leaving out rounds in which one side kept no sample.
    """
    shapes = [[len(each.rounds) for each in side] for side in (numerator, denominator)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{shapes[0]} and {shapes[1]} rounds per process do not pair")
    pairs = [_both_sampled(*each) for each in zip(numerator, denominator, strict=True)]
    logs = [[round_logs(side, (percentile,))[:, 0] for side in pair] for pair in pairs]
    return np.concatenate([np.empty(0), *(above - below for above, below in logs)])


def _both_sampled(first: Process, second: Process) -> tuple[Process, Process]:
    pairs = [
        pair
        for pair in zip(first.rounds, second.rounds, strict=True)
        if all(each.times_us for each in pair)
    ]
    return (
        replace(first, rounds=tuple(pair[0] for pair in pairs)),
        replace(second, rounds=tuple(pair[1] for pair in pairs)),
    )
