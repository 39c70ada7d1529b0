"""
From a measurement and its baseline to verdicts: gathers findings, has them decided, tells them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from pytest_kernelperf.analysis.change import ChangeEstimate, estimate_change
from pytest_kernelperf.analysis.comparability import Difference, find_difference
from pytest_kernelperf.analysis.decision import Findings, TargetResult, decide
from pytest_kernelperf.analysis.evidence import Circumstances, excuse, explained_alone, gather
from pytest_kernelperf.analysis.intervals import enclosing_interval_us, pooled_us
from pytest_kernelperf.analysis.looks import enough_agree
from pytest_kernelperf.analysis.margins import (
    MIN_PROCESSES,
    default_margin,
    detectable_slowdown,
    provisional_margin,
    settled_by,
    supported_margin,
)
from pytest_kernelperf.analysis.noise import CENTER, Noise, band
from pytest_kernelperf.analysis.percentiles import MEDIAN, Floats, gives
from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.analysis.roofline import roofline
from pytest_kernelperf.analysis.scatter import ProcessLogs, columns, time_us_of
from pytest_kernelperf.analysis.sentences import Story, tell
from pytest_kernelperf.analysis.witnesses import agreeing, clocks_excuse
from pytest_kernelperf.model import (
    Entry,
    Interval,
    Limits,
    Measurement,
    Process,
    Roofline,
    Status,
    Verdict,
)

_SHOWN = (50.0, 95.0, 99.0)


@dataclass(frozen=True)
class _Sides:
    """
    Both sides of one measurement, prepared once for all its percentiles.

    Attributes:
        pooled_us: The candidate's kept samples, ascending.
        baseline: Processes of this card; of all cards where it has none; empty without a baseline.
        other_card: The candidate was measured on a card that the baseline lacks.
        other_shares: Both know the same cards, in other shares: their difference is in the change.
        difference: What forbids comparing them.
    """

    measurement: Measurement
    pooled_us: Floats
    baseline: tuple[Process, ...]
    other_card: bool
    other_shares: bool
    difference: Difference | None
    seen: Circumstances
    limits: Limits
    noise: Noise
    elsewhere: Sequence[str]

    @cached_property
    def explained_alone(self) -> tuple[float, ...]:
        """
        What each candidate process's own clock explains, of those with a kept sample; log scale.
        """
        return tuple(
            explained_alone(each, self.baseline)
            for each in self.measurement.processes
            if each.has_samples
        )


@dataclass(frozen=True)
class _Compared:
    """
    One percentile against the baseline.

    Attributes:
        supported: The smallest margin that the baseline's noise supports.
        detectable: The minimum detectable slowdown at this margin.
        settled_by: Candidate processes that would decide a change like this one; None if none.
        beyond: What a process must lie off by to speak for the change: the margin, or the larger
            one that noise beyond the margin's upper bound would take.
        agreeing: Candidate processes that do, alone and with most of their rounds.
        slowed_by_clock: Those that would, were it not for their own fallen clocks.
    """

    change: ChangeEstimate
    baseline_us: float
    margin: float
    supported: float
    detectable: float
    settled_by: int | None
    beyond: float
    agreeing: int
    slowed_by_clock: int
    excuse: Reason | None


@dataclass(frozen=True)
class _Row:
    """
    All that was found out about one percentile.
    """

    percentile: float
    time_us: float | None
    own: Interval | None
    compared: _Compared | None
    target: TargetResult
    baseline_processes: int
    candidate_processes: int


def judge(
    measurement: Measurement,
    entry: Entry | None,
    limits: Limits,
    noise: Noise,
    *,
    elsewhere: Sequence[str] = (),
) -> tuple[Verdict, ...]:
    """
    Judge every percentile of one measurement.

    Args:
        measurement: What was measured now.
        entry: Its baseline on this card's model, or None.
        limits: What the test asks. Percentiles that the timer can't give are left out: the device
            timer's samples are means over many calls, so it has a P50 only.
        noise: From all baselines of the card's model (`noise_from`).
        elsewhere: Names of other cards or similar cases that have a baseline.

    Returns:
        One verdict per judged percentile, and one with `judged=False` for each of P50, P95, P99
        that can be shown, ascending by percentile. Those have status UNCHANGED, since they never
        fail anything, and reason NOT_JUDGED.
    """
    judged = judged_percentiles(measurement.case.timer, limits)
    if measurement.problem is not None:
        return tuple(_invalid(measurement, q, limits) for q in judged or (MEDIAN,))
    shown = [q for q in _SHOWN if gives(measurement.case.timer, q)]
    percentiles = sorted({*judged, *shown})
    sides = _prepare(measurement, entry, limits, noise, elsewhere)
    now = columns(measurement.processes, percentiles)
    before = columns(sides.baseline, percentiles)
    verdicts = [
        _verdict(sides, _row(sides, q, candidate, baseline), judged=q in judged)
        for q, candidate, baseline in zip(percentiles, now, before, strict=True)
    ]
    return tuple(each for each in verdicts if each.judged or each.time_us is not None)


def judged_percentiles(timer: str, limits: Limits) -> tuple[float, ...]:
    """
    Return the percentiles that a timer's measurement is judged by, ascending.
    """
    asked = {*limits.percentiles, *limits.targets_us, *limits.max_regression}
    return tuple(sorted(q for q in asked if gives(timer, q)))


def _prepare(
    measurement: Measurement,
    entry: Entry | None,
    limits: Limits,
    noise: Noise,
    elsewhere: Sequence[str],
) -> _Sides:
    processes = entry.reference.processes if entry else ()
    cards = {each.environment.card for each in measurement.processes}
    own = tuple(each for each in processes if each.environment.card in cards)
    # One unknown card among the candidate's is enough: its difference is in the mean.
    is_known = cards <= {each.environment.card for each in own}
    chosen = own if is_known else processes
    difference = None
    if entry is not None:
        difference = find_difference(measurement, replace(entry.reference, processes=chosen))
    return _Sides(
        measurement=measurement,
        pooled_us=pooled_us(measurement.processes),
        baseline=chosen,
        other_card=bool(chosen) and not is_known,
        other_shares=is_known and _shares(measurement.processes) != _shares(own),
        difference=difference,
        seen=gather(measurement.processes, chosen),
        limits=limits,
        noise=noise,
        elsewhere=elsewhere,
    )


def _shares(processes: Sequence[Process]) -> dict[str, Fraction]:
    counts = Counter(each.environment.card for each in processes)
    return {card: Fraction(count, len(processes)) for card, count in counts.items()}


def _row(
    sides: _Sides,
    percentile: float,
    candidate: Sequence[ProcessLogs],
    baseline: Sequence[ProcessLogs],
) -> _Row:
    time_us = time_us_of(candidate) if candidate else None
    own = None
    if time_us is not None:
        own = enclosing_interval_us(sides.pooled_us, percentile, time_us)
    comparable = candidate and baseline and sides.difference is None
    return _Row(
        percentile=percentile,
        time_us=time_us,
        own=own,
        compared=_compare(sides, percentile, candidate, baseline) if comparable else None,
        target=_target_result(sides.limits, percentile, own),
        baseline_processes=len(baseline),
        candidate_processes=len(candidate),
    )


def _findings(sides: _Sides, row: _Row) -> Findings:
    compared = row.compared
    return Findings(
        difference=sides.difference.reason if sides.difference else None,
        has_baseline=row.baseline_processes > 0,
        change=compared.change.interval if compared else None,
        margin=compared.margin if compared else 0.0,
        target=row.target,
        excuse=compared.excuse if compared else None,
        noisier=compared.change.noisier if compared else False,
        enough_samples=row.own is not None or band(row.percentile) == CENTER,
        reservation=_reservation(sides, row.baseline_processes),
        too_few_agree=compared is not None
        and not enough_agree(compared.agreeing, row.candidate_processes),
        some_dissent=compared is not None and compared.agreeing < row.candidate_processes,
    )


def _story(sides: _Sides, row: _Row, status: Status, reason: str) -> Story:
    compared, limits = row.compared, sides.limits
    return Story(
        percentile=row.percentile,
        status=status,
        reason=reason,
        time_us=row.time_us,
        own=row.own,
        baseline_us=compared.baseline_us if compared else None,
        change=compared.change if compared else None,
        margin=compared.margin if compared else None,
        asked_margin=limits.max_regression.get(row.percentile),
        supported_margin=compared.supported if compared else None,
        detectable=compared.detectable if compared else None,
        settled_by=compared.settled_by if compared else None,
        target_us=limits.targets_us.get(row.percentile),
        per=limits.per,
        target=row.target,
        difference=sides.difference,
        seen=sides.seen,
        baseline_processes=row.baseline_processes,
        candidate_processes=row.candidate_processes,
        beyond=compared.beyond if compared else None,
        agreeing=compared.agreeing if compared else 0,
        slowed_by_clock=compared.slowed_by_clock if compared else 0,
        other_card=sides.other_card,
        other_shares=sides.other_shares,
        samples=len(sides.pooled_us),
        elsewhere=sides.elsewhere,
    )


def _verdict(sides: _Sides, row: _Row, *, judged: bool) -> Verdict:
    status, reason = Status.UNCHANGED, Reason.NOT_JUDGED.value
    if judged:
        status, reason = decide(_findings(sides, row))
    story = _story(sides, row, status, reason)
    return _as_verdict(sides.measurement, story, judged=judged)


def _compare(
    sides: _Sides,
    percentile: float,
    candidate: Sequence[ProcessLogs],
    baseline: Sequence[ProcessLogs],
) -> _Compared:
    timer = sides.measurement.case.regime
    baseline_us = time_us_of(baseline)
    cards_count = sides.other_card or sides.other_shares
    parts = sides.noise.components(timer, percentile, baseline, other_card=cards_count)
    change = estimate_change(candidate, baseline, parts)
    asked = sides.limits.max_regression.get(percentile)
    margin = default_margin(timer, percentile, baseline, parts)
    if asked is not None:
        provisional = len(baseline) < MIN_PROCESSES
        margin = max(asked, provisional_margin(percentile)) if provisional else asked
    supported = supported_margin(baseline, parts)
    # A margin that was cut to its upper bound is one that unchanged processes pass by themselves.
    beyond = max(margin, supported) if asked is None else margin
    slow = agree = agreeing(candidate, baseline_us, change.relative, beyond)
    if change.interval.low > margin:
        explained = sides.explained_alone
        agree = agreeing(candidate, baseline_us, change.relative, beyond, explained)
    return _Compared(
        change=change,
        baseline_us=baseline_us,
        margin=margin,
        supported=supported,
        detectable=detectable_slowdown(baseline, parts, margin),
        settled_by=settled_by(change.relative, margin, len(candidate), baseline, parts),
        beyond=beyond,
        agreeing=agree,
        slowed_by_clock=slow - agree,
        excuse=excuse(sides.seen, change.interval.low, margin)
        or clocks_excuse(agree, slow, len(candidate)),
    )


def _reservation(sides: _Sides, baseline_processes: int) -> Reason | None:
    if sides.other_card:
        return Reason.OTHER_CARD
    return Reason.PROVISIONAL if baseline_processes < MIN_PROCESSES else None


def _target_result(limits: Limits, percentile: float, own: Interval | None) -> TargetResult:
    target_us = limits.targets_us.get(percentile)
    if target_us is None:
        return TargetResult.NONE
    if own is None:
        return TargetResult.UNKNOWN
    if own.low / limits.per > target_us:
        return TargetResult.MISSED
    return TargetResult.INSIDE if own.high / limits.per > target_us else TargetResult.MET


def _invalid(measurement: Measurement, percentile: float, limits: Limits) -> Verdict:
    assert measurement.problem is not None
    status, reason = decide(Findings(problem=measurement.problem.code))
    return Verdict(
        case=measurement.case,
        percentile=percentile,
        status=status,
        reason=reason,
        sentence=measurement.problem.message,
        target_us=limits.targets_us.get(percentile),
        per=limits.per,
    )


def _as_verdict(measurement: Measurement, story: Story, *, judged: bool) -> Verdict:
    met = {TargetResult.MET: True, TargetResult.MISSED: False}.get(story.target)
    return Verdict(
        case=measurement.case,
        percentile=story.percentile,
        status=story.status,
        reason=story.reason,
        sentence=tell(story),
        time_us=story.time_us,
        interval_us=story.own,
        baseline_us=story.baseline_us,
        change=story.change.relative if story.change else None,
        change_interval=story.change.interval if story.change else None,
        margin=story.margin,
        detectable=story.detectable,
        target_us=story.target_us,
        per=story.per,
        target_met=met,
        judged=judged,
        roofline=_roofline(measurement, story),
    )


def _roofline(measurement: Measurement, story: Story) -> Roofline | None:
    # The median alone: a tail is slow for other reasons than the card's limits.
    if measurement.work is None or story.time_us is None or story.percentile != MEDIAN:
        return None
    case = measurement.case
    return roofline(measurement.work, case.inputs, case.timer, story.time_us)
