"""
`kernelperf report`: status, text and files.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

EARLIER = {
    "name": "old report",
    "source": "a drawer",
    "protocol": "a stopwatch",
    "per": "sequence",
    "times_us": {"8": {"50": 2.6}},
}


def test_the_validation_report_goes_to_the_terminal(kernelperf, record) -> None:
    result = kernelperf("report", "--validation", record("new"))

    assert 0 == result.exit_code
    assert "# Validation report" == result.output.splitlines()[0]
    assert "`test_attention[8]`" in result.output


def test_several_runs_are_one_report(kernelperf, record) -> None:
    result = kernelperf("report", "--validation", record("a"), record("b"))

    assert 0 == result.exit_code
    assert "each in 2 processes" in result.output


def test_it_is_written_to_a_file(kernelperf, record, tmp_path: Path) -> None:
    out = tmp_path / "report.md"
    run = record("new")
    result = kernelperf("report", "--validation", run, "--out", out)

    assert (0, f"wrote {out}\n") == (result.exit_code, result.output)
    assert kernelperf("report", "--validation", run).output == out.read_text(encoding="utf-8")


def test_earlier_figures_come_from_a_file(kernelperf, record, tmp_path: Path) -> None:
    beside = tmp_path / "earlier.json"
    beside.write_text(json.dumps(EARLIER))
    result = kernelperf("report", "--validation", record("new"), "--beside", beside)

    assert 0 == result.exit_code
    assert "| old report P50 |" in result.output


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"name": 3}', "\x00"])
def test_an_unreadable_file_of_earlier_figures_is_exit_status_2(
    kernelperf, record, tmp_path: Path, content: str | None
) -> None:
    beside, out = tmp_path / "earlier.json", tmp_path / "report.md"
    if content is not None:
        beside.write_text(content)
    run = record("new")
    result = kernelperf("report", "--validation", run, "--beside", beside, "--out", out)

    assert 2 == result.exit_code
    assert result.output.startswith("Error: ")
    assert not out.exists()


def test_a_file_that_cannot_be_written_is_refused(kernelperf, record, tmp_path: Path) -> None:
    result = kernelperf("report", "--validation", record("new"), "--out", tmp_path)

    assert 2 == result.exit_code
    assert "is a directory" in result.output


@pytest.mark.parametrize("arguments", [["--validation"], ["run.gz"], ["--validation", "none.gz"]])
def test_wrong_usage_is_exit_status_2(kernelperf, arguments: list[str]) -> None:
    """
    No run, no kind of report, and a run that is not there.
    """
    assert 2 == kernelperf("report", *arguments).exit_code


def test_a_report_says_that_a_run_was_cut_off(kernelperf, record) -> None:
    result = kernelperf("report", "--validation", record("new", complete=False))

    assert 0 == result.exit_code
    assert "`new.jsonl` was cut off" in result.output


def test_the_seed_reports_figures_are_read(kernelperf, record) -> None:
    """
    The shipped file of the seed's figures is of the form that the command wants.
    """
    beside = Path(__file__).parents[2] / "docs" / "data" / "seed_report.json"

    assert 0 == kernelperf("report", "--validation", record("new"), "--beside", beside).exit_code
