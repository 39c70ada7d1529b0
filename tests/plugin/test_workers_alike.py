"""
Real fresh processes run as the run itself does, but for what it alone writes, opens or ends.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from recorded_runs import RECORD, THREE, counts, notes


@pytest.fixture
def project(project_with_workers):
    return project_with_workers


def test_workers_use_the_plan_of_the_run(project):
    project.write()
    later = {"times_us": {"": 11.0}}
    project.script(times_us={"": 10.0}, later={"2": later, "3": later})

    project.run_apart(*THREE)

    (recorded,) = project.read_run().recorded
    medians = [round(one.rounds[0].times_us[0]) for one in recorded.measurement.processes]
    assert medians == [10, 11, 11]
    assert notes(project) == ""


def test_the_options_of_the_run_that_write_or_stop_do_not_reach_its_workers(project):
    project.write(
        """
        import os

        def test_a(kernelperf):
            kernelperf(abs, -1)
            assert "KERNELPERF_PROCESS" not in os.environ

        def test_b(kernelperf, tmp_path):
            (tmp_path / "kept").touch()
            kernelperf(abs, -1)
        """
    )

    result = project.run_apart(
        *THREE, "-x", "-p", "cacheprovider", "--junitxml=junit.xml", "--basetemp=tmp"
    )

    assert result.ret == pytest.ExitCode.OK
    assert counts(project) == {"test_a": 1, "test_b": 3}
    assert list((project.path / "tmp").rglob("kept"))
    assert (project.path / "junit.xml").read_text().count("<testcase ") == 2
    assert not (project.path / ".pytest_cache/v/cache/lastfailed").exists()


def test_the_log_file_is_the_runs_own(project):
    project.pytester.makeini("[pytest]\nlog_file = run.log\nlog_file_level = INFO")
    project.write(
        """
        import logging, os

        def test_a(kernelperf):
            logging.info("process %s", os.environ.get("KERNELPERF_PROCESS", "1"))
            kernelperf(abs, -1)
        """
    )

    project.run_apart(*THREE)

    assert counts(project) == {"test_a": 3}
    (line,) = (project.path / "run.log").read_text().splitlines()
    assert line.endswith("process 1")


def test_a_file_that_is_edited_during_the_run_costs_the_fresh_processes(project):
    (project.path / "kernels.py").write_text("def kernel(x):\n    return abs(x)\n")
    project.write(
        """
        from pathlib import Path
        from kernels import kernel

        def test_a(kernelperf):
            kernelperf(kernel, -1)
            file = Path(__file__).with_name("kernels.py")
            file.write_text(file.read_text() + "# edited\\n")
        """
    )

    project.run("--kernelperf-update", "--kernelperf-processes", "1")
    project.times(13.0)

    result = project.run_apart("--kernelperf", *RECORD)

    assert result.ret == pytest.ExitCode.OK
    assert counts(project) == {"test_a": 1}
    assert "process 2 is missing: kernels.py was edited after the run had imported" in notes(
        project
    )


def test_a_file_that_every_process_writes_anew_costs_nothing(project):
    project.write(
        """
        from pathlib import Path

        Path(__file__).with_name("generated.py").write_text("def kernel(x):\\n    return abs(x)")
        from generated import kernel

        def test_a(kernelperf):
            kernelperf(kernel, -1)
        """
    )

    project.run_apart(*THREE)

    assert counts(project) == {"test_a": 3}


def test_the_debug_file_is_the_runs_own(project):
    """
    Whoever is given its name opens it, and so empties it.
    """
    project.write(
        """
        def test_a(kernelperf, request):
            with open("options.txt", "a") as file:
                file.write(f"{request.config.option.debug} ")
            kernelperf(abs, -1)
        """
    )

    project.run_apart(*THREE, "--debug", "run.debug")

    assert (project.path / "options.txt").read_text().split() == ["None", "None", "run.debug"]


def test_no_fresh_process_updates_snapshots(project):
    project.write(
        """
        def test_a(kernelperf, request):
            with open("updating.txt", "a") as file:
                file.write(f"{request.config.option.update_snapshots} ")
            kernelperf(abs, -1)
        """
    )
    conftest = project.path / "conftest.py"
    conftest.write_text(
        conftest.read_text()
        + """
def pytest_addoption(parser):
    parser.addoption("--snapshot-update", action="store_true", dest="update_snapshots")
"""
    )

    project.run_apart(*THREE, "--snapshot-update")

    assert (project.path / "updating.txt").read_text().split() == ["False", "False", "True"]


def test_fresh_processes_have_the_interpreters_flags(project):
    project.write(
        """
        import sys

        def test_a(kernelperf):
            with open("flags.txt", "a") as file:
                file.write(f"{sys.flags.optimize}{sys.flags.dev_mode} ")
            kernelperf(abs, -1)
        """
    )
    python = [sys.executable, "-O", "-X", "dev", "-m", "pytest", "-p", "kernelperf", *THREE]

    subprocess.run(python, cwd=project.path, timeout=120, check=False)

    assert (project.path / "flags.txt").read_text().split() == ["1True"] * 3


@pytest.mark.parametrize("words", [("-n", "1"), ("-d", "--tx", "popen")])
def test_under_one_worker_of_xdist_it_is_the_same(project, words):
    project.write()

    result = project.run_apart("-p", "xdist", *words, *THREE)

    assert result.ret == pytest.ExitCode.OK
    assert counts(project) == {"test_kernel": 3}
