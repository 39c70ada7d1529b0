"""
`kernelperf update`: what it accepts, what it refuses, what it writes.
"""

from __future__ import annotations

import json

import pytest

from pytest_kernelperf.store.runs import RunWriter


def test_a_new_case_is_added_from_several_runs(kernelperf, project, record) -> None:
    result = kernelperf("update", *(record(name) for name in "abcde"))
    path = project / "baselines/nvidia-h100-80gb-hbm3/tests/perf/test_attention.json"
    (entry,) = json.loads(path.read_text())["entries"].values()

    assert 0 == result.exit_code
    assert list("abcde") == [process["id"] for process in entry["reference"]["processes"]]
    assert "added" in result.output
    assert f"wrote {path}" in result.output


def test_a_slower_run_is_refused_and_named(kernelperf, baseline, record) -> None:
    before = baseline.read_bytes()
    result = kernelperf("update", record("slow", 3.6, processes=3))

    assert 1 == result.exit_code
    assert "refused" in result.output
    assert "--accept-regressions" in result.output
    assert "wrote" not in result.output
    assert before == baseline.read_bytes()


def test_one_process_that_looks_faster_moves_no_reference(kernelperf, baseline, record) -> None:
    before = baseline.read_bytes()
    result = kernelperf("update", record("fast", 2.8))

    assert 1 == result.exit_code
    assert "one process moves no reference" in " ".join(result.output.split())
    assert before == baseline.read_bytes()


def test_three_runs_of_one_process_each_move_the_reference_together(
    kernelperf, baseline, record
) -> None:
    result = kernelperf("update", *(record(name, 2.8) for name in "xyz"))

    assert 0 == result.exit_code
    assert "moved" in result.output


def test_a_slower_run_is_taken_when_accepted(kernelperf, baseline, record) -> None:
    slow = record("slow", 3.6, processes=3)
    result = kernelperf("update", slow, "--accept-regressions")

    assert 0 == result.exit_code
    assert "moved" in result.output
    assert "UNCHANGED" in kernelperf("judge", slow).output


def test_only_new_cases_are_added_when_asked(kernelperf, baseline, record, make) -> None:
    other = make.case("test_attention[16]")
    result = kernelperf(
        "update", record("fast", 2.8, processes=3), record("x", case=other), "--new-only"
    )
    entries = json.loads(baseline.read_text())["entries"]

    assert 0 == result.exit_code
    assert 2 == len(entries)
    assert 5 == len(entries[make.case().key]["reference"]["processes"])


def test_new_only_and_accepting_contradict(kernelperf, baseline, record) -> None:
    result = kernelperf("update", record("a"), "--new-only", "--accept-regressions")

    assert 2 == result.exit_code
    assert "--new-only moves no reference" in result.output


def test_a_read_only_baseline_is_exit_status_2_and_stays(kernelperf, baseline, record) -> None:
    before = baseline.read_bytes()
    baseline.chmod(0o444)
    result = kernelperf("update", record("fast", 2.8, processes=3))

    assert 2 == result.exit_code
    assert f"{baseline} can't be written: the file is read-only" in result.output
    assert before == baseline.read_bytes()


def test_one_bad_run_among_good_ones_stores_nothing(kernelperf, project, record, tmp_path) -> None:
    (tmp_path / "bad.jsonl").write_text("[]")
    result = kernelperf("update", record("a"), tmp_path / "bad.jsonl")

    assert 2 == result.exit_code
    assert not (project / "baselines").exists()


def test_a_cut_off_run_is_said(kernelperf, record) -> None:
    result = kernelperf("update", record("a", complete=False))

    assert 0 == result.exit_code
    assert "was cut off" in result.output


@pytest.mark.parametrize(
    "file",
    ["tests/perf/test_attention.py", "sub/tests/perf/test_attention.py", "test_attention.py"],
)
def test_a_run_of_a_test_that_failed_is_refused(kernelperf, project, make, tmp_path, file) -> None:
    """The root folder of pytest may lie above the anchor or below it."""
    recorded = make.recorded(name="new")
    writer = RunWriter(tmp_path / "new.jsonl")
    writer.append(recorded)
    writer.close(failed=(f"{file}::{recorded.measurement.case.test}",))

    result = kernelperf("update", tmp_path / "new.jsonl")

    assert 1 == result.exit_code
    assert "refused" in result.output
    assert not (project / "baselines").exists()


@pytest.mark.parametrize(
    "nodeid", ["tests/perf/test_attention.py::test_other", "tests/perf/my_test_attention.py::{}"]
)
def test_a_run_is_taken_though_another_test_failed(kernelperf, make, tmp_path, nodeid) -> None:
    recorded = make.recorded(name="new")
    writer = RunWriter(tmp_path / "new.jsonl")
    writer.append(recorded)
    writer.close(failed=(nodeid.format(recorded.measurement.case.test),))

    result = kernelperf("update", tmp_path / "new.jsonl")

    assert 0 == result.exit_code
    assert "added" in result.output


def test_no_new_baselines_are_begun_for_what_has_some_elsewhere(
    kernelperf, project, baseline, compared, tmp_path
) -> None:
    """In the wrong folder a slow run would become a baseline of its own."""
    baseline.parents[3].rename(tmp_path / "elsewhere")

    refused = kernelperf("update", compared)
    begun = kernelperf("update", compared, "--baselines", project / "baselines")

    assert [2, 0] == [refused.exit_code, begun.exit_code]
    assert "had a baseline when recorded and has none here" in refused.output
    assert baseline.exists()
