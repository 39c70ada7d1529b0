"""
`--kernelperf-json`: the document says what the terminal, the record and the exit status say.
"""

from __future__ import annotations

import errno

import pytest

from pytest_kernelperf.store import files


def test_of_a_linked_document_the_file_is_removed_and_the_link_stays(project):
    project.write("import os\n\ndef test_crash(kernelperf): os._exit(9)")
    (project.path / "real.json").write_text('{"exit_failed": false}')
    (project.path / "run.json").symlink_to("real.json")

    project.run_apart("--kernelperf", "--kernelperf-json", "run.json")

    assert (project.path / "run.json").is_symlink()
    assert not (project.path / "real.json").exists()


def test_what_was_not_measured_fails_the_json_document_whatever_pytest_says(project):
    """
    Where a second interrupt comes before pytest has noted the first, its status is still 0.
    """
    project.write()
    ending = "\ndef pytest_runtestloop(session): return True\n"
    with (project.path / "conftest.py").open("a") as conftest:
        conftest.write(ending)

    project.run("--kernelperf", "--kernelperf-json", "run.json")

    assert project.read_json()["exit_failed"]


def test_the_json_document_holds_the_verdicts_of_the_terminal(project):
    project.write_two()
    project.run("--kernelperf-update")
    project.times(10.0, test_a=13.0)

    result = project.run("--kernelperf", "--kernelperf-json", "deep/run.json")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    document = project.read_json("deep/run.json")
    assert next(iter(document)) == "schema_version"
    assert document["exit_failed"]
    statuses = [one["verdicts"][0]["status"] for one in document["measurements"]]
    assert statuses == ["REGRESSED", "UNCHANGED"]


def test_the_json_document_says_that_nothing_failed(project):
    project.write()

    project.run("--kernelperf", "--kernelperf-json", "run.json")

    assert not project.read_json()["exit_failed"]


def test_the_json_document_counts_a_test_that_measured_nothing(project):
    project.write(
        """
        from pytest_kernelperf import kernel_perf

        @kernel_perf
        def test_it(): pass
        """
    )

    project.run("--kernelperf", "--kernelperf-json", "run.json")

    document = project.read_json()
    assert [one["status"] for one in document["unmeasured"]] == ["NOT_MEASURED"]
    assert document["exit_failed"]


@pytest.mark.parametrize(
    "call",
    [
        "kernelperf(lambda: 1 / 0)",
        "kernelperf.compare({'a': abs, 'b': lambda x: x}, (-1,), reference='a')",
        "kernelperf(abs, -1); assert not 'right'",
    ],
    ids=["raises", "disagrees", "wrong"],
)
def test_terminal_json_and_record_agree_that_a_test_failed(project, call):
    """
    Also where no verdict says so: nothing was measured, or the times themselves are fine.
    """
    project.write(f"def test_it(kernelperf): {call}")

    result = project.run(
        "--kernelperf", "--kernelperf-json", "run.json", "--kernelperf-record", "run.jsonl"
    )

    result.assert_outcomes(failed=1)
    assert project.read_json()["exit_failed"]
    assert project.read_json()["failed_tests"] == ["test_it.py::test_it"]
    run = project.read_run()
    assert run.complete
    assert (
        run.failed or any(one.problem for one in run.comparisons) or not run.recorded[0].body_passed
    )


def test_an_expected_failure_is_no_failure_in_the_json_document(project):
    project.write(
        """
        import pytest
        from pytest_kernelperf import kernel_perf

        @pytest.mark.xfail(reason="known to be slow")
        @kernel_perf(target_us=5)
        def test_it(kernelperf): kernelperf(abs, -1)
        """
    )

    result = project.run("--kernelperf", "--kernelperf-json", "run.json")

    assert result.ret == pytest.ExitCode.OK
    assert not project.read_json()["exit_failed"]


@pytest.mark.parametrize(
    ("source", "failed"),
    [
        ("def test_other(): assert 0", []),
        ("import no_such_module", ["test_other.py"]),
        ("def test_other(): raise KeyboardInterrupt", []),
        (
            "import pytest\n\n@pytest.mark.kernel_perf(timr=1)\ndef test_other(): pass",
            ["test_other.py::test_other"],
        ),
    ],
    ids=["plain test", "import", "interrupt", "wrong mark"],
)
def test_the_json_document_fails_whenever_the_run_does(project, source, failed):
    """
    Also for what no measured test is to blame for, and with what did not come to measure named.
    """
    project.write()
    project.write(source, "test_other")

    result = project.run(
        *("--kernelperf", "--kernelperf-json", "run.json", "--kernelperf-record", "run.jsonl"),
        "--continue-on-collection-errors",
    )

    assert result.ret != pytest.ExitCode.OK
    assert project.read_json()["exit_failed"]
    assert project.read_json()["failed_tests"] == failed
    assert list(project.read_run().failed) == failed


def test_a_damaged_baseline_fails_the_json_document_too(project):
    project.write()
    project.run("--kernelperf-update")
    (name,) = project.baseline_files()
    (project.path / "baselines" / name).write_text("[]")

    result = project.run("--kernelperf", "--kernelperf-json", "run.json")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert project.read_json()["exit_failed"]


def test_a_run_without_tests_fails_as_pytest_has_it(project):
    project.write()

    result = project.run("--kernelperf", "--kernelperf-json", "run.json", "-k", "nothing")

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert project.read_json()["exit_failed"]


def test_the_json_document_is_written_wholly_or_not_at_all(project, monkeypatch):
    project.write()
    (project.path / "run.json").write_text("earlier")

    def fail(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_write_synced", fail)
    result = project.run("--kernelperf", "--kernelperf-json", "run.json")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["kernelperf: ERROR: */run.json can't be written: No space left*"])
    assert not (project.path / "run.json").exists()
