"""
The validation report's section on whether times depend on the data.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_kernelperf.model import Independence, Measurement, Status, Verdict
from pytest_kernelperf.report.cells import change_with_interval
from pytest_kernelperf.report.markdown import bullets, code, section, table
from pytest_kernelperf.report.pooled import RecordedRun
from pytest_kernelperf.units import format_percent, format_percentile

_TITLES = ("test", "timer", "percentile", "inputs", "most apart", "difference", "supports", "bound")
_MEANING = (
    "Each test times one kernel on inputs of one shape and different content, samples in turn. "
    '"Supports" is the smallest bound that the records support: with 95 % intervals, no two of the '
    "inputs differ by as much. A test passes only if that is below its bound.",
    "It says nothing about differences below that bound, about content that was not tried, other "
    "shapes (time depends on those, openly), power, or what a neighbour on the card could see. It "
    "is no proof of constant-time execution.",
)
_RESULTS = {
    Status.UNCHANGED: "independent",
    Status.MISSED_TARGET: "**dependent**",
    Status.INCONCLUSIVE: "not shown",
}


def data_independence(runs: Sequence[RecordedRun]) -> str:
    """
    Return the section; "" if no run tested it.
    """
    found = found_in(runs)
    body = [_row(each, verdict) for each in found for verdict in each.verdicts]
    refused = [
        f"{code(each.label)} was INVALID: {each.problem.code}." for each in found if each.problem
    ]
    if not found:
        return ""
    return section(
        "Time and data",
        bullets(filter(None, [summary(runs), _cards(runs), *_MEANING, *refused])),
        table((*_TITLES, "result"), body),
    )


def evidence(runs: Sequence[RecordedRun]) -> list[tuple[str, Measurement]]:
    """
    Return every measurement that the section shows, with a name for it.
    """
    return [
        (f"{code(each.case.test)} {name}", measurement)
        for each in found_in(runs)
        for name, measurement in each.measurements.items()
    ]


def _cards(runs: Sequence[RecordedRun]) -> str:
    measured = (measurement for _, measurement in evidence(runs))
    cards = dict.fromkeys(one.environment.card for each in measured for one in each.processes)
    return f"Measured on {', '.join(cards)}." if cards else ""


def summary(runs: Sequence[RecordedRun]) -> str:
    """
    Return the section in one line; "" if no run tested it.
    """
    judged = [v for each in found_in(runs) for v in each.verdicts if v.judged]
    if not judged:
        return ""
    counts = {
        text: sum(verdict.status is status for verdict in judged)
        for status, text in _RESULTS.items()
    }
    told = ", ".join(f"{count} {text}" for text, count in counts.items() if count)
    return f"Time against content of the inputs: {told}, of {len(judged)} percentiles tested."


def found_in(runs: Sequence[RecordedRun]) -> list[Independence]:
    """
    Return all results of all runs.
    """
    return [each for run in runs for each in run.independences]


def _row(found: Independence, verdict: Verdict) -> tuple[str, ...]:
    contrasts = [each for each in found.contrasts if each.percentile == verdict.percentile]
    worst = max(contrasts, key=lambda each: each.supported, default=None)
    clock = worst.clock_difference if worst else None
    apart = f"{worst.slower} over {worst.faster}" if worst else "-"
    return (
        code(found.case.test),
        found.case.timer,
        format_percentile(verdict.percentile),
        ", ".join(found.measurements),
        apart + (f" (clock {format_percent(clock)})" if clock is not None else ""),
        change_with_interval(verdict.change, verdict.change_interval),
        format_percent(worst.supported if worst else None, signed=False),
        format_percent(verdict.margin, signed=False),
        _RESULTS.get(verdict.status, verdict.status.value) if verdict.judged else "shown only",
    )
