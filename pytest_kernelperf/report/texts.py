"""
Lines and paragraphs under the tables: reasons, notes, what an update did, and the last line.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence

from pytest_kernelperf.analysis.reasons import BESIDE_BASELINES, MARGIN_BELOW_NOISE, Reason
from pytest_kernelperf.model import NOT_JUDGED, Change, Recorded, Status, Verdict
from pytest_kernelperf.report.cells import is_compiled
from pytest_kernelperf.units import counted, format_percent, format_percentile, format_us, listed

_QUIET = frozenset({Status.UNCHANGED, Status.IMPROVED})
# A first run has no baseline for anything; its paragraphs would all say the same.
_MOST_ALIKE = 3
# What verdicts that pass under a reservation need, said once for all of them.
_RESERVED = {
    Reason.PROVISIONAL.value: (
        "PROVISIONAL: {count} judged with a wide margin, against baselines of fewer than 3 "
        "processes; run --kernelperf-update again to complete them (records: "
        "--kernelperf-processes 3)."
    ),
    Reason.OTHER_CARD.value: (
        "OTHER_CARD: {count} judged with a wider interval, against baselines of other cards; run "
        "--kernelperf-update on this card to judge it by its own."
    ),
}


def last_line(verdicts: Sequence[Verdict], failed: int = 0, lacking: int = 0) -> str:
    """
    Return the run's last line: how many percentiles were judged, and why the others were not.

    Percentiles that are only shown count nowhere.

    Args:
        verdicts: Of the run.
        failed: Tests that failed before anything of them could be judged.
        lacking: Tests skipped because the machine lacks what they require.
    """
    statuses = [verdict.status for verdict in verdicts if verdict.judged]
    missing = Counter(status.value for status in statuses if status in NOT_JUDGED)
    line = f"kernelperf: {len(statuses) - missing.total()} judged"
    if failed:
        line += f", {counted(failed, 'test')} failed without a verdict"
    if missing:
        ordered = sorted(missing.items(), key=lambda item: (-item[1], item[0]))
        named = ", ".join(f"{count} {status}" for status, count in ordered)
        line += f", {missing.total()} NOT judged ({named})"
    if lacking:
        line += f", {counted(lacking, 'test')} skipped for what this machine lacks"
    return line


def reasons(verdicts: Sequence[Verdict], *, rerun: Callable[[Verdict], str]) -> str:
    """
    Return a paragraph per judged verdict that is neither UNCHANGED nor IMPROVED.

    Below them, a line per reservation that the passing verdicts carry.

    Args:
        verdicts: Any; those that are only shown are left out.
        rerun: Gives the command that measures a verdict's test again.
    """
    judged = [verdict for verdict in verdicts if verdict.judged]
    loud = [verdict for verdict in judged if verdict.status not in _QUIET]
    bare = [verdict for verdict in loud if verdict.status is Status.NO_BASELINE]
    if len(bare) > _MOST_ALIKE:
        loud = [verdict for verdict in loud if verdict.status is not Status.NO_BASELINE]
    blocks = [_paragraph(verdict, rerun(verdict)) for verdict in loud]
    if len(bare) > _MOST_ALIKE:
        blocks.append(_without_baseline(bare))
    blocks += _notes([verdict for verdict in judged if verdict.status in _QUIET])
    return "\n\n".join(blocks)


def headline(verdicts: Sequence[Verdict]) -> str:
    """
    Return the gist of a failed test in one line, the figure first.

    It stands behind the test's name, in a terminal that cuts it off: it does not repeat the name.

    Args:
        verdicts: Those that fail the test, at least one.
    """
    first = verdicts[0]
    if is_compiled(first):
        return f"{first.status.value} [{first.case.l2}] {first.reason}: {first.sentence}"
    if first.status is Status.NOT_MEASURED:
        return f"{first.status.value} {first.sentence}"
    head = f"{first.status.value} {format_percentile(first.percentile)} [{first.case.timer}]"
    name = f"; {first.case.name}" if first.case.name else ""
    more = f"; and {len(verdicts) - 1} more" if len(verdicts) > 1 else ""
    return f"{head} {_gist(first)}{name}{more}"


def _gist(verdict: Verdict) -> str:
    if verdict.status is Status.REGRESSED:
        return (
            f"{format_percent(verdict.change)} (margin "
            f"{format_percent(verdict.margin, signed=False)}): {format_us(verdict.time_us)}, "
            f"was {format_us(verdict.baseline_us)}"
        )
    if verdict.reason in BESIDE_BASELINES:
        return verdict.sentence.partition(":")[0]
    if verdict.status is Status.MISSED_TARGET and verdict.time_us is not None:
        each = " per item" if verdict.per != 1 else ""
        return (
            f"{format_us(verdict.time_us / verdict.per)}{each}, "
            f"target {format_us(verdict.target_us)}"
        )
    return f"({verdict.reason})"


def update_lines(changes: Sequence[Change]) -> str:
    """
    Return a line per case that an update looked at: what it did, the times, and why.
    """
    return "\n".join(_update_line(change) for change in changes)


def first_launches(recorded: Sequence[Recorded]) -> str:
    """
    Return a line per measurement of single launches: its bursts, and what the first of each took.

    The first launch of a burst is slower and kept out of the samples, or it would be the tail.
    """
    return "\n".join(line for line in map(_first_launch_line, recorded) if line)


def _first_launch_line(recorded: Recorded) -> str:
    measurement = recorded.measurement
    rounds = [each for process in measurement.processes for each in process.rounds]
    first = [time_us for each in rounds for time_us in each.first_us]
    others = [time_us for each in rounds for time_us in each.times_us]
    if not first or not others:
        return ""
    apart, usual = statistics.median(first), statistics.median(others)
    return (
        f"{measurement.case.label} [{measurement.case.timer}]: bursts of {measurement.plan.burst} "
        f"launches; the first of each, kept apart, took {format_us(apart)} at P50 "
        f"({format_percent(apart / usual - 1)})"
    )


def _paragraph(verdict: Verdict, command: str) -> str:
    case = verdict.case
    head = f"{verdict.status.value} {case.label} [{case.timer}]"
    if is_compiled(verdict):
        head = f"{verdict.status.value} {case.label} [{case.l2}]"
    elif verdict.status is not Status.NOT_MEASURED:
        head += f" {format_percentile(verdict.percentile)}"
    if verdict.reason != verdict.status.value:
        head += f" ({verdict.reason})"
    return f"{head}\n  {verdict.sentence}\n  rerun: {command}"


def _without_baseline(verdicts: Sequence[Verdict]) -> str:
    labels = list(dict.fromkeys(verdict.case.label for verdict in verdicts))
    shown = listed(labels, _MOST_ALIKE)
    return (
        f"NO_BASELINE {len(verdicts)} percentiles of {len(labels)} tests: {shown}\n"
        f"  for example: {verdicts[0].sentence}"
    )


def _notes(verdicts: Sequence[Verdict]) -> list[str]:
    counts = Counter(verdict.reason for verdict in verdicts)
    notes = [
        text.format(count=counts[reason]) for reason, text in _RESERVED.items() if counts[reason]
    ]
    notes += [
        f"{verdict.case.label} [{verdict.case.timer}] {format_percentile(verdict.percentile)} "
        f"{verdict.sentence[verdict.sentence.index(MARGIN_BELOW_NOISE) :]}"
        for verdict in verdicts
        if MARGIN_BELOW_NOISE in verdict.sentence
    ]
    return ["\n".join(notes)] if notes else []


def _update_line(change: Change) -> str:
    case = change.case
    times = ", ".join(_moved(change, q) for q in sorted({*change.before_us, *change.after_us}))
    parts = [f"{change.action:<8} {case.label} [{case.timer} {case.l2}]", times, change.sentence]
    return ": ".join(part for part in parts if part)


def _moved(change: Change, percentile: float) -> str:
    before = change.before_us.get(percentile)
    after = change.after_us.get(percentile)
    is_only_measured = change.action in ("kept", "refused")
    texts = []
    if before is not None:
        texts.append(format_us(before))
    if after is not None:
        texts.append(f"measured {format_us(after)}" if is_only_measured else format_us(after))
    line = (", " if is_only_measured else " -> ").join(texts)
    if before is not None and after is not None:
        line += f" ({format_percent(after / before - 1)})"
    return f"{format_percentile(percentile)} {line}"
