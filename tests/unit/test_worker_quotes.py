"""
How fresh processes start, and what is quoted of one that failed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_kernelperf.measure.neighbours import FAMILY, TURN
from pytest_kernelperf.processes import workers
from pytest_kernelperf.processes.escalation import Request
from pytest_kernelperf.processes.workers import Collected, Launch, Pool, gist


def test_a_process_that_the_system_refuses_costs_itself_and_not_the_test(tmp_path: Path):
    pool = Pool(lambda number: Launch((), (), str(tmp_path / "gone"), (), {}), 1.0)

    pool.start([2], lambda: None)
    answer = pool.measure(2, Request("test_x.py::test_x", ()), lambda: None)
    pool.stop()

    assert answer.failure.startswith("worker 2 could not be started: [Errno 2]")


def test_many_processes_start_a_few_at_once(monkeypatch: pytest.MonkeyPatch):
    importing: set[int] = set()
    together = []

    class Starting:
        pid = 1

        def __init__(self, number: int, launch: Launch) -> None:
            self.number = number
            importing.add(number)
            together.append(len(importing))

        def receive(self, limit_s: float, waiting: object) -> Collected:
            importing.remove(self.number)
            return Collected((), {})

    monkeypatch.setenv(FAMILY, "")
    monkeypatch.setenv(TURN, "")
    monkeypatch.setattr(workers, "_Worker", Starting)
    monkeypatch.setattr(workers, "AT_ONCE", 3)
    pool = Pool(lambda number: Launch((), (), "", (), {}), 1.0)

    pool.start(range(2, 9), lambda: None)

    assert together == [1, 2, 3, 1, 2, 3, 1]
    assert all(isinstance(pool.collected(number), Collected) for number in range(2, 9))


def test_an_interrupt_while_processes_say_farewell_ends_them_at_once(monkeypatch):
    killed = []

    class Slow:
        pid = 1

        def __init__(self, number: int, launch: Launch) -> None:
            self.number = number

        def receive(self, limit_s: float, waiting: object) -> Collected:
            return Collected((), {})

        def dismiss(self) -> None:
            pass

        def wait(self, seconds: float) -> None:
            raise KeyboardInterrupt

        def kill(self) -> None:
            killed.append(self.number)

    monkeypatch.setenv(FAMILY, "")
    monkeypatch.setenv(TURN, "")
    monkeypatch.setattr(workers, "_Worker", Slow)
    pool = Pool(lambda number: Launch((), (), "", (), {}), 1.0)
    pool.start([2, 3], lambda: None)

    pool.stop()

    assert [2, 3] == killed
    assert {FAMILY, TURN}.isdisjoint(os.environ)


def test_processes_that_all_fail_to_start_leave_no_family_behind(monkeypatch):
    def missing(number: int, launch: Launch) -> None:
        raise OSError("no more processes")

    monkeypatch.setenv(FAMILY, "")
    monkeypatch.setenv(TURN, "")
    monkeypatch.setattr(workers, "_Worker", missing)
    pool = Pool(lambda number: Launch((), (), "", (), {}), 1.0)

    pool.start([2, 3], lambda: None)
    pool.stop()

    assert {FAMILY, TURN}.isdisjoint(os.environ)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("one\n\nlast\n\n", "last"),
        ("E   ModuleNotFoundError: no x\n=== short summary ===\n", "ModuleNotFoundError: no x"),
        ("ERROR: not found: a.py\n", "ERROR: not found: a.py"),
        ("usage: x\npytest: error: unrecognized arguments: --y\n  inifile: z", "unrecognized"),
        ("usage: x\n__main__.py: error: unrecognized arguments: --y\n  inifile", "unrecognized"),
        ("ERROR: usage: pytest.main()\npytest.main(): error: unrecognized: --y\n", "unrecogn"),
        ("nvcc: error: unused flag\nE  CUDA out of memory\n", "CUDA out of memory"),
        ("a.cu: error: harmless\nFatal Python error: Segmentation fault\n", "Fatal Python error"),
        ("Fatal Python error: Segmentation fault\n\nThread 1:\n", "Fatal Python error: Segm"),
        ("platform linux\ncollected 2 items / 1 selected\n\na/test_a.py .", ""),
        ("platform linux\ncollected 2 items\n\na/test_a.py\nran out\n", "ran out"),
        ("platform linux\nE   boom\na/test_a.py [ 50%]", "boom"),
        ("kernelperf: x did not return within 5 s\nE  later\nFile y", "kernelperf: x did not"),
    ],
)
def test_the_telling_line_is_quoted(text, expected):
    assert gist(text).startswith(expected)
    assert bool(gist(text)) == bool(expected)
