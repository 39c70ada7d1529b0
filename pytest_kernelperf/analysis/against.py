"""
Judges a measurement against the same case at another revision, which may lack it.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_kernelperf.analysis.cause import explained
from pytest_kernelperf.analysis.comparability import find_difference
from pytest_kernelperf.analysis.noise import Noise
from pytest_kernelperf.analysis.pairing import judge_pair
from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.analysis.verdicts import judge
from pytest_kernelperf.model import (
    Against,
    Limits,
    Measurement,
    Reference,
    Status,
    Verdict,
)
from pytest_kernelperf.units import format_percentile


def judge_against(after: Measurement, against: Against, limits: Limits) -> tuple[Verdict, ...]:
    """
    Judge a measurement against its counterpart; no baseline and no target is looked at.

    Nothing but the two sides goes into it, so a record gives the verdict again anywhere.

    Args:
        after: The version that is judged.
        against: The other one.
        limits: What the test asks.
    """
    before = against.measurement
    if before is not None and after.problem is None:
        verdicts = judge_pair(before, after, limits, Noise())
        return tuple(_with_difference(each, before, after, against) for each in verdicts)
    verdicts = judge(after, None, replace(limits, targets_us={}), Noise())
    return tuple(_without_counterpart(each, against) for each in verdicts)


def _with_difference(
    verdict: Verdict, before: Measurement, after: Measurement, against: Against
) -> Verdict:
    reference = Reference.of(before, before.processes)
    if verdict.status is not Status.INCOMPARABLE:
        return explained(verdict, after, reference)
    found = find_difference(after, reference)
    assert found is not None
    sentence = (
        f"{format_percentile(verdict.percentile)} can't be compared with "
        f"{against.revision}: {found.key} was {found.baseline} there, is {found.now}. Give the "
        "test what it had there, or judge the new way by a baseline of its own."
    )
    return explained(replace(verdict, sentence=sentence), after, reference)


def _without_counterpart(verdict: Verdict, against: Against) -> Verdict:
    if verdict.status is not Status.NO_BASELINE:
        return verdict
    return replace(
        verdict,
        reason=Reason.NOT_IN_REVISION.value,
        sentence=(
            f"{format_percentile(verdict.percentile)} has nothing to be compared with at "
            f"{against.revision}: {against.missing}."
        ),
    )
