"""
The injecting room: sizes slowdowns, measures slowed callables, and leaves the test its own.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_kernelperf.calibration.injection import InjectingRoom
from pytest_kernelperf.calibration.order import Order, read_diallings
from pytest_kernelperf.calibration.slowdowns import Dialled
from pytest_kernelperf.errors import TimerUnavailableError
from pytest_kernelperf.measure import Job, Subject
from pytest_kernelperf.model import Problem
from pytest_kernelperf.store.runs import read_run


class Room:
    """
    Measures a `Dialled` as 3.2 µs and so many promille more as its amount says; no other callable.
    """

    def __init__(self, make) -> None:
        self._make = make
        self.problem: Problem | None = None
        self.step = 1
        self.jobs: list[Job] = []

    def environment(self, device: str) -> str:
        return f"environment of {device}"

    def measure(self, subject, jobs, *, progress):
        self.jobs += jobs
        if not isinstance(subject.fn, Dialled):
            raise TimerUnavailableError("not here")
        return "output", tuple(self._taken(subject, job) for job in jobs)

    def measure_interleaved(self, subjects, job, *, progress):
        self.jobs.append(job)
        return {}, {name: self._taken(one, job) for name, one in subjects.items()}

    def _taken(self, subject, job):
        amount = getattr(subject.fn, "amount", 1000)
        process = self._make.process("p")
        factor = 1 + self.step * amount / 1000
        rounds = tuple(
            replace(one, times_us=tuple(time * factor for time in one.times_us))
            for one in process.rounds
        )
        plan = job.pinned or self._make.plan()
        found = self._make.measurement((replace(process, rounds=rounds),), job.case)
        return replace(found, plan=plan, problem=self.problem)


@pytest.fixture
def room(make) -> Room:
    return Room(make)


@pytest.fixture
def job(make) -> Job:
    return Job(make.case())


def dialled(share: float = 0.01) -> Subject:
    return Subject(Dialled(lambda amount: amount, "extra bytes", share))


def ordered(tmp_path, **changes) -> Order:
    return Order(str(tmp_path / "slowdowns.json"), **changes)


def test_the_test_gets_its_own_measurement_and_output(room, job, tmp_path):
    injecting = InjectingRoom(room, ordered(tmp_path, sizes=(0.02,)))

    output, (measurement,) = injecting.measure(dialled(), [job], progress=None)

    assert "output" == output
    assert job.case == measurement.case
    assert "environment of cuda" == injecting.environment("cuda")


def test_sizes_are_dialled_by_comparison_and_kept(room, job, tmp_path):
    injecting = InjectingRoom(room, ordered(tmp_path, sizes=(0.02, 0.05)))
    injecting.measure(dialled(), [job], progress=None)
    injecting.finish()

    (case,) = read_diallings(tmp_path / "slowdowns.json").values()

    assert [(0.02, 20), (0.05, 50)] == [(one.size, one.amount) for one in case.found]
    assert 0.02 == pytest.approx(case.found[0].measured, rel=0.02)
    assert () == case.missing


def test_a_size_that_nothing_reaches_is_missing_and_says_why(room, job, tmp_path):
    """
    The kernel's own dial is found broken, and an extra launch reads 100 % here whatever it spins.
    """
    room.step = 20
    subject = Subject(Dialled(lambda amount: amount, "extra bytes", share=1.0))
    injecting = InjectingRoom(room, ordered(tmp_path, sizes=(0.0001,)))

    injecting.measure(subject, [job], progress=None)
    injecting.finish()
    (case,) = read_diallings(tmp_path / "slowdowns.json").values()

    assert () == case.found
    (why,) = case.missing
    assert "0.01 %: extra bytes came no nearer than 2 %" == why


def test_slowed_callables_are_recorded_by_size_with_the_same_plan(room, job, tmp_path):
    first = InjectingRoom(room, ordered(tmp_path, sizes=(0.02, 0.05)))
    first.measure(dialled(), [job], progress=None)
    first.finish()
    record = tmp_path / "slowed.run.gz"
    injecting = InjectingRoom(room, ordered(tmp_path, record=str(record), seed=3))

    _, (unslowed,) = injecting.measure(dialled(), [job], progress=None)
    injecting.finish()

    run = read_run(record)
    assert run.complete
    found = {one.measurement.case.name: one.measurement for one in run.recorded}
    assert {"+2%", "+5%"} == set(found)
    times = [max(one.processes[0].rounds[0].times_us) for one in (unslowed, found["+5%"])]
    assert 1.05 == pytest.approx(times[1] / times[0], rel=1e-9)
    assert unslowed.plan == found["+2%"].plan
    assert all(one.pinned == unslowed.plan for one in room.jobs[-2:])


def test_an_invalid_measurement_is_not_slowed(room, job, tmp_path):
    room.problem = Problem("WRONG_OUTPUT", "wrong")
    injecting = InjectingRoom(room, ordered(tmp_path, sizes=(0.02,)))

    injecting.measure(dialled(), [job], progress=None)
    injecting.finish()

    assert {} == read_diallings(tmp_path / "slowdowns.json")
