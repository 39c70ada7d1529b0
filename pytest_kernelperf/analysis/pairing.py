"""
Two versions of one case, measured in processes that took turns: paired process by process.

A pair's difference is free of whatever moved the machine over minutes (power state, neighbours,
heat), which a stored baseline can't know; so the margin can be smaller than a baseline's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from pytest_kernelperf.analysis.change import ChangeEstimate
from pytest_kernelperf.analysis.comparability import find_difference
from pytest_kernelperf.analysis.decision import Findings, decide
from pytest_kernelperf.analysis.evidence import Circumstances, excuse, explained_alone, gather
from pytest_kernelperf.analysis.intervals import TAIL_PROBABILITY
from pytest_kernelperf.analysis.margins import MIN_PROCESSES
from pytest_kernelperf.analysis.noise import CENTER, Noise, band
from pytest_kernelperf.analysis.percentiles import Floats
from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.analysis.scatter import (
    VARIANCE_FLOOR,
    Prior,
    ProcessLogs,
    columns,
    mixed,
    time_us_of,
)
from pytest_kernelperf.analysis.sentences import Story, tell
from pytest_kernelperf.analysis.verdicts import judge, judged_percentiles
from pytest_kernelperf.analysis.witnesses import clocks_excuse
from pytest_kernelperf.model import (
    Limits,
    Measurement,
    Process,
    Reference,
    Status,
    Verdict,
)
from pytest_kernelperf.units import counted, format_percent, format_percentile, format_us

#: Fewer pairs than this say REGRESSED to nobody: one odd process would.
MIN_PAIRS = 3
# Pairs that scatter this improbably more than the prior has it are believed alone: mixed with a
# prior a tenth as wide, one unchanged version in seven would be REGRESSED beside other load.
_PRIOR_FAILS_P = 0.1
# A conclusive verdict in 95 % of unchanged runs takes this many standard errors (docs/verdicts.md).
_STANDARD_ERRORS = 3.9
_HEADS = {
    (Status.REGRESSED, Reason.SLOWER_THAN_BASELINE.value): "slower than before, beyond the margin",
    (Status.IMPROVED, Reason.FASTER_THAN_BASELINE.value): "faster than before, beyond the margin",
    (Status.UNCHANGED, Reason.WITHIN_MARGIN.value): "unchanged within the margin",
    (Status.INCONCLUSIVE, Reason.STRADDLES_MARGIN.value): (
        "not decided, since the interval reaches the margin (more pairs narrow it)"
    ),
    (Status.INCONCLUSIVE, Reason.PROVISIONAL.value): (
        f"not decided, since it takes {MIN_PAIRS} pairs to call a version slower"
    ),
}
# Least and largest default margin, of the middle and of the tails.
_MARGINS = {True: (0.005, 0.05), False: (0.05, 0.30)}


@dataclass(frozen=True)
class _Pairs:
    """
    One percentile of all pairs.

    Attributes:
        standard_error: Of the mean log difference, moderated.
        explained: How much of each pair's slowdown its own clocks explain, on log scale.
    """

    before: Sequence[ProcessLogs]
    after: Sequence[ProcessLogs]
    change: ChangeEstimate
    standard_error: float
    explained: Sequence[float]

    def slower(self, margin: float) -> tuple[int, int]:
        """
        Return how many pairs are slower by more than a margin, and how many beyond their clocks.
        """
        differences = [b.mean - a.mean for a, b in zip(self.before, self.after, strict=True)]
        left = [one - by for one, by in zip(differences, self.explained, strict=True)]
        beyond = math.log1p(margin)
        return sum(one > beyond for one in differences), sum(one > beyond for one in left)


def judge_pair(
    before: Measurement, after: Measurement, limits: Limits, noise: Noise
) -> tuple[Verdict, ...]:
    """
    Judge one version of a case against another whose processes took turns with its own.

    The i-th process of one side is paired with the i-th of the other, so both sides list them in
    the order of the pairs (A B, B A, A B ... gives A1 A2 A3 and B1 B2 B3). A pair of which one
    process kept no sample is left out.

    Args:
        before: The version that is compared with.
        after: The version that is judged; its targets are not looked at.
        limits: What the test asks.
        noise: From the baselines of the card's model, or `Noise()`.

    Returns:
        One verdict per judged percentile, ascending. `baseline_us` is the time before.

    Raises:
        ValueError: If the two are no versions of one case, or their processes do not pair.
    """
    if before.case.key != after.case.key or before.case.file != after.case.file:
        raise ValueError(f"{before.case.label} and {after.case.label} are not one case")
    if len(before.processes) != len(after.processes):
        raise ValueError(
            f"{after.case.label}: {len(before.processes)} processes before and "
            f"{len(after.processes)} after do not pair: expected as many of each"
        )
    percentiles = judged_percentiles(after.case.timer, limits)
    if after.problem is not None:
        return judge(after, None, replace(limits, targets_us={}), noise)
    kept = [
        pair
        for pair in zip(before.processes, after.processes, strict=True)
        if all(side.has_samples for side in pair)
    ]
    sides = [tuple(pair[side] for pair in kept) for side in (0, 1)]
    measured = replace(after, processes=sides[1])
    reference = Reference.of(before, sides[0])
    return tuple(_verdict(reference, measured, q, limits, noise) for q in percentiles)


def estimate_pairs(
    before: Sequence[ProcessLogs], after: Sequence[ProcessLogs], prior: Prior
) -> tuple[ChangeEstimate, float]:
    """
    Estimate the change from paired processes.

    Args:
        before: At least one process; log µs.
        after: As many, in the same order.
        prior: Variance of one process's mean; a pair's difference has twice that.

    Returns:
        The change with its 95 % interval (Student's t over the pairs, the variance moderated where
        the pairs bear the prior out), and the standard error of its log.
    """
    differences = np.array([b.mean - a.mean for a, b in zip(before, after, strict=True)])
    scatter = _scatter(differences, Prior(2 * prior.variance, prior.df))
    error = math.sqrt(scatter.variance / differences.size)
    width = float(special.stdtrit(scatter.df, 1 - TAIL_PROBABILITY)) * error
    return ChangeEstimate.from_log(float(differences.mean()), width), error


def _scatter(differences: Floats, prior: Prior) -> Prior:
    """
    Return the variance of one pair's difference: mixed with the prior, unless they contradict it.
    """
    df = differences.size - 1
    if not df:
        return prior
    own = Prior(float(differences.var(ddof=1)), df)
    if special.fdtrc(df, prior.df, own.variance / prior.variance) < _PRIOR_FAILS_P:
        return own
    found = mixed(prior, own)
    return replace(found, variance=max(found.variance, 2 * VARIANCE_FLOOR))


def _verdict(
    reference: Reference, after: Measurement, percentile: float, limits: Limits, noise: Noise
) -> Verdict:
    regime = after.case.regime
    difference = find_difference(after, reference) if after.processes else None
    pairs = None
    if after.processes and difference is None:
        pairs = _pairs(reference.processes, after.processes, percentile, regime, noise)
    margin = limits.max_regression.get(percentile)
    if margin is None:
        margin = _default_margin(percentile, pairs.standard_error if pairs else 0.0)
    # Minutes on both sides are no habit: a neighbour's bursts meet one side more by chance.
    seen = gather(after.processes, reference.processes, habits=False)
    slow, agree = pairs.slower(margin) if pairs else (0, 0)
    findings = Findings(
        difference=difference.reason if difference else None,
        change=pairs.change.interval if pairs else None,
        margin=margin,
        excuse=_excuse(seen, pairs, margin, slow, agree) if pairs else None,
        enough_samples=pairs is not None,
    )
    status, reason = decide(findings)
    story = Story(
        percentile=percentile,
        status=status,
        reason=reason,
        time_us=time_us_of(pairs.after) if pairs else None,
        baseline_us=time_us_of(pairs.before) if pairs else None,
        change=pairs.change if pairs else None,
        margin=margin,
        difference=difference,
        seen=seen,
        baseline_processes=MIN_PROCESSES,  # Nothing here is provisional for want of a baseline.
        candidate_processes=len(pairs.after) if pairs else 0,
        slowed_by_clock=slow - agree,
        samples=sum(len(r.times_us) for each in after.processes for r in each.rounds),
    )
    return _as_verdict(after, story, len(pairs.after) if pairs else 0)


def _excuse(
    seen: Circumstances, pairs: _Pairs, margin: float, slow: int, agree: int
) -> Reason | None:
    if len(pairs.after) < MIN_PAIRS:
        return Reason.PROVISIONAL
    if pairs.change.interval.low <= margin:
        return None
    return excuse(seen, pairs.change.interval.low, margin) or clocks_excuse(
        agree, slow, len(pairs.after)
    )


def _pairs(
    before: Sequence[Process],
    after: Sequence[Process],
    percentile: float,
    regime: str,
    noise: Noise,
) -> _Pairs | None:
    (first,), (second,) = columns(before, (percentile,)), columns(after, (percentile,))
    if not first or len(first) != len(second):
        return None
    prior = noise.prior(regime, percentile, time_us_of(first))
    change, error = estimate_pairs(first, second, prior)
    explained = [explained_alone(b, [a]) for a, b in zip(before, after, strict=True)]
    return _Pairs(first, second, change, error, explained)


def _default_margin(percentile: float, standard_error: float) -> float:
    least, most = _MARGINS[band(percentile) == CENTER]
    return min(max(least, _STANDARD_ERRORS * standard_error), most)


def _as_verdict(after: Measurement, story: Story, pairs: int) -> Verdict:
    return Verdict(
        case=after.case,
        percentile=story.percentile,
        status=story.status,
        reason=story.reason,
        sentence=_told(story, pairs),
        time_us=story.time_us,
        baseline_us=story.baseline_us,
        change=story.change.relative if story.change else None,
        change_interval=story.change.interval if story.change else None,
        margin=story.margin,
    )


def _told(story: Story, pairs: int) -> str:
    """
    Tell what rests on the pairs in their words; the rest as against a baseline.
    """
    if not pairs and story.reason == Reason.TOO_FEW_SAMPLES.value:
        return (
            f"{format_percentile(story.percentile)} can't be judged: no pair of processes brought "
            "samples of both sides; notes say why, as far as it is known."
        )
    head = _HEADS.get((story.status, story.reason))
    if head is None or story.change is None:
        return tell(story)
    span = story.change.interval
    return (
        f"{format_percentile(story.percentile)} is {head}: {format_us(story.time_us)}, was "
        f"{format_us(story.baseline_us)}, {format_percent(story.change.relative)} (95 % interval "
        f"{format_percent(span.low)} to {format_percent(span.high)}, margin "
        f"{format_percent(story.margin, signed=False)}, "
        f"{counted(pairs, 'pair')} of processes)."
    )
