"""
Whether one callable's time depends on its data: an equivalence test, not the absence of a finding.

Every two inputs are compared round by round. Only if all their intervals lie within the bound do
the distributions differ by less than it (two one-sided tests per pair; since all pairs must pass,
the error of the whole is no larger than that of one). A wide interval proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

from pytest_kernelperf.analysis.evidence import clock_drop, gather
from pytest_kernelperf.analysis.paired import LogRatio, log_ratio
from pytest_kernelperf.analysis.percentiles import gives, percentile_us
from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.model import (
    Contrast,
    Independence,
    Interval,
    Measurement,
    Status,
    Verdict,
)
from pytest_kernelperf.units import format_percent, format_percentile, format_us

# Shown even where no bound is given for it.
_TAIL = 95.0
# As for slowdowns: half of a difference and more is the clock's doing.
_CLOCK_SHARE = 0.5


def contrast_inputs(
    label: str, measurements: Mapping[str, Measurement], bounds: Mapping[float, float]
) -> Independence:
    """
    Compare one callable's times on several inputs with each other.

    Args:
        label: What was measured.
        measurements: Input's name to measurement, at least two, all with the same rounds.
        bounds: Percentile to the relative difference that must not be reached.

    Returns:
        One verdict per percentile, on the two inputs that are most apart; none where a measurement
        is INVALID.

    Raises:
        ValueError: If the rounds do not pair.
    """
    evidence = dict(measurements)
    case = next(iter(evidence.values())).case
    found = Independence(label, case, dict(bounds), measurements=evidence)
    problem = next((each.problem for each in evidence.values() if each.problem), None)
    if problem is not None:
        return replace(found, problem=problem)
    shown = {_TAIL} if gives(case.timer, _TAIL) else set()
    contrasts: list[Contrast] = []
    verdicts: list[Verdict] = []
    for percentile in sorted({*bounds, *shown}):
        pairs = _pairs(evidence, percentile)
        if pairs:
            contrasts += [_contrast(*names, evidence, percentile, r) for names, r in pairs.items()]
        verdicts.append(_verdict(found, percentile, pairs))
    return replace(found, contrasts=tuple(contrasts), verdicts=tuple(verdicts))


def contrast_again(found: Independence) -> Independence:
    """
    Return a recorded result with contrasts and verdicts computed anew from its measurements.
    """
    if found.problem is not None:
        return found
    return contrast_inputs(found.label, found.measurements, found.bounds)


def _pairs(
    measurements: Mapping[str, Measurement], percentile: float
) -> dict[tuple[str, str], LogRatio]:
    """
    Return each pair's log ratio, the slower input first; none if a pair shares no sampled round.
    """
    found: dict[tuple[str, str], LogRatio] = {}
    for first, second in combinations(measurements, 2):
        sides = measurements[first].processes, measurements[second].processes
        ratio = log_ratio(*sides, percentile, measurements[first].case.timer)
        if ratio is None:
            return {}
        if ratio.center >= 0:
            found[first, second] = ratio
        else:
            found[second, first] = replace(ratio, center=-ratio.center)
    return found


def _contrast(
    slower: str,
    faster: str,
    measurements: Mapping[str, Measurement],
    percentile: float,
    ratio: LogRatio,
) -> Contrast:
    sides = measurements[slower].processes, measurements[faster].processes
    seen = gather(*sides)
    known = seen.clock_mhz and seen.baseline_clock_mhz
    return Contrast(
        percentile=percentile,
        slower=slower,
        faster=faster,
        slower_us=percentile_us(sides[0], percentile),
        faster_us=percentile_us(sides[1], percentile),
        difference=ratio.ratio - 1,
        interval=Interval(ratio.interval.low - 1, ratio.interval.high - 1),
        supported=math.expm1(ratio.center + ratio.half_width),
        clock_difference=math.expm1(-clock_drop(seen)) if known else None,
    )


def _verdict(
    found: Independence, percentile: float, pairs: Mapping[tuple[str, str], LogRatio]
) -> Verdict:
    bound = found.bounds.get(percentile)
    if not pairs:
        return Verdict(
            found.case,
            percentile,
            Status.INCONCLUSIVE,
            Reason.TOO_FEW_SAMPLES.value,
            "two of the inputs share no sampled round: nothing to compare; raise rounds=",
            margin=bound,
            judged=bound is not None,
        )
    names, ratio = max(pairs.items(), key=lambda item: item[1].center + item[1].half_width)
    worst = _contrast(*names, found.measurements, percentile, ratio)
    status, reason = _decide(pairs, found, percentile)
    return Verdict(
        case=found.case,
        percentile=percentile,
        status=status,
        reason=reason.value,
        sentence=_sentence(worst, ratio, found, reason),
        time_us=worst.slower_us,
        baseline_us=worst.faster_us,
        change=worst.difference,
        change_interval=worst.interval,
        margin=bound,
        judged=bound is not None,
    )


def _decide(
    pairs: Mapping[tuple[str, str], LogRatio], found: Independence, percentile: float
) -> tuple[Status, Reason]:
    bound = found.bounds.get(percentile)
    if bound is None:
        return Status.UNCHANGED, Reason.NOT_JUDGED
    limit = math.log1p(bound)
    apart = {names: each for names, each in pairs.items() if each.center - each.half_width > limit}
    if apart:
        # The clock may explain one pair and not another: the one it explains least decides.
        by_clock = all(_is_clock(*names, found, each) for names, each in apart.items())
        return Status.MISSED_TARGET, (
            Reason.DATA_CHANGES_CLOCK if by_clock else Reason.DATA_DEPENDENT
        )
    if all(each.center + each.half_width < limit for each in pairs.values()):
        return Status.UNCHANGED, Reason.DATA_INDEPENDENT
    return Status.INCONCLUSIVE, Reason.BOUND_NOT_SUPPORTED


def _is_clock(slower: str, faster: str, found: Independence, ratio: LogRatio) -> bool:
    sides = found.measurements[slower].processes, found.measurements[faster].processes
    return clock_drop(gather(*sides)) >= _CLOCK_SHARE * ratio.center


def _sentence(worst: Contrast, ratio: LogRatio, found: Independence, reason: Reason) -> str:
    percent = {
        "difference": format_percent(worst.difference),
        "supported": format_percent(worst.supported, signed=False),
        "bound": format_percent(found.bounds.get(worst.percentile), signed=False),
    }
    numbers = (
        f"{worst.slower!r} {percent['difference']} over {worst.faster!r} at "
        f"{format_percentile(worst.percentile)}, bound {percent['bound']}"
    )
    times = f"{format_us(worst.slower_us)} against {format_us(worst.faster_us)}"
    tail = f"The data support a bound of {percent['supported']}.{_clock(worst)}{_drops(found)}"
    if reason is Reason.BOUND_NOT_SUPPORTED:
        return f"{numbers}: neither shown nor refuted ({times}). {tail}{_cure(ratio, found, worst)}"
    said = {
        Reason.DATA_INDEPENDENT: "no two inputs differ by as much",
        Reason.DATA_DEPENDENT: "the time depends on the data",
        Reason.DATA_CHANGES_CLOCK: "the time depends on the data, by way of the clock",
    }.get(reason, "shown, not judged; name it in bound= to judge it")
    return f"{numbers}: {said} ({times}). {tail}"


def _clock(worst: Contrast) -> str:
    if worst.clock_difference is None:
        return ""
    return f" SM clock of {worst.slower!r}: {format_percent(worst.clock_difference)}."


def _drops(found: Independence) -> str:
    """
    Tell of dropped samples: if only one input lowers the clock, dropping hides what it costs.
    """
    counts = {
        name: sum(len(r.discarded) for process in each.processes for r in process.rounds)
        for name, each in found.measurements.items()
    }
    if not any(counts.values()):
        return ""
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f" Samples dropped: {listed}."


def _cure(ratio: LogRatio, found: Independence, worst: Contrast) -> str:
    rounds = ratio.rounds_to_clear(1 + found.bounds[worst.percentile])
    if rounds is None:
        return " One process can't tell, however many rounds: ask for a wider bound."
    return f" About rounds={max(rounds, ratio.rounds + 1)} would tell."
