"""
The progress line: on a terminal, while measuring, and nowhere else.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest


def run_on_a_terminal(project, *args: str) -> str:
    """
    Run pytest with a terminal for its output, and return all that it wrote.
    """
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "pytest", "-p", "kernelperf", *args]
    with subprocess.Popen(command, cwd=project.path, stdout=slave, stderr=slave) as process:
        os.close(slave)
        chunks = []
        while True:
            try:
                chunk = os.read(master, 4096)
            except OSError:  # Linux's way of saying that the other end is closed.
                break
            if not chunk:
                break
            chunks.append(chunk)
    os.close(master)
    assert process.returncode == 0
    return b"".join(chunks).decode()


def test_on_a_terminal_it_says_what_is_measured_and_takes_it_away(project):
    project.write()

    text = run_on_a_terminal(project, "--kernelperf")

    shown = text.index("test_kernel: round 1 of 5")
    # Back to where pytest's own line stood, and later erased.
    assert text[shown:].startswith("test_kernel: round 1 of 5\x1b8")
    assert "\x1b[K" in text[shown:]


def test_it_is_silent_under_q(project):
    project.write()

    assert "round 1 of 5" not in run_on_a_terminal(project, "--kernelperf", "-q")


def test_it_is_silent_without_a_terminal(project):
    project.write()

    result = project.run("--kernelperf", "-s")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*round 1 of 5*")


def test_it_says_which_fresh_process_measures(project_with_workers):
    project_with_workers.write()

    text = run_on_a_terminal(project_with_workers, "--kernelperf", "--kernelperf-processes", "2")

    assert "test_kernel: process 2 of 2" in text
