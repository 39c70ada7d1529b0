"""
Beside pytest-xdist: one worker measures as none does, several are refused.
"""

from __future__ import annotations

import pytest


@pytest.fixture
def project_of_two(project):
    """
    Return a project of two tests without baselines.
    """
    project.write_two()
    return project


@pytest.mark.parametrize(
    "args", [("-n", "2"), ("-n", "3", "--maxprocesses", "2"), ("--dist", "load", "--tx", "2*popen")]
)
def test_several_workers_are_refused_before_they_start(project_of_two, args):
    result = project_of_two.run_apart("-p", "xdist", *args, "--kernelperf")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --kernelperf measures with one worker*got 2*use -n 1*"])
    result.stdout.no_fnmatch_line("*gw0*")


def test_several_workers_run_the_tests_unmeasured(project_of_two):
    result = project_of_two.run_apart("-p", "xdist", "-n", "2")

    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_one_worker_measures_records_stores_and_reports_as_none_does(project_of_two, workers):
    run = ("-p", "xdist", "-n", workers)
    files = ("--kernelperf-record", "run.jsonl", "--kernelperf-json", "run.json")

    first = project_of_two.run_apart(*run, "--kernelperf-update", *files)
    project_of_two.times(10.0, test_a=13.0)
    second = project_of_two.run_apart(*run, "--kernelperf")

    assert first.ret == pytest.ExitCode.OK
    first.stdout.fnmatch_lines(["added *test_a*", "added *test_b*"])
    assert project_of_two.baseline_files() == ["nvidia-scripted/test_it.json"]
    assert project_of_two.read_run().complete
    assert len(project_of_two.read_run().recorded) == 2
    assert len(project_of_two.read_json()["measurements"]) == 2
    assert second.ret == pytest.ExitCode.TESTS_FAILED
    second.assert_outcomes(passed=1, failed=1)
    second.stdout.fnmatch_lines(["test_a *REGRESSED*", "FAILED *test_a - REGRESSED *"])
    assert second.outlines[-1] == "kernelperf: 2 judged"


def test_with_one_worker_a_damaged_baseline_is_found_before_measuring(project_of_two):
    project_of_two.run("--kernelperf-update")
    (name,) = project_of_two.baseline_files()
    (project_of_two.path / "baselines" / name).write_text("[]")

    result = project_of_two.run_apart("-p", "xdist", "-n", "1", "--kernelperf")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{name}*"])


def test_with_one_worker_what_did_not_run_is_named(project_of_two):
    project_of_two.write(
        """
        def test_first(kernelperf): assert kernelperf(abs, -1) == 2
        def test_last(kernelperf): kernelperf(abs, -1)
        """
    )

    result = project_of_two.run_apart("-p", "xdist", "-n", "1", "--kernelperf", "-x")

    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["kernelperf: stopped early, 1 not measured: *test_last"])


CRASHING = """
    import os

    def test_a(kernelperf): kernelperf(abs, -1)
    def test_plain(): assert not os.environ
    def test_b(kernelperf): os._exit(3)
    def test_c(kernelperf): kernelperf(abs, -1)
"""


def test_a_worker_that_crashes_leaves_a_record_that_was_cut_off(project):
    project.write(CRASHING)
    files = ("--kernelperf-record", "run.jsonl", "--kernelperf-json", "run.json")
    run = ("-p", "xdist", "-n", "1", "--max-worker-restart=0")

    result = project.run_apart(*run, "--kernelperf", *files)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert not project.read_run().complete
    assert "test_it.py::test_b" in project.read_json()["failed_tests"]


def test_a_worker_that_takes_over_from_a_crashed_one_tells_what_was_to_measure(project):
    project.write(CRASHING)
    files = ("--kernelperf-record", "run.jsonl", "--kernelperf-json", "run.json")

    result = project.run_apart("-p", "xdist", "-n", "1", "--kernelperf", *files)

    assert len(project.read_run().recorded) == 2
    assert project.read_json()["failed_tests"] == ["test_it.py::test_b"]
    result.stdout.fnmatch_lines(["kernelperf: stopped early, 1 not measured: *test_b"])
