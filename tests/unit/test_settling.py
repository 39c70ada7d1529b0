"""
What a run does with its other processes when it is about to be ended.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest

from pytest_kernelperf.processes.escalation import Answer
from pytest_kernelperf.processes.workers import Launch
from pytest_kernelperf.settings import Settings
from pytest_kernelperf.settling import Settling
from pytest_kernelperf.stash import WORKERS

LAUNCH = Launch((), (), "", (), {})


def test_a_run_that_hangs_ends_its_fresh_processes_at_once():
    ended = []
    config = SimpleNamespace(stash=pytest.Stash())
    config.stash[WORKERS] = SimpleNamespace(abandon=lambda: ended.append("all"))

    Settling(config, Settings(), LAUNCH, lambda text: None).abandon()

    assert ended == ["all"]


def test_memory_stays_where_no_other_process_measures_after_a_test(make):
    """
    A later run keeps it too, and what a kernel takes depends on where its tensors lie.
    """
    measured, given_back = make.recorded(), []
    config = SimpleNamespace(stash=pytest.Stash())
    config.stash[WORKERS] = SimpleNamespace(
        start=lambda *_: None, retire=lambda _: None, measure=lambda *_: Answer((measured,))
    )
    settling = Settling(config, Settings(processes=2), LAUNCH, lambda text: None)
    settling.sweep(["test_x.py::test_x"])

    def settle(nodeid):
        release = partial(given_back.append, nodeid)
        (found,) = settling.settle(nodeid, [measured], lambda one: one, release)
        return len(found.measurement.processes)

    assert [settle("test_x.py::test_x"), given_back] == [2, []]
    assert [settle("test_x.py::test_late"), given_back] == [2, ["test_x.py::test_late"]]


def test_what_can_be_measured_here_is_not_asked_where_no_process_measures_first():
    def tests():
        raise AssertionError
        yield

    config = SimpleNamespace(stash=pytest.Stash())

    Settling(config, Settings(), LAUNCH, lambda text: None).sweep(tests())
