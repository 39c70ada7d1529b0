"""
What really goes wrong around a run: Ctrl-C, a full disk, two runs that update one file at once.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from pytest_kernelperf.store.baselines import Baselines

COMMAND = (sys.executable, "-m", "pytest", "-p", "kernelperf", "--kernelperf-update")


def started(project, *args):
    """
    Return a run of pytest in a process of its own.
    """
    return subprocess.Popen(
        [*COMMAND, *args], cwd=project.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def await_file(path, seconds=60.0):
    """
    Wait until there is such a file.
    """
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_ctrl_c_while_measuring_keeps_what_was_measured(project):
    project.write(
        """
        import time
        from pathlib import Path

        def slow(x):
            Path("measuring").touch()
            time.sleep(60)

        def test_first(kernelperf): kernelperf(abs, -1)
        def test_second(kernelperf): kernelperf(slow, -1)
        """
    )
    run = started(project, "--kernelperf-record", "run.jsonl", "--kernelperf-json", "run.json")
    await_file(project.path / "measuring")

    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=60)

    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert "stopped early, 1 not measured: test_it.py::test_second" in output
    assert '"test_first' in project.baseline_text()
    assert [one.measurement.case.test for one in project.read_run().recorded] == ["test_first"]
    assert project.read_json()["exit_failed"]


def test_two_runs_that_update_one_file_at_once_lose_nothing(project):
    """
    Each waits with its measurement taken until the other has its own.
    """
    project.write(
        """
        import time
        from pathlib import Path

        def meet(me, other):
            Path(me).touch()
            while not Path(other).exists():
                time.sleep(0.01)

        def test_a(kernelperf): kernelperf(abs, -1); meet("a", "b")
        def test_b(kernelperf): kernelperf(abs, -1); meet("b", "a")
        """
    )

    runs = [started(project, f"test_it.py::test_{name}") for name in "ab"]
    codes = [run.wait(timeout=120) for run in runs]

    assert codes == [0, 0]
    stored = Baselines(project.path / "baselines").load("nvidia-scripted", "test_it.py")
    assert sorted(key.split(" ")[0] for key in stored) == ["test_a", "test_b"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_full_disk_leaves_the_old_baselines(project):
    """
    A limit on the size of files stands in for the disk: the write itself fails, half way.
    """
    project.write_two()
    project.run("--kernelperf-update", "-k", "test_a")
    before = project.baseline_text()
    conftest = (project.path / "conftest.py").read_text()
    (project.path / "conftest.py").write_text(
        conftest + "\nimport resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    )

    # Through a pipe: the limit holds for a file with the output too.
    run = started(project, "-k", "test_b", "-p", "no:cacheprovider")
    output, _ = run.communicate(timeout=120)

    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert "test_it.json can't be written: File too large; the file is as it was" in output
    assert before == project.baseline_text()
    assert project.baseline_files() == ["nvidia-scripted/test_it.json"]


def test_ctrl_c_within_an_import_that_it_leaves_unusable_is_an_interrupt(project):
    """NumPy and SciPy can't be imported again in a process where that was interrupted."""
    project.write(
        """
        import sys

        sys.modules["scipy"] = None
        raise KeyboardInterrupt
        """
    )
    run = started(project)
    output, _ = run.communicate(timeout=60)

    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert "Traceback" not in output
    assert "kernelperf: 0 judged" in output
