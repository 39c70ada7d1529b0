"""
Draws a table into a given width: shortens and drops what matters least, folds names, cuts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO

# Between columns: rich's own divider, a blank here, is one of them.
_PADDING = 2
# A name folded narrower than this can't be read any more.
_LEAST_NAME = 16
# What cells show that have nothing to show.
_NOTHING = ("", "-")


@dataclass(frozen=True)
class Column:
    """
    A table's column.

    Attributes:
        title: Its heading.
        right: Align by the end, as numbers are.
        folds: Its cells may break over several lines; the others never do.
        optional: Left out at any width where no row has anything for it.
    """

    title: str
    right: bool = False
    folds: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Row:
    """
    A row of cells, one per column.

    Attributes:
        short: Shorter texts, by column title.
        style: rich's style, used where colours are on.
    """

    cells: tuple[str, ...]
    short: Mapping[str, str] = field(default_factory=dict)
    style: str = ""


@dataclass(frozen=True)
class Narrowing:
    """
    One step of making a table narrower.
    """

    title: str
    drop: bool = False


def shorten(title: str) -> Narrowing:
    """
    Use a column's shorter texts.
    """
    return Narrowing(title)


def drop(title: str) -> Narrowing:
    """
    Leave a column out.
    """
    return Narrowing(title, drop=True)


#: Leave out every column in which no row has anything.
DROP_EMPTY = Narrowing("", drop=True)


def draw(
    columns: Sequence[Column],
    rows: Sequence[Row],
    narrowing: Sequence[Narrowing] = (),
    *,
    title: str = "",
    width: int,
    color: bool,
) -> str:
    """
    Return the table as text, ending without a newline.

    Args:
        columns: Left to right.
        rows: Top to bottom.
        narrowing: Tried one after the other until the table fits.
        title: A line above it.
        width: Columns of the terminal; exceeded only where even the last step does not fit.
        color: Whether escape codes may be used.
    """
    unused = {column.title for column in columns if column.optional}
    for empty in unused.intersection(_empty_titles(columns, rows)):
        columns, rows = _narrowed(columns, rows, drop(empty))
    for step in (None, *narrowing):
        if step is not None:
            columns, rows = _narrowed(columns, rows, step)
        if _least_width(columns, rows) <= width:
            break
    width = max(width, _least_width(columns, rows))
    body = _rendered(columns, _folded(columns, rows, width), width, color=color)
    lines = [line.rstrip() for line in body.splitlines()]
    return "\n".join([title, *lines] if title else lines)


def _narrowed(
    columns: Sequence[Column], rows: Sequence[Row], step: Narrowing
) -> tuple[list[Column], list[Row]]:
    if step == DROP_EMPTY:
        for empty in _empty_titles(columns, rows):
            columns, rows = _narrowed(columns, rows, drop(empty))
        return list(columns), list(rows)
    titles = [column.title for column in columns]
    if step.title not in titles:
        return list(columns), list(rows)
    index = titles.index(step.title)
    if step.drop:
        kept = [column for at, column in enumerate(columns) if at != index]
        return kept, [_with_cells(row, row.cells[:index] + row.cells[index + 1 :]) for row in rows]
    return list(columns), [
        _with_cells(
            row,
            (
                *row.cells[:index],
                row.short.get(step.title, row.cells[index]),
                *row.cells[index + 1 :],
            ),
        )
        for row in rows
    ]


def _empty_titles(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    cells = zip(*(row.cells for row in rows), strict=True)
    return [
        column.title
        for column, texts in zip(columns, cells, strict=True)
        if all(text in _NOTHING for text in texts)
    ]


def _with_cells(row: Row, cells: tuple[str, ...]) -> Row:
    return Row(cells, row.short, row.style)


def _folded(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[Row]:
    """
    Return the rows with names broken that do not fit.
    """
    index = next((at for at, column in enumerate(columns) if column.folds), None)
    if index is None:
        return list(rows)
    widths = _natural_widths(columns, rows)
    room = width - sum(widths) + widths[index] - _PADDING * (len(columns) - 1)
    names = _spread([row.cells[index] for row in rows], room)
    return [
        _with_cells(row, (*row.cells[:index], name, *row.cells[index + 1 :]))
        for row, name in zip(rows, names, strict=True)
    ]


def _spread(names: Sequence[str], room: int) -> Iterator[str]:
    """
    Yield each name's lines over its own row and the rows below it that have no name.
    """
    waiting: list[str] = []
    for name, following in zip(names, (*names[1:], "end"), strict=True):
        waiting = fold(name, room) if name else waiting
        yield "\n".join(waiting if following else waiting[:1])
        waiting = waiting[1:]


def fold(name: str, room: int) -> list[str]:
    """
    Return a name in lines no wider than the room, broken before its parameters or after "_" or "/".

    A part that has no such place is left to whoever draws it.
    """
    if len(name) <= room:
        return [name]
    head, bracket, parameters = name.partition("[")
    lines: list[str] = []
    for text in (head, bracket + parameters):
        for at, piece in enumerate(re.findall(r"[^_/:, -]*[_/:, -]*", text)[:-1]):
            if at and len(lines[-1]) + len(piece) <= room:
                lines[-1] += piece
            else:
                lines.append(f"  {piece}" if lines else piece)
    return lines


def _least_width(columns: Sequence[Column], rows: Sequence[Row]) -> int:
    widths = zip(columns, _natural_widths(columns, rows), strict=True)
    least = sum(min(width, _LEAST_NAME) if each.folds else width for each, width in widths)
    return least + _PADDING * (len(columns) - 1)


def _natural_widths(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    return [
        max([len(column.title), *(len(row.cells[index]) for row in rows)])
        for index, column in enumerate(columns)
    ]


def _rendered(columns: Sequence[Column], rows: Sequence[Row], width: int, *, color: bool) -> str:
    # rich takes 50 ms to import, and only a run that measured something draws a table.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(
        box=box.SIMPLE_HEAD, padding=(0, _PADDING - 1, 0, 0), pad_edge=False, show_edge=False
    )
    for column in columns:
        drawn.add_column(
            Text(column.title),
            justify="right" if column.right else "left",
            no_wrap=not column.folds,
            overflow="fold",
        )
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row.cells), style=row.style or None)
    text = StringIO()
    Console(
        file=text,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        legacy_windows=False,
        _environ={},
    ).print(drawn)
    return text.getvalue()
