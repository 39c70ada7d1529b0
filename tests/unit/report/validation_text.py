"""
Runs for the validation report, and what there is to ask of its text.
"""

from __future__ import annotations

import re

from pytest_kernelperf.model import Comparison, Independence, Recorded
from pytest_kernelperf.store.runs import Run


def section(text: str, title: str) -> str:
    """
    Return what stands under a heading, down to the next one of its level or above.
    """
    mark = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    if mark is None:
        return ""
    rest = text[mark.end() :]
    following = re.search(rf"^#{{2,{len(mark[1])}}} ", rest, re.MULTILINE)
    return rest[: following.start()] if following else rest


def cells(text: str, title: str, number: int = 0) -> list[dict[str, str]]:
    """
    Return a table of a section: a dictionary of column title to cell for each row.
    """
    found = re.findall(r"(?:^\|.*\n?)+", section(text, title), re.MULTILINE)[number]
    titles, _, *body = (
        [cell.strip() for cell in line.strip()[1:-1].split("|")] for line in found.splitlines()
    )
    return [dict(zip(titles, row, strict=True)) for row in body]


def run(
    *records: Recorded | Comparison | Independence, name: str = "run.gz", complete: bool = True
) -> Run:
    """
    Return a run that recorded so much.
    """
    recorded = tuple(each for each in records if isinstance(each, Recorded))
    compared = tuple(each for each in records if isinstance(each, Comparison))
    contrasted = tuple(each for each in records if isinstance(each, Independence))
    return Run(name, recorded, compared, complete, independences=contrasted)
