"""
Callables that one run measured interleaved: their ratios, and whether each is fast enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from pytest_kernelperf.analysis.paired import LogRatio, log_ratio
from pytest_kernelperf.analysis.percentiles import MEDIAN, percentile_us
from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.model import (
    Case,
    Comparison,
    Interval,
    Measurement,
    Ratio,
    Standing,
    Status,
    Verdict,
)
from pytest_kernelperf.units import format_us

#: Callables whose ratio is not shown to differ by more than this are called alike. With the
#: intervals of ten rounds, equal kernels get no other name and 2 % gets one (docs/verdicts.md).
ALIKE_WITHIN: Mapping[str, float] = MappingProxyType(
    {"device": 0.0075, "launch": 0.01, "wall": 0.02}
)


def compare(
    label: str,
    measurements: Mapping[str, Measurement],
    reference: str,
    min_speedup: Mapping[str, float] | None = None,
) -> Comparison:
    """
    Compare callables by the ratio of their P50, round by round, and judge what is asked of them.

    Args:
        label: What is compared.
        measurements: Name to measurement, all with the same rounds.
        reference: The name whose time is the ratios' numerator.
        min_speedup: Name to the least speed-up over the reference.

    Returns:
        The comparison; without ratios where a measurement is INVALID: its times mean nothing.

    Raises:
        ValueError: If the reference is missing or the rounds do not pair.
    """
    if reference not in measurements:
        raise ValueError(
            f"reference {reference!r} is not among the callables compared: expected one of "
            f"{', '.join(sorted(measurements))}"
        )
    asked = dict(min_speedup or {})
    evidence = dict(measurements)
    found = Comparison(label, reference, (), evidence[reference].case, evidence, None, asked)
    problem = next((each.problem for each in evidence.values() if each.problem), None)
    if problem is not None:
        return replace(found, problem=problem)
    ratios = [_ratio(name, evidence, reference) for name in evidence]
    return replace(found, ratios=tuple(_judged(one, found, asked) for one in ratios))


def judge_again(comparison: Comparison) -> Comparison:
    """
    Return a recorded comparison with ratios and verdicts computed anew from its measurements.
    """
    if comparison.problem is not None or not comparison.measurements:
        return comparison
    found = compare(
        comparison.label,
        comparison.measurements,
        comparison.reference,
        comparison.min_speedup,
    )
    # Outputs are gone with the process that made them; how far they were apart was kept.
    apart = {ratio.name: ratio.max_abs_difference for ratio in comparison.ratios}
    return replace(
        found,
        case=comparison.case,
        ratios=tuple(replace(one, max_abs_difference=apart.get(one.name)) for one in found.ratios),
    )


def _ratio(name: str, measurements: Mapping[str, Measurement], reference: str) -> Ratio:
    own = measurements[name]
    time_us = percentile_us(own.processes, MEDIAN)
    if name == reference:
        return Ratio(name, time_us, 1.0, Interval(1.0, 1.0), standing=Standing.REFERENCE)
    found = _speedup(name, measurements, reference)
    standing = _standing(found.interval, ALIKE_WITHIN.get(own.case.timer, ALIKE_WITHIN["wall"]))
    return Ratio(name, time_us, found.ratio, found.interval, standing=standing)


def _speedup(name: str, measurements: Mapping[str, Measurement], reference: str) -> LogRatio:
    own, theirs = measurements[name], measurements[reference]
    try:
        found = log_ratio(theirs.processes, own.processes, MEDIAN, own.case.timer)
    except ValueError as error:
        raise ValueError(
            f"{name!r} against {reference!r}: {error}; only rounds measured side by side can be "
            "compared: measure both in one compare"
        ) from None
    if found is None:
        raise ValueError(f"{name!r} shares no sampled round with the reference: nothing to compare")
    return found


def _standing(speedup: Interval, alike: float) -> Standing:
    if speedup.low > 1 + alike:
        return Standing.FASTER
    if speedup.high < 1 / (1 + alike):
        return Standing.SLOWER
    if 1 / (1 + alike) <= speedup.low and speedup.high <= 1 + alike:
        return Standing.ALIKE
    return Standing.UNSURE


def _judged(ratio: Ratio, comparison: Comparison, asked: Mapping[str, float]) -> Ratio:
    least = asked.get(ratio.name)
    if least is None or comparison.case is None:
        return ratio
    status, reason = _decide(ratio.speedup_interval, least)
    reference_us = percentile_us(comparison.measurements[comparison.reference].processes, MEDIAN)
    verdict = Verdict(
        case=_case_of(comparison.case, ratio.name),
        percentile=MEDIAN,
        status=status,
        reason=reason.value,
        sentence=_sentence(ratio, comparison, least, status, reference_us),
        time_us=ratio.time_us,
        baseline_us=reference_us,
        change=1 / ratio.speedup - 1,
        change_interval=Interval(
            1 / ratio.speedup_interval.high - 1, 1 / ratio.speedup_interval.low - 1
        ),
    )
    return replace(ratio, min_speedup=least, verdict=verdict)


def _decide(speedup: Interval, least: float) -> tuple[Status, Reason]:
    if speedup.low >= least:
        return Status.UNCHANGED, Reason.FAST_ENOUGH
    if speedup.high < least:
        return Status.MISSED_TARGET, Reason.BELOW_SPEEDUP
    return Status.INCONCLUSIVE, Reason.SPEEDUP_IN_INTERVAL


def _case_of(case: Case, name: str) -> Case:
    return replace(case, name=f"{case.name} {name}".strip())


def _sentence(
    ratio: Ratio, comparison: Comparison, least: float, status: Status, reference_us: float
) -> str:
    low, high = ratio.speedup_interval.low, ratio.speedup_interval.high
    numbers = (
        f"{ratio.speedup:.3f}x ({low:.3f}…{high:.3f}) over {comparison.reference!r}, at least "
        f"{least:g}x asked"
    )
    times = f"{format_us(ratio.time_us)} against {format_us(reference_us)}"
    if status is Status.INCONCLUSIVE:
        return f"{numbers}: the interval holds the limit ({times}). {_cure(ratio, comparison)}"
    verdict = "fast enough" if status is Status.UNCHANGED else "too slow"
    return f"{numbers}: {verdict} ({times})."


def _cure(ratio: Ratio, comparison: Comparison) -> str:
    found = _speedup(ratio.name, comparison.measurements, comparison.reference)
    rounds = found.rounds_to_clear(comparison.min_speedup[ratio.name])
    if rounds is None:
        return "The speed-up is too near the limit for one process to tell, however many rounds."
    return f"About rounds={max(rounds, found.rounds + 1)} would tell."
