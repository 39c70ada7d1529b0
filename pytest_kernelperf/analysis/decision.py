"""
The decision: findings in, status and reason out. Nothing else in this project decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.model import Interval, Status


class TargetResult(Enum):
    """
    Where the run's own interval lies against an absolute limit.
    """

    NONE = "no target"
    MET = "met"
    MISSED = "missed"
    INSIDE = "inside the interval"
    UNKNOWN = "too few samples"


@dataclass(frozen=True)
class Findings:
    """
    Everything the decision depends on.

    Attributes:
        problem: Code of the measurement's problem, if it is invalid.
        difference: Why the baseline can't be compared with, if so.
        has_baseline: Whether there is one.
        change: Interval of the relative change; None if it could not be had.
        margin: The relative change that is too much.
        target: The absolute limit's result.
        excuse: What other than the kernel explains a slowdown.
        noisier: The candidate's rounds scatter far more than the baseline's.
        enough_samples: False where the percentile lies in a tail that the samples do not reach.
        reservation: OTHER_CARD or PROVISIONAL, which widened the interval or the margin.
        too_few_agree: One process of the candidate, or a few of several, speak for a change: they
            can't tell a changed kernel from odd processes.
        some_dissent: Not all of its processes speak for a change.
    """

    problem: str | None = None
    difference: Reason | None = None
    has_baseline: bool = True
    change: Interval | None = None
    margin: float = 0.0
    target: TargetResult = TargetResult.NONE
    excuse: Reason | None = None
    noisier: bool = False
    enough_samples: bool = True
    reservation: Reason | None = None
    too_few_agree: bool = False
    some_dissent: bool = False


def decide(found: Findings) -> tuple[Status, str]:
    """
    Return the status and the reason code of one percentile.

    The first that holds, from the strongest: an invalid measurement says nothing; a proven
    slowdown; a missed target; an incomparable baseline; a doubt; no baseline; and only then that
    all is well.
    """
    if found.problem is not None:
        return Status.INVALID, found.problem
    if found.difference is None and _is_slower(found) and _blocker(found) is None:
        return Status.REGRESSED, _reserved(found, Reason.SLOWER_THAN_BASELINE)
    if found.target is TargetResult.MISSED:
        # A target needs no baseline: an incomparable one does not excuse a missed target.
        return Status.MISSED_TARGET, Reason.ABOVE_TARGET.value
    if found.difference is not None:
        return Status.INCOMPARABLE, found.difference.value
    doubt = _doubt(found)
    if doubt is not None:
        return Status.INCONCLUSIVE, doubt
    if not found.has_baseline:
        return Status.NO_BASELINE, Reason.NO_BASELINE.value
    if _is_faster(found):
        return Status.IMPROVED, _reserved(found, Reason.FASTER_THAN_BASELINE)
    return Status.UNCHANGED, _reserved(found, Reason.WITHIN_MARGIN)


def _is_slower(found: Findings) -> bool:
    return found.change is not None and found.change.low > found.margin


def _is_faster(found: Findings) -> bool:
    return found.change is not None and found.change.high < -found.margin


def _blocker(found: Findings) -> Reason | None:
    if not found.enough_samples:
        return Reason.TOO_FEW_SAMPLES
    return found.excuse or _lacking_witnesses(found)


def _lacking_witnesses(found: Findings) -> Reason | None:
    if found.too_few_agree:
        return Reason.ONE_PROCESS
    # Beside other load some processes are slow and some are not; a slower kernel is so in all.
    return Reason.NOISIER_THAN_BASELINE if found.noisier and found.some_dissent else None


def _doubt(found: Findings) -> str | None:
    blocker = _blocker(found)
    if _is_slower(found) and blocker is not None:
        return blocker.value
    if found.has_baseline and (found.change is None or not found.enough_samples):
        return Reason.TOO_FEW_SAMPLES.value
    if found.change is not None and found.change.high >= found.margin:
        if found.noisier:
            return Reason.NOISIER_THAN_BASELINE.value
        return _reserved(found, Reason.STRADDLES_MARGIN)
    lacking = _lacking_witnesses(found)
    if lacking is not None and _is_faster(found):
        # Else a lucky process would become the reference, and every later one a regression.
        return lacking.value
    if found.target is TargetResult.INSIDE:
        return Reason.TARGET_IN_INTERVAL.value
    if found.target is TargetResult.UNKNOWN:
        return Reason.TOO_FEW_SAMPLES.value
    return None


def _reserved(found: Findings, reason: Reason) -> str:
    return (found.reservation or reason).value
