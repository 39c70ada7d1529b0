"""
Kernels that were really slowed on an H100, and the same unchanged: the gate on what it saw live.

Twenty runs of `benchmarks/gate_evidence.py` on two cards, each of 21 tests in three projects,
against a baseline of five processes of that card; what was undecided was measured in fresh
processes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pytest
from live import said, told

from pytest_kernelperf.gate import Gate
from pytest_kernelperf.model import Recorded, Status, Verdict
from pytest_kernelperf.report import reasons, table
from pytest_kernelperf.store.runs import read_run

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "data" / "h100"
RUNS = tuple(
    f"{card}/run{number}"
    for card, count in (("slowed_2b382370", 9), ("slowed_c145c352", 11))
    for number in range(count)
)
#: The tests of each project, in the order of a run's records.
UNCHANGED, SLOWER_3, SLOWER_10 = slice(0, 9), slice(9, 12), slice(12, 21)
#: What the README shows comes from this run.
SHOWN, README_VERDICTS = "slowed_2b382370/run0", (8, 10)


@lru_cache
def recorded(name: str) -> tuple[Recorded, ...]:
    """
    Return the measurements of one run, of the three projects one after the other.
    """
    return read_run(FOLDER / f"{name}.run.gz").recorded


@lru_cache
def judged(name: str) -> tuple[Verdict, ...]:
    """
    Return the one verdict on each measurement of a run.
    """
    return tuple(
        verdict
        for one in recorded(name)
        for verdict in gate_of(name, one.measurement.case.file).judge(one.measurement, one.limits)
    )


@lru_cache
def gate_of(name: str, file: str) -> Gate:
    """
    Return what judges a file's tests: each project has its own baselines, or all have the same.
    """
    card = (FOLDER / name).parent
    project = Path(file).stem.removeprefix("test_")
    own = card / project / "baselines"
    return Gate(own if own.is_dir() else card / "baselines")


@pytest.mark.parametrize("name", RUNS)
def test_unchanged_kernels_pass_and_slowed_ones_fail(name) -> None:
    statuses = [verdict.status for verdict in judged(name)]

    assert [Status.UNCHANGED] * 9 == statuses[UNCHANGED]
    assert [Status.REGRESSED] * 3 == statuses[SLOWER_3]
    assert [Status.REGRESSED] * 9 == statuses[SLOWER_10]


@pytest.mark.parametrize("name", RUNS)
def test_the_verdicts_are_those_of_the_card(name) -> None:
    assert told(recorded(name)) == said(judged(name))


@pytest.mark.parametrize("name", RUNS)
def test_no_process_alone_said_that_a_kernel_became_slower(name) -> None:
    counts = [len(one.measurement.processes) for one in recorded(name)]

    assert {3} == {*counts[SLOWER_3], *counts[SLOWER_10]}
    assert {1, 3, 5} >= {*counts[UNCHANGED]}


@pytest.mark.parametrize("name", RUNS)
def test_what_is_shown_to_be_slower_is_about_as_much_slower_as_it_was_made(name) -> None:
    changes = [verdict.change for verdict in judged(name)]

    assert all(0.025 < change < 0.045 for change in changes[SLOWER_3])
    assert all(0.09 < change < 0.14 for change in changes[SLOWER_10])


def test_the_readme_shows_what_is_said_of_these_records() -> None:
    shown = re.search(r"```\n(test  .*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert shown
    rows_shown, _, why = shown[1].partition("\n\n")
    verdicts = [judged(SHOWN)[index] for index in README_VERDICTS]
    rows = table(verdicts, width=400, color=False).splitlines()[-len(verdicts) :]

    for line, row in zip(rows_shown.splitlines()[2:], rows, strict=True):
        cells = map(re.escape, re.split(r"\s{2,}", line.strip()))
        assert re.search(".*".join(cells), row), row
    assert why.split() == reasons(verdicts, rerun=_rerun).split()


def _rerun(verdict: Verdict) -> str:
    return f"python -m pytest '{verdict.case.file}::{verdict.case.test}' --kernelperf"
