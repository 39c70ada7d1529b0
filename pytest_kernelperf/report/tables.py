"""
Terminal tables: verdicts and stored baselines.

A terminal too narrow for everything loses columns from the least telling one, never a part of a
verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_kernelperf.analysis import percentile_us
from pytest_kernelperf.model import Entry, Reference, Status, Verdict
from pytest_kernelperf.report.cells import (
    change_with_interval,
    limit_text,
    percentile_text,
    share_text,
    target_text,
    time_with_interval,
    verdict_text,
)
from pytest_kernelperf.report.layout import DROP_EMPTY, Column, Row, draw, drop, shorten
from pytest_kernelperf.units import format_percent, format_percentile, format_us

_VERDICT_COLUMNS = (
    Column("test", folds=True),
    Column("timer"),
    Column("pct", right=True),
    Column("time", right=True),
    Column("baseline", right=True),
    Column("change", right=True),
    Column("margin", right=True),
    Column("finds", right=True),
    Column("target", right=True),
    Column("of limit", right=True, optional=True),
    Column("verdict"),
)
# The change's interval and the margin decide, so they go after everything that the verdict or a
# wider terminal tells as well. A first run has no baseline, and columns of dashes tell nothing.
_VERDICT_NARROWING = (
    DROP_EMPTY,
    shorten("of limit"),
    shorten("time"),
    drop("of limit"),
    drop("baseline"),
    shorten("timer"),
    drop("target"),
    drop("finds"),
    drop("margin"),
    shorten("change"),
    drop("timer"),
    drop("time"),
    drop("change"),
)
#: rich's style of a row by its verdict's status.
STYLES = {
    Status.UNCHANGED: "green",
    Status.IMPROVED: "bold green",
    Status.REGRESSED: "bold red",
    Status.MISSED_TARGET: "bold red",
    Status.INVALID: "bold red",
    Status.NOT_MEASURED: "bold red",
}
_UNJUDGED_STYLE = "dim"
UNSURE_STYLE = "yellow"


def table(verdicts: Sequence[Verdict], *, width: int, color: bool) -> str:
    """
    Return one table of verdicts, in their order.

    Args:
        verdicts: Rows of one measurement should follow each other: its name is shown once.
        width: Columns of the terminal.
        color: Whether to colour by status; without it the text holds no escape codes.
    """
    if not verdicts:
        return ""
    files = {verdict.case.file for verdict in verdicts}
    title = next(iter(files)) if len(files) == 1 else ""
    rows = []
    previous: Verdict | None = None
    for verdict in verdicts:
        rows.append(_verdict_row(verdict, previous, with_file=not title))
        previous = verdict
    return draw(_VERDICT_COLUMNS, rows, _VERDICT_NARROWING, title=title, width=width, color=color)


def baseline_table(
    slug: str, file: str, entries: Mapping[str, Entry], *, width: int, color: bool
) -> str:
    """
    Return what a baseline file holds: a row per entry and stored percentile.

    Args:
        slug: The card model's folder.
        file: The test file, relative to the anchor.
        entries: By key, as `Baselines.load` returns them.
        width: Columns of the terminal.
        color: Whether escape codes may be used.
    """
    columns = (
        Column("test", folds=True),
        Column("timer"),
        Column("pct", right=True),
        Column("time", right=True),
        Column("margin", right=True),
        Column("processes", right=True),
        Column("recorded"),
    )
    narrowing = (drop("recorded"), drop("timer"), drop("processes"), drop("margin"))
    rows = [row for key, entry in entries.items() for row in _entry_rows(key, entry)]
    return draw(columns, rows, narrowing, title=f"{file} on {slug}", width=width, color=color)


def _verdict_row(verdict: Verdict, previous: Verdict | None, *, with_file: bool) -> Row:
    case = verdict.case
    name = case.label if with_file else case.label.removeprefix(f"{case.file}::")
    same_test = previous is not None and previous.case.label == case.label
    same_case = previous is not None and previous.case == case
    timer = f"{case.timer} {case.l2}"
    cells = (
        "" if same_test else name,
        "" if same_case else timer,
        percentile_text(verdict),
        time_with_interval(verdict.time_us, verdict.interval_us),
        format_us(verdict.baseline_us),
        change_with_interval(verdict.change, verdict.change_interval),
        format_percent(verdict.margin, signed=False),
        format_percent(verdict.detectable),
        target_text(verdict),
        limit_text(verdict.roofline),
        verdict_text(verdict),
    )
    short = {
        "timer": "" if same_case else case.timer,
        "time": format_us(verdict.time_us),
        "change": format_percent(verdict.change),
        "of limit": share_text(verdict.roofline) or limit_text(verdict.roofline),
    }
    style = STYLES.get(verdict.status, UNSURE_STYLE) if verdict.judged else _UNJUDGED_STYLE
    return Row(cells, short, style)


def _entry_rows(key: str, entry: Entry) -> list[Row]:
    test, _, timer = key.rpartition(" | ")
    reference = entry.reference
    rows: list[Row] = []
    for percentile in sorted(reference.margins) or (50.0,):
        first = not rows
        rows.append(
            Row(
                (
                    test if first else "",
                    timer if first else "",
                    format_percentile(percentile),
                    format_us(percentile_us(reference.processes, percentile)),
                    format_percent(reference.margins.get(percentile), signed=False),
                    _processes_text(reference) if first else "",
                    _recorded_text(reference) if first else "",
                )
            )
        )
    return rows


def _processes_text(reference: Reference) -> str:
    cards = len({process.environment.card for process in reference.processes})
    count = len(reference.processes)
    return f"{count} on {cards} cards" if cards > 1 else str(count)


def _recorded_text(reference: Reference) -> str:
    latest = max(reference.processes, key=lambda process: process.started)
    return " ".join(part for part in (latest.started[:10], latest.commit[:9]) if part)
