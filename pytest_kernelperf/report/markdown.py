"""
Markdown for reports: tables, sections, lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """
    Return a table, its first column aligned left and the others right; "" without rows.
    """
    body = [_line(row) for row in rows]
    if not body:
        return ""
    rule = "|---" + "|---:" * (len(titles) - 1) + "|"
    return "\n".join([_line(titles), rule, *body])


def section(title: str, *blocks: str, level: int = 2) -> str:
    """
    Return a heading with the blocks that hold something under it; "" if none does.
    """
    kept = [block for block in blocks if block]
    return "\n\n".join([f"{'#' * level} {title}", *kept]) if kept else ""


def bullets(lines: Iterable[str]) -> str:
    """
    Return a list, one line each.
    """
    return "\n".join(f"* {line}" for line in lines)


def code(text: str) -> str:
    """
    Return a name as code.
    """
    return f"`{text}`"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
