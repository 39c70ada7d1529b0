"""
`--kernelperf-record` and `--kernelperf-json`: what is written, when, and what if it can't be.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_kernelperf.errors import BaselineWriteError
from pytest_kernelperf.store.runs import RunWriter


def test_a_recorded_run_holds_measurements_limits_and_verdicts(project):
    project.write_two()

    result = project.run("--kernelperf", "--kernelperf-record", "run.jsonl")

    assert result.ret == pytest.ExitCode.OK
    run = project.read_run()
    assert run.complete
    assert [one.measurement.case.test for one in run.recorded] == ["test_a", "test_b"]
    assert [one.body_passed for one in run.recorded] == [True, True]
    assert run.recorded[0].verdicts[0].status.value == "NO_BASELINE"


def test_a_recorded_run_says_which_test_failed(project):
    project.write("def test_it(kernelperf): assert kernelperf(abs, -1) == 2")

    project.run("--kernelperf", "--kernelperf-record", "run.jsonl")

    assert [one.body_passed for one in project.read_run().recorded] == [False]


def test_a_recorded_run_holds_comparisons(project):
    project.times(10.0, ours=5.0, theirs=10.0)
    project.write(
        """
        def test_it(kernelperf):
            kernelperf.compare({"ours": abs, "theirs": abs}, (-1,), reference="theirs")
        """
    )

    project.run("--kernelperf", "--kernelperf-record", "run.jsonl.gz")

    (comparison,) = project.read_run("run.jsonl.gz").comparisons
    assert {"ours", "theirs"} == set(comparison.measurements)


def test_each_test_is_recorded_before_the_next_one_runs(project):
    """
    Else a crash would lose what was measured before it.
    """
    project.write(
        """
        import os

        def test_first(kernelperf): kernelperf(abs, -1)
        def test_crash(kernelperf): os._exit(9)
        """
    )

    (project.path / "run.json").write_text('{"exit_failed": false}')
    outputs = ("--kernelperf-record", "run.jsonl", "--kernelperf-json", "run.json")

    result = project.run_apart("--kernelperf", *outputs)

    assert result.ret == 9
    run = project.read_run()
    assert [one.measurement.case.test for one in run.recorded] == ["test_first"]
    assert not run.complete
    # An earlier run's document would say that this one passed.
    assert not (project.path / "run.json").exists()


def test_a_crash_in_the_first_test_leaves_no_earlier_record_either(project):
    """
    Judged, it would say that this run passed.
    """
    project.write()
    project.run("--kernelperf", "--kernelperf-record", "run.jsonl")
    project.write("import os\n\ndef test_crash(kernelperf): os._exit(9)")

    project.run_apart("--kernelperf", "--kernelperf-record", "run.jsonl")

    assert not project.read_run().recorded
    assert not project.read_run().complete


def test_a_run_that_stopped_early_is_recorded_as_incomplete(project):
    project.write(
        """
        def test_first(kernelperf): assert kernelperf(abs, -1) == 2
        def test_last(kernelperf): kernelperf(abs, -1)
        """
    )

    project.run("--kernelperf", "--kernelperf-record", "run.jsonl", "-x")

    run = project.read_run()
    assert len(run.recorded) == 1
    assert not run.complete


def test_the_commit_and_the_user_are_recorded(project, monkeypatch):
    project.write()
    monkeypatch.setattr(
        "pytest_kernelperf.bench.read_provenance", lambda folder: ("c0ffee", "Grace Hopper")
    )

    project.run("--kernelperf", "--kernelperf-record", "run.jsonl")

    (process,) = project.read_run().recorded[0].measurement.processes
    assert (process.commit, process.who) == ("c0ffee", "Grace Hopper")


@pytest.mark.parametrize("option", ["--kernelperf-record", "--kernelperf-json"])
def test_a_file_that_cannot_be_written_is_refused_before_measuring(project, option):
    project.write()
    (project.path / "folder").mkdir()

    result = project.run("--kernelperf", option, "folder")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *folder is a directory*"])
    result.stdout.no_fnmatch_line("*passed*")


@pytest.mark.parametrize("option", ["--kernelperf-record", "--kernelperf-json"])
def test_an_earlier_file_stays_if_the_run_does_not_start(project, option):
    project.write()
    (project.path / "old").write_text("precious")

    project.run("--kernelperf", option, "old", "no_such_file.py")

    assert (project.path / "old").read_text() == "precious"


def test_a_failing_teardown_fails_the_record_too(project):
    project.write(
        """
        import pytest

        @pytest.fixture
        def fragile():
            yield
            assert not "torn down"

        def test_it(kernelperf, fragile): kernelperf(abs, -1)
        """
    )

    project.run("--kernelperf", "--kernelperf-record", "run.jsonl")

    assert project.read_run().failed == ("test_it.py::test_it",)


@pytest.mark.parametrize("spelling", ["run", "folder/../run"])
def test_one_file_for_record_and_document_is_refused(project, spelling):
    project.write()

    result = project.run(
        "--kernelperf", "--kernelperf-json", "run", "--kernelperf-record", spelling
    )

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *expected two files*"])


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
@pytest.mark.parametrize("option", ["--kernelperf-record", "--kernelperf-json"])
def test_a_full_disk_fails_the_run_by_name(project, option):
    project.write_two()

    result = project.run("--kernelperf", f"{option}=/dev/full")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["kernelperf: ERROR: */dev/full can't be written: No space left*"])


def test_a_record_that_runs_out_of_space_fails_the_run_by_name(project, monkeypatch):
    """
    The tests themselves go on, and the error is said once, not once per test.
    """

    def no_space(writer, record):
        raise BaselineWriteError(f"run {writer.path} can't be written: No space left on device")

    project.write_two()
    monkeypatch.setattr(RunWriter, "append", no_space)

    result = project.run("--kernelperf", "--kernelperf-record", "run.jsonl")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2)
    errors = [line for line in result.outlines if line.startswith("kernelperf: ERROR: ")]
    assert len(errors) == 1
    assert "run.jsonl can't be written: No space left on device" in errors[0]


@pytest.mark.parametrize("option", ["--kernelperf-record", "--kernelperf-json"])
def test_an_output_that_would_replace_a_baseline_is_a_usage_error(project, option):
    project.write()
    project.run("--kernelperf-update")
    before = project.baseline_text()

    result = project.run("--kernelperf", option, "baselines/nvidia-scripted/test_it.json")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *test_it.json is a file of baselines*"])
    assert before == project.baseline_text()


def test_a_record_replaces_an_earlier_one_and_the_json_document_does_not(project):
    project.write()
    project.run("--kernelperf", "--kernelperf-record", "run.jsonl")

    again = project.run("--kernelperf", "--kernelperf-record", "run.jsonl")
    mixed_up = project.run("--kernelperf", "--kernelperf-json", "run.jsonl")

    assert again.ret == pytest.ExitCode.OK
    assert mixed_up.ret == pytest.ExitCode.USAGE_ERROR
    assert len(project.read_run().recorded) == 1


@pytest.mark.parametrize("option", ["--kernelperf-record", "--kernelperf-json"])
@pytest.mark.parametrize("word", ["test_it.py", "test_it.py::test_kernel", "test_it.py::test[a/b]"])
def test_a_test_is_not_taken_for_the_value_that_an_option_lacks(project, option, word):
    project.write()
    before = (project.path / "test_it.py").read_text()

    result = project.run("--kernelperf", option, word)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {option}: expected a file to write*{option}=FILE*"])
    assert before == (project.path / "test_it.py").read_text()
    assert not (project.path / "test_it.py::test_kernel").exists()
