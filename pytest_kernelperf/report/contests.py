"""
Terminal tables of what was measured side by side: callables, also as a matrix, and inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_kernelperf.model import Comparison, Independence, Ratio, Standing, Status, Verdict
from pytest_kernelperf.report.cells import change_with_interval, speedup_with_interval, status_text
from pytest_kernelperf.report.layout import DROP_EMPTY, Column, Row, draw, drop, shorten
from pytest_kernelperf.report.tables import STYLES, UNSURE_STYLE, table
from pytest_kernelperf.units import format_percent, format_percentile, format_us

_COLUMNS = (
    Column("compared", folds=True),
    Column("callable"),
    Column("P50", right=True),
    Column("speed-up", right=True),
    Column("asked", right=True),
    Column("verdict"),
)
_NARROWING = (DROP_EMPTY, shorten("verdict"), shorten("speed-up"), drop("asked"), drop("P50"))
#: Marks a cell of the matrix whose verdict is not good.
_MARKS = {Status.MISSED_TARGET: " !", Status.INCONCLUSIVE: " ?"}
_STANDING_STYLES = {Standing.FASTER: "green", Standing.SLOWER: UNSURE_STYLE}


def tables(
    verdicts: Sequence[Verdict],
    compared: Sequence[Comparison],
    contrasted: Sequence[Independence],
    *,
    width: int,
    color: bool,
) -> str:
    """
    Return all tables of a run, one blank line between: verdicts, compared callables and inputs.

    Args:
        verdicts: Without those of what was compared, which stand in rows of their own.
        compared: Callables, in the order measured.
        contrasted: Inputs, in the order measured.
        width: Columns of the terminal.
        color: Whether escape codes may be used.
    """
    blocks = (
        table(verdicts, width=width, color=color),
        comparisons(compared, width=width, color=color),
        matrices(compared, width=width, color=color),
        independences(contrasted, width=width, color=color),
    )
    return "\n\n".join(block for block in blocks if block)


def comparisons(found: Sequence[Comparison], *, width: int, color: bool) -> str:
    """
    Return a row per callable of every valid comparison: P50, speed-up over the reference, verdict.

    A callable of which nothing was asked shows how it stands instead of a verdict.

    Args:
        found: In the order measured.
        width: Columns of the terminal.
        color: Whether escape codes may be used.
    """
    rows = [
        _row(comparison, ratio, is_first=ratio is comparison.ratios[0])
        for comparison in found
        for ratio in comparison.ratios
    ]
    return draw(_COLUMNS, rows, _NARROWING, width=width, color=color) if rows else ""


def matrices(found: Sequence[Comparison], *, width: int, color: bool) -> str:
    """
    Return a matrix per test that compared the same callables for several parameter sets.

    Rows are the parameters, columns the callables: the reference's P50, the others' speed-ups.
    A "!" marks one that missed what was asked, a "?" one that could not be told.

    Args:
        found: In the order measured.
        width: Columns of the terminal.
        color: Whether escape codes may be used.
    """
    groups: dict[tuple[object, ...], list[Comparison]] = {}
    for comparison in found:
        if comparison.ratios and comparison.case and "[" in comparison.case.test:
            groups.setdefault(_group(comparison), []).append(comparison)
    blocks = [
        _matrix(group, width=width, color=color) for group in groups.values() if len(group) > 1
    ]
    return "\n\n".join(blocks)


def independences(found: Sequence[Independence], *, width: int, color: bool) -> str:
    """
    Return a row per percentile of every valid `data_independence`: the two inputs most apart.

    Args:
        found: In the order measured.
        width: Columns of the terminal.
        color: Whether escape codes may be used.
    """
    columns = (
        Column("same callable, other data", folds=True),
        Column("timer"),
        Column("pct", right=True),
        Column("most apart"),
        Column("difference", right=True),
        Column("supports", right=True),
        Column("bound", right=True),
        Column("verdict"),
    )
    narrowing = (shorten("verdict"), drop("timer"), shorten("difference"), drop("most apart"))
    rows = [
        _contrast_row(each, verdict, is_first=verdict is each.verdicts[0])
        for each in found
        for verdict in each.verdicts
    ]
    return draw(columns, rows, narrowing, width=width, color=color) if rows else ""


def _contrast_row(found: Independence, verdict: Verdict, *, is_first: bool) -> Row:
    contrasts = [each for each in found.contrasts if each.percentile == verdict.percentile]
    worst = max(contrasts, key=lambda each: each.supported, default=None)
    cells = (
        f"{found.label} ({', '.join(found.measurements)})" if is_first else "",
        found.case.timer if is_first else "",
        format_percentile(verdict.percentile),
        f"{worst.slower} over {worst.faster}" if worst else "-",
        change_with_interval(verdict.change, verdict.change_interval),
        format_percent(worst.supported if worst else None, signed=False),
        format_percent(verdict.margin, signed=False),
        f"{verdict.status.value} {verdict.reason}" if verdict.judged else status_text(verdict),
    )
    short = {"verdict": status_text(verdict), "difference": format_percent(verdict.change)}
    return Row(cells, short, STYLES.get(verdict.status, UNSURE_STYLE) if verdict.judged else "dim")


def _row(comparison: Comparison, ratio: Ratio, *, is_first: bool) -> Row:
    label = comparison.label if comparison.case is None else comparison.case.label
    verdict = ratio.verdict
    cells = (
        label if is_first else "",
        ratio.name,
        format_us(ratio.time_us),
        speedup_with_interval(ratio.speedup, ratio.speedup_interval),
        f"{ratio.min_speedup:g}x" if ratio.min_speedup else "",
        _said(ratio),
    )
    style = STYLES.get(verdict.status, UNSURE_STYLE) if verdict else ""
    short = {"speed-up": f"{ratio.speedup:.3f}x", "verdict": _said(ratio).partition(" ")[0]}
    return Row(cells, short, style or _STANDING_STYLES.get(ratio.standing, ""))


def _said(ratio: Ratio) -> str:
    if ratio.verdict is None:
        return ratio.standing.value
    return f"{ratio.verdict.status.value} {ratio.verdict.reason}"


def _group(comparison: Comparison) -> tuple[object, ...]:
    case = comparison.case
    assert case is not None
    names = tuple(ratio.name for ratio in comparison.ratios)
    return case.file, case.test.split("[")[0], case.name, case.timer, comparison.reference, names


def _matrix(group: Sequence[Comparison], *, width: int, color: bool) -> str:
    first = group[0]
    assert first.case is not None
    names = [ratio.name for ratio in first.ratios if ratio.name != first.reference]
    columns = (
        Column("parameters", folds=True),
        Column(f"{first.reference} (P50)", right=True),
        *(Column(name, right=True) for name in names),
    )
    title = f"{first.case.file}::{first.case.test.split('[')[0]}: speed-up over {first.reference}"
    narrowing = [shorten(name) for name in names]
    rows = [_matrix_row(comparison) for comparison in group]
    return draw(
        columns, rows, narrowing, title=f"{title}, {first.case.timer}", width=width, color=color
    )


def _matrix_row(comparison: Comparison) -> Row:
    assert comparison.case is not None
    others = [ratio for ratio in comparison.ratios if ratio.name != comparison.reference]
    reference = next(r for r in comparison.ratios if r.name == comparison.reference)
    marks = {
        ratio.name: _MARKS.get(ratio.verdict.status, "") if ratio.verdict else ""
        for ratio in others
    }
    cells = (
        comparison.case.test.split("[", 1)[1].removesuffix("]"),
        format_us(reference.time_us),
        *(
            speedup_with_interval(ratio.speedup, ratio.speedup_interval) + marks[ratio.name]
            for ratio in others
        ),
    )
    short = {ratio.name: f"{ratio.speedup:.3f}x{marks[ratio.name]}" for ratio in others}
    return Row(cells, short)
