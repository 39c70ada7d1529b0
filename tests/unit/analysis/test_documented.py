"""
docs/verdicts.md and the code name the same statuses and reasons.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import pytest_kernelperf
from pytest_kernelperf.analysis.margins import default_margin, floor_margin, goal
from pytest_kernelperf.analysis.noise import Noise, fixed_prior
from pytest_kernelperf.analysis.reasons import MARGIN_BELOW_NOISE, Reason, ResourceReason
from pytest_kernelperf.analysis.scatter import ProcessLogs
from pytest_kernelperf.model import Status

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")
PACKAGE = Path(pytest_kernelperf.__file__).parent


def table_under(heading: str, number: int = 0) -> list[list[str]]:
    """
    Return the body cells of a table in a section.
    """
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    tables = re.findall(r"(?:^ *\|.*\n)+", section, re.MULTILINE)
    rows = tables[number].strip().splitlines()[2:]
    return [[cell.strip(" `") for cell in row.strip(" |").split("|")] for row in rows]


def test_all_statuses_are_documented_and_no_other() -> None:
    assert {status.value for status in Status} == {row[0] for row in table_under("Statuses")}


def test_all_reasons_are_documented_and_no_other() -> None:
    beyond = {MARGIN_BELOW_NOISE, Status.NOT_MEASURED.value}

    documented = [row[0] for row in table_under("Reason codes")]

    coded = {reason.value for reason in (*Reason, *ResourceReason)}
    assert coded | beyond == set(documented)
    assert len(documented) == len(set(documented))


def test_all_problems_are_documented_and_no_other() -> None:
    """The code is always the first argument."""
    sources = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    used = set(re.findall(r'Problem\(\s*(?:code=)?"([A-Z_]+)"', sources))

    documented = {row[0] for row in table_under("Reason codes", 1)}

    assert used == documented


def test_codes_are_capitals() -> None:
    assert all(
        re.fullmatch(r"[A-Z]+(_[A-Z]+)*", reason.value) for reason in (*Reason, *ResourceReason)
    )


EDGES = {"P50": 50.0, "up to P75": 75.0, "up to P97": 97.0, "above": 99.0}


@pytest.mark.parametrize("row", table_under("How a verdict comes about"), ids="-".join)
def test_the_documented_bounds_are_those_of_the_code(row: list[str]) -> None:
    timer, where, least, most, finds, prior_sd = row
    percentile = EDGES[where]
    wild = [ProcessLogs("A", np.array([level])) for level in (0.0, 5.0, 9.0)]
    prior = fixed_prior(timer, percentile)

    parts = Noise().components(timer, percentile, wild)
    bounds = floor_margin(timer, percentile), default_margin(timer, percentile, wild, parts)

    assert (_fraction(least), _fraction(most)) == pytest.approx(bounds)
    assert _fraction(finds) == pytest.approx(goal(timer, percentile))
    assert _fraction(prior_sd) ** 2 == pytest.approx(prior.variance)


def _fraction(text: str) -> float:
    return float(text.removesuffix(" %")) / 100
