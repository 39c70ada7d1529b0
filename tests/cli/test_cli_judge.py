"""
`kernelperf judge`: status, text and files.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_kernelperf.cli.failing import failing_tests
from pytest_kernelperf.model import FAILING, Against, Comparison, Problem, Status
from pytest_kernelperf.store.runs import Run, RunWriter


def test_an_unchanged_run_passes(kernelperf, baseline, record) -> None:
    result = kernelperf("judge", record("new"))

    assert 0 == result.exit_code
    assert "UNCHANGED" in result.output
    assert "kernelperf: 1 judged" == result.output.splitlines()[-1]


def test_a_slower_run_fails_with_reason_and_rerun_command(kernelperf, baseline, record) -> None:
    result = kernelperf("judge", record("slow", 3.6, processes=3))

    assert 1 == result.exit_code
    assert "REGRESSED" in result.output
    assert "SLOWER_THAN_BASELINE" in result.output
    assert (
        "python -m pytest 'tests/perf/test_attention.py::test_attention[8]' --kernelperf"
        in result.output
    )


def test_without_a_baseline_it_passes_and_fails_under_strict(kernelperf, record) -> None:
    run = record("new")
    relaxed, strict = kernelperf("judge", run), kernelperf("judge", run, "--strict")

    assert [0, 1] == [relaxed.exit_code, strict.exit_code]
    for result in (relaxed, strict):
        assert "NO_BASELINE" in result.output
        assert "1 NOT judged (1 NO_BASELINE)" in result.output.splitlines()[-1]


def test_judging_writes_nothing(kernelperf, project, baseline, record) -> None:
    before = baseline.read_bytes()
    kernelperf("judge", record("fast", 2.8))

    assert before == baseline.read_bytes()
    assert [baseline] == [p for p in (project / "baselines").rglob("*") if p.is_file()]


def test_several_runs_are_judged_each(kernelperf, baseline, record) -> None:
    result = kernelperf("judge", record("new"), record("slow", 3.6, processes=3))

    assert 1 == result.exit_code
    assert "kernelperf: 2 judged" == result.output.splitlines()[-1]


def test_the_json_file_says_the_same(kernelperf, baseline, record, tmp_path: Path) -> None:
    file = tmp_path / "verdicts.json"
    result = kernelperf("judge", record("slow", 3.6, processes=3), "--json", file)
    text = file.read_text()

    assert 1 == result.exit_code
    assert "schema_version" == next(iter(json.loads(text)))
    assert "REGRESSED" in text
    assert True is json.loads(text)["exit_failed"]


def test_a_json_file_that_cannot_be_written_is_refused(kernelperf, baseline, record, tmp_path):
    result = kernelperf("judge", record("new"), "--json", tmp_path)

    assert 2 == result.exit_code
    assert "is a directory" in result.output


def test_a_cut_off_run_is_judged_as_far_as_it_goes_and_fails(kernelperf, baseline, record) -> None:
    run = record("new", complete=False)

    result = kernelperf("judge", run)

    assert 1 == result.exit_code
    assert f"kernelperf: {run} was cut off: it holds 1 measurement," in result.output
    assert "kernelperf: 1 judged" == result.output.splitlines()[-1]


def test_a_test_that_failed_without_a_measurement_fails_the_run(
    kernelperf, baseline, tmp_path, make
) -> None:
    """A kernel that raised must not pass in CI because the others were fast."""
    path = tmp_path / "new.jsonl"
    writer = RunWriter(path)
    writer.append(make.recorded(name="new"))
    writer.close(failed=("test_x.py::test_broken",))

    result = kernelperf("judge", path)

    assert 1 == result.exit_code
    assert "kernelperf: test_x.py::test_broken failed when it was recorded" in result.output


def test_a_test_that_failed_itself_fails_the_run(kernelperf, baseline, record) -> None:
    """A wrong kernel must not pass in CI because it was fast."""
    result = kernelperf("judge", record("new", body_passed=False))

    assert 1 == result.exit_code
    assert "test_attention[8] failed in its own body" in result.output


def test_a_run_without_measurements_is_said_and_fails(kernelperf, tmp_path) -> None:
    run = tmp_path / "empty.jsonl"
    RunWriter(run).close()

    result = kernelperf("judge", run)

    assert 1 == result.exit_code
    assert "kernelperf: the run holds no measurement" in result.output


@pytest.mark.parametrize("why", ["xfail", "skip", "rerun"])
@pytest.mark.parametrize("failure", [{"level_us": 3.6, "processes": 3}, {"body_passed": False}])
def test_what_pytest_excused_is_not_counted_and_said(
    kernelperf, baseline, tmp_path, make, failure, why
) -> None:
    path, nodeid = tmp_path / "new.jsonl", "tests/perf/test_attention.py::test_attention[8]"
    writer = RunWriter(path)
    writer.append(make.recorded(name="new", **failure))
    writer.close(excused={nodeid: why})

    result = kernelperf("judge", path, "--json", tmp_path / "judged.json")
    document = json.loads((tmp_path / "judged.json").read_text())

    assert 0 == result.exit_code
    assert f"kernelperf: {nodeid} was excused by pytest ({why})" in result.output
    assert (False, []) == (document["exit_failed"], document["failed_tests"])


def test_what_is_excused_in_one_run_fails_in_another(kernelperf, baseline, record, make, tmp_path):
    path, nodeid = tmp_path / "new.jsonl", "tests/perf/test_attention.py::test_attention[8]"
    writer = RunWriter(path)
    writer.append(make.recorded(name="new", body_passed=False))
    writer.close(excused={nodeid: "xfail"})

    assert 1 == kernelperf("judge", path, record("other", body_passed=False)).exit_code


def test_a_verdict_that_is_only_shown_fails_nothing(make) -> None:
    recorded = make.recorded(Status.REGRESSED)
    shown = replace(recorded, verdicts=(replace(recorded.verdicts[0], judged=False),))

    assert () == failing_tests(Run("run", (shown,)), FAILING).tests
    assert () != failing_tests(Run("run", (recorded,)), FAILING).tests


def test_what_passes_needs_no_excuse(kernelperf, baseline, make, tmp_path) -> None:
    path, nodeid = tmp_path / "new.jsonl", "tests/perf/test_attention.py::test_attention[8]"
    writer = RunWriter(path)
    writer.append(make.recorded(name="new"))
    writer.close(excused={nodeid: "xfail"})

    assert "excused" not in kernelperf("judge", path).output


def test_the_document_names_what_failed_whatever_tells_it(
    kernelperf, baseline, make, tmp_path
) -> None:
    """By a verdict, in its own body, without a record: each once, as pytest calls it."""
    path, other = tmp_path / "new.jsonl", make.case("test_attention[16]")
    writer = RunWriter(path)
    writer.append(make.recorded(name="new", level_us=3.6, processes=3))
    writer.append(make.recorded(name="b", body_passed=False, case=other))
    writer.append(make.recorded(name="c", body_passed=False, case=other))
    nodeid = f"{other.file}::{other.test}"
    writer.close(failed=("test_x.py::test_broken",), nodeids={nodeid: f"deep/{nodeid}"})

    kernelperf("judge", path, "--json", tmp_path / "judged.json")

    assert [
        "tests/perf/test_attention.py::test_attention[8]",
        f"deep/{nodeid}",
        "test_x.py::test_broken",
    ] == json.loads((tmp_path / "judged.json").read_text())["failed_tests"]


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff", b"[]", b'{"schema_version": 7, "kind": "kernelperf-run"}\n']
)
def test_an_unreadable_run_is_exit_status_2_and_no_traceback(
    kernelperf, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)
    result = kernelperf("judge", path)

    assert 2 == result.exit_code
    assert result.output.startswith("Error: ")
    assert str(path) in result.output
    assert "Traceback" not in result.output


def test_a_run_that_is_not_there_is_exit_status_2(kernelperf, tmp_path: Path) -> None:
    result = kernelperf("judge", tmp_path / "none.jsonl")

    assert 2 == result.exit_code
    assert "there is no run" in result.output


@pytest.mark.parametrize(
    "arguments", [["judge"], ["judge", "x", "--strictly"], ["jugde"], ["update"], ["rename", "x"]]
)
def test_wrong_usage_is_exit_status_2(kernelperf, arguments: list[str]) -> None:
    assert 2 == kernelperf(*arguments).exit_code


def test_a_comparison_that_was_invalid_fails(kernelperf, make, tmp_path: Path) -> None:
    case = make.recorded(name="new").measurement.case
    problem = Problem("WRONG_OUTPUT", "'b' does not agree with 'a'")
    writer = RunWriter(tmp_path / "run.jsonl")
    writer.append(Comparison(case.label, "a", (), case=case, problem=problem))
    writer.close()
    result = kernelperf("judge", tmp_path / "run.jsonl", "--json", tmp_path / "run.json")
    document = json.loads((tmp_path / "run.json").read_text())

    assert 1 == result.exit_code
    assert "kernelperf: 0 judged, 1 NOT judged (1 INVALID)" == result.output.splitlines()[-1]
    assert ({"INVALID": 1}, True) == (document["counts"]["statuses"], document["exit_failed"])


def test_the_live_verdicts_of_a_run_are_not_trusted(kernelperf, baseline, record, make) -> None:
    """The run says INVALID; judging starts from the measurement."""
    measurement = make.recorded(name="new").measurement
    path = record("new", measurement=measurement)
    path.write_text(re.sub('"verdicts":\\[.*?\\]', '"verdicts":[]', path.read_text()))

    assert "UNCHANGED" in kernelperf("judge", path).output


def test_the_module_runs_as_the_command(project: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pytest_kernelperf", "judge", "none.jsonl"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )

    assert 2 == result.returncode
    assert "there is no run none.jsonl" in result.stderr


def test_help_names_every_command(kernelperf) -> None:
    output = kernelperf("--help").output

    assert [c for c in ("judge", "prune", "rename", "show", "update") if c not in output] == []
    assert Status.REGRESSED.value not in output


@pytest.mark.parametrize(
    "command",
    [("judge", "RUN", "--json", "RUN"), ("report", "RUN", "--validation", "--out", "RUN")],
)
def test_a_run_is_not_replaced_by_what_is_said_of_it(kernelperf, record, command) -> None:
    run = record("new")
    before = run.read_bytes()

    result = kernelperf(*(run if each == "RUN" else each for each in command))

    assert 2 == result.exit_code
    assert "is read by this command" in result.output
    assert before == run.read_bytes()


def test_a_baseline_is_not_replaced_by_verdicts(kernelperf, baseline, record) -> None:
    before = baseline.read_bytes()

    result = kernelperf("judge", record("new"), "--json", baseline)

    assert 2 == result.exit_code
    assert "is a file of baselines" in result.output
    assert before == baseline.read_bytes()


@pytest.mark.parametrize("command", ["resources", "doctor"])
def test_a_baseline_is_not_replaced_by_findings(kernelperf, baseline, command) -> None:
    before = baseline.read_bytes()

    result = kernelperf(command, "--json", baseline)

    assert 2 == result.exit_code
    assert "is a file of baselines" in result.output
    assert before == baseline.read_bytes()


def test_what_was_compared_with_a_revision_is_to_be_run_against_it_again(
    kernelperf, tmp_path, make
) -> None:
    now = make.recorded(name="new", level_us=3.6, processes=3)
    before = make.recorded(name="old", processes=3).measurement
    path = tmp_path / "against.jsonl"
    writer = RunWriter(path)
    writer.append(replace(now, against=Against("1a2b3c4", "1a2b3c4" + 33 * "0", before)))
    writer.close()

    result = kernelperf("judge", path)

    assert 1 == result.exit_code
    assert "--kernelperf --kernelperf-against 1a2b3c400000" in result.output
    assert "nothing has a baseline" not in result.output
