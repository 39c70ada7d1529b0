"""
`--kernelperf-against`: an interrupted run leaves no worktree behind.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from git_project import Repository, left_in

HANGING = """
import os, time

def test_kernel(kernelperf):
    if os.environ.get("KERNELPERF_PROCESS") == "2":
        open({flag!r}, "w").close()
        time.sleep(60)
    kernelperf(abs, -1)
"""


def started(repository: Repository) -> subprocess.Popen:
    """
    Start a run, and return when the revision's process measures.
    """
    flag = repository.path / "run.js-flag"
    (repository.path / "test_it.py").write_text(HANGING.format(flag=str(flag)))
    repository.commit("hangs")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-p", "kernelperf", "--kernelperf"),
            *("--kernelperf-against", "HEAD"),
        ],
        cwd=repository.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until = time.monotonic() + 60
    while not flag.exists():
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 2), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_an_interrupted_run_leaves_no_worktree(repository, temporary, number, status):
    process = started(repository)
    assert 2 == repository.worktrees()

    process.send_signal(number)
    process.communicate(timeout=60)

    assert status == process.returncode
    assert 1 == repository.worktrees()
    assert [] == left_in(temporary)


def test_the_next_run_removes_what_a_killed_one_left(repository, temporary):
    process = started(repository)
    process.kill()
    process.communicate(timeout=60)
    assert 2 == repository.worktrees()
    repository.project.write()

    repository.run("HEAD~1").assert_outcomes(passed=1)

    assert 1 == repository.worktrees()
    assert [] == left_in(temporary)
