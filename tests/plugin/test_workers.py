"""
Real fresh processes, end to end: what they measure again, and what their failures cost.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recorded_runs import RECORD, THREE, counts, notes

from pytest_kernelperf.store.runs import read_run


@pytest.fixture
def project(project_with_workers):
    return project_with_workers


def is_running(pid: int) -> bool:
    """
    Return whether a process is there and no zombie.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds: float = 120.0) -> None:
    """
    Wait until something holds.
    """
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_slower_kernel_is_measured_again_in_processes_that_print_nothing(project):
    project.write(
        """
        import os, unittest, pytest
        from pytest_kernelperf import kernel_perf

        @pytest.fixture(scope="session", autouse=True)
        def noisy():
            with open("sessions.txt", "a") as file:
                file.write(f"{os.environ.get('KERNELPERF_PROCESS', '1')} ")
            yield
            with open("ends.txt", "a") as file:
                file.write("end ")

        @pytest.mark.parametrize("n", [1, 2])
        @kernel_perf
        def test_a(kernelperf, n, tmp_path):
            print("LEAKED FROM", os.getpid(), flush=True)
            os.write(1, b"LEAKED\\\\n")
            kernelperf(abs, -1)

        class TestMethods(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def take(self, kernelperf):
                self.kernelperf = kernelperf

            def test_b(self):
                self.kernelperf(abs, -1)
        """
    )
    project.run("--kernelperf-update", "--kernelperf-processes", "1")
    project.times(13.0)
    for name in ("sessions.txt", "ends.txt"):
        (project.path / name).unlink()

    result = project.run_apart("--kernelperf", *RECORD, "--junitxml=junit.xml", "-v")

    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["FAILED *test_a[[]1[]] - REGRESSED *"])
    # Captured from the one process whose tests these are.
    assert str(result.stdout).count("LEAKED FROM") == 2
    assert set(counts(project).values()) == {3}
    assert (project.path / "junit.xml").read_text().count("<testcase ") == 3
    # Started once each, and ended in order.
    assert sorted((project.path / "sessions.txt").read_text().split()) == ["1", "2", "3"]
    assert (project.path / "ends.txt").read_text().split() == ["end"] * 3


def test_each_process_knows_when_its_turn_began(project):
    """
    What another process of the run computed before is not taken for a stranger's work.
    """
    project.write(
        """
        import os, pytest

        @pytest.mark.parametrize("n", [1, 2])
        def test_a(kernelperf, n):
            with open("turns.txt", "a") as file:
                file.write(os.environ.get("KERNELPERF_TURN", "none") + " ")
            kernelperf(abs, -1)
        """
    )
    project.run("--kernelperf-update", "--kernelperf-processes", "1")
    project.times(13.0)
    (project.path / "turns.txt").unlink()

    project.run_apart("--kernelperf")

    first, *turns = (project.path / "turns.txt").read_text().split()
    began_s = [float(turn) for turn in turns]
    assert "none" == first
    assert 5 == len(set(began_s))
    assert sorted(began_s) == began_s


def test_a_record_elsewhere_does_not_move_the_fresh_processes_that_start_after_it(
    project, tmp_path_factory
):
    """
    To pytest it would be a place of tests, and their names would begin at a root above both.
    """
    project.write_two()
    project.run("--kernelperf-update", "--kernelperf-processes", "1")
    project.times(test_a=10.0, test_b=13.0)
    record = tmp_path_factory.mktemp("out") / "run.jsonl"

    result = project.run_apart("--kernelperf", "--kernelperf-record", str(record))

    result.assert_outcomes(passed=1, failed=1)
    processes = [len(one.measurement.processes) for one in read_run(record).recorded]
    assert processes == [1, 3]


def test_a_worker_that_dies_costs_its_process_and_not_the_run(project):
    project.write(
        """
        import os

        def test_dies(kernelperf):
            if os.environ.get("KERNELPERF_PROCESS") == "2":
                os.kill(os.getpid(), 9)
            kernelperf(abs, -1)

        def test_goes_on(kernelperf):
            kernelperf(abs, -1)
        """
    )

    result = project.run_apart(*THREE)

    assert result.ret == pytest.ExitCode.OK
    assert counts(project) == {"test_dies": 2, "test_goes_on": 3}
    result.stdout.fnmatch_lines(
        ["note: *test_dies*process 2 is missing: worker 2 was lost*killed by SIGKILL*"]
    )


def test_a_worker_that_hangs_is_ended_with_the_place_named(project):
    project.pytester.makeini("[pytest]\nkernelperf_hang_timeout = 4")
    project.write(
        """
        import os, time

        def test_hangs(kernelperf):
            if "KERNELPERF_PROCESS" in os.environ:
                time.sleep(600)
            kernelperf(abs, -1)
        """
    )

    result = project.run_apart("--kernelperf", "--kernelperf-processes", "2", *RECORD)

    assert result.ret == pytest.ExitCode.OK
    assert "worker 2 was lost in test_it.py::test_hangs, no answer within 8 s" in notes(project)


def test_a_file_that_a_worker_cannot_import_is_named_with_its_message(project):
    project.write(
        """
        import os

        if "KERNELPERF_PROCESS" in os.environ:
            import no_such_module

        def test_it(kernelperf): kernelperf(abs, -1)
        """
    )

    project.run_apart(*THREE)

    assert counts(project) == {"test_it": 1}
    assert "it could not collect test_it.py::test_it: ModuleNotFoundError" in notes(project)


def test_pytest_that_does_not_start_again_is_said_with_its_message_and_tried_once(project):
    project.write_two()
    text = (project.path / "conftest.py").read_text()
    start = "import os\nopen('starts', 'a').write('x')\n"
    broken = "if 'KERNELPERF_PROCESS' in os.environ: raise RuntimeError('not twice')\n"
    (project.path / "conftest.py").write_text(start + broken + text)

    result = project.run_apart(*THREE)

    assert result.ret == pytest.ExitCode.OK
    assert "worker 2 could not start pytest, exit status 4: RuntimeError: not twice" in notes(
        project
    )
    assert len((project.path / "starts").read_text()) == 3


def test_a_test_that_fails_in_a_worker_costs_that_process(project):
    project.write(
        """
        import os

        def test_it(kernelperf):
            kernelperf(abs, -1)
            assert os.environ.get("KERNELPERF_PROCESS") != "3", "port taken"
        """
    )

    result = project.run_apart(*THREE)

    assert result.ret == pytest.ExitCode.OK
    assert counts(project) == {"test_it": 2}
    assert "process 3 is missing: the test failed there: AssertionError: port taken" in notes(
        project
    )


HANGING = """
    import os, time
    from pathlib import Path

    def test_it(kernelperf):
        if "KERNELPERF_PROCESS" in os.environ:
            Path("pid").write_text(str(os.getpid()))
            time.sleep(600)
        kernelperf(abs, -1)

    def test_rest(kernelperf): kernelperf(abs, -1)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_a_run_that_is_ended(project, sent):
    project.write(HANGING)
    command = [sys.executable, "-m", "pytest", "-p", "kernelperf", *THREE]
    pid_file = project.path / "pid"
    with subprocess.Popen(command, cwd=project.path, stdout=subprocess.PIPE, text=True) as run:
        wait_until(lambda: pid_file.exists() and pid_file.read_text())
        run.send_signal(sent)
        output, _ = run.communicate(timeout=30)

    wait_until(lambda: not is_running(int(pid_file.read_text())))
    if sent == signal.SIGINT:
        assert run.returncode == pytest.ExitCode.INTERRUPTED
        assert "2 not measured: test_it.py::test_it" in output


def test_the_budget_of_the_run_ends_the_measuring_again_and_says_so(project):
    project.write_two()
    project.run("--kernelperf-update", "--kernelperf-processes", "1")
    project.times(13.0)

    project.run_apart("--kernelperf", *RECORD, "--kernelperf-budget", "0.01")

    assert counts(project) == {"test_a": 3, "test_b": 1}
    assert "0.01 s for fresh processes (kernelperf_budget) are spent: judged from 1" in notes(
        project
    )
