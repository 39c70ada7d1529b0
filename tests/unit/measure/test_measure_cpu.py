"""
A callable on the CPU becomes a complete measurement, or a refusal that says what to do.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_kernelperf import measure as room
from pytest_kernelperf.errors import SubjectError, TimerUnavailableError
from pytest_kernelperf.measure import Job, Subject
from pytest_kernelperf.model import Case, Plan, Process

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[3]
CASE = Case("t.py", "test_x", "", "wall", "warm", "paced")
QUICK = Job(CASE, samples=5, rounds=2)


def test_a_measurement_is_complete() -> None:
    x = torch.randn(8, 8)
    output, (found,) = room.measure(Subject(torch.mm, (x, x)), [QUICK])
    (process,) = found.processes

    assert torch.equal(torch.mm(x, x), output)
    assert (CASE, "host-clock", None) == (found.case, found.method, found.problem)
    assert Plan(1, 1, 0.0, 5, 2, 1) == found.plan
    assert [5, 5] == [len(one.times_us) for one in process.rounds]
    assert 32 == len(process.id)
    assert process.started.endswith("+00:00")
    assert process.environment.gpu is None
    assert process.environment.tick_us > 0
    assert (8, 8) == (found.checks.outputs_checked, found.checks.inputs_checked)


def measured_process() -> Process:
    return room.measure(Subject(len, ("ab",)), [QUICK])[1][0].processes[0]


def test_two_measurements_have_ids_of_their_own_and_tell_that_one_process_made_them() -> None:
    found = [measured_process() for _ in range(2)]

    assert 2 == len({each.id for each in found})
    assert 1 == len({each.origin for each in found})


def test_a_forked_process_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = measured_process()
    monkeypatch.setattr(room.os, "getpid", lambda: -1)

    assert parent.origin != measured_process().origin


def test_what_the_guard_noted_is_in_the_measurement() -> None:
    _, (found,) = room.measure(Subject(lambda x: x[1:], (torch.zeros(3),)), [QUICK])

    assert ("the output shares memory with x: compared, but not poisoned",) == found.notes


def test_each_job_is_measured() -> None:
    jobs = [QUICK, replace(QUICK, case=replace(CASE, name="b"), samples=3)]
    _, found = room.measure(Subject(len, ("ab",)), jobs)

    assert ["", "b"] == [one.case.name for one in found]
    assert [5, 3] == [one.plan.samples for one in found]
    # Each counts its own checks: of five samples four are checked, of three all.
    assert [8, 6] == [one.checks.outputs_checked for one in found]


def test_a_pinned_plan_is_reused() -> None:
    pinned = Plan(1, 1, 0.0, 4, 3, 1)
    _, (found,) = room.measure(Subject(len, ("ab",)), [Job(CASE, pinned=pinned)])

    assert pinned == found.plan


def test_a_callable_that_only_writes_fills_the_users_tensor() -> None:
    x, out = torch.ones(3), torch.zeros(3)

    def fn(x: torch.Tensor, *, out: torch.Tensor) -> None:
        torch.add(x, 1, out=out)

    output, (found,) = room.measure(Subject(fn, (x,), {"out": out}, mutates=("out",)), [QUICK])

    assert output is None
    assert found.problem is None
    assert [2.0, 2.0, 2.0] == out.tolist()


def test_an_accumulating_callable_ends_as_after_one_call() -> None:
    x = torch.ones(3)
    room.measure(Subject(lambda x: x.mul_(2), (x,), mutates=("x",)), [QUICK, QUICK])

    assert [2.0, 2.0, 2.0] == x.tolist()


def test_an_invalid_subject_ends_the_jobs() -> None:
    _, found = room.measure(Subject(torch.rand_like, (torch.zeros(3),)), [QUICK, QUICK])

    assert 1 == len(found)
    assert found[0].problem is not None
    assert "NOT_DETERMINISTIC" == found[0].problem.code
    assert () == found[0].processes[0].rounds


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
def test_what_the_callable_raises_passes_through(error: BaseException) -> None:
    def fn(x: torch.Tensor) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        room.measure(Subject(fn, (torch.zeros(1),)), [QUICK])

    assert caught.value is error


@pytest.mark.parametrize("timer", ["device", "launch"])
def test_gpu_timers_are_refused_on_a_cpu_with_the_cure(timer: str) -> None:
    calls: list[Any] = []
    job = replace(QUICK, case=replace(CASE, timer=timer))

    with pytest.raises(TimerUnavailableError, match="expected timer='wall'"):
        room.measure(Subject(calls.append, (torch.zeros(1),)), [job])
    assert [] == calls


def test_an_unknown_timer_is_refused() -> None:
    with pytest.raises(TimerUnavailableError, match="timer 'cpu' is unknown"):
        room.measure(Subject(len, ("ab",)), [replace(QUICK, case=replace(CASE, timer="cpu"))])


def test_callables_are_measured_side_by_side() -> None:
    x = torch.randn(4, 4)
    subjects = {"mm": Subject(torch.mm, (x, x)), "at": Subject(lambda x: x @ x, (x,))}
    outputs, found = room.measure_interleaved(subjects, QUICK)

    assert ["mm", "at"] == list(found) == list(outputs)
    assert torch.equal(outputs["mm"], outputs["at"])
    assert found["mm"].plan == found["at"].plan
    assert [5, 5] == [len(one.times_us) for one in found["at"].processes[0].rounds]


def test_one_invalid_callable_ends_the_comparison() -> None:
    x = torch.zeros(4)
    subjects = {"good": Subject(torch.neg, (x,)), "bad": Subject(torch.rand_like, (x,))}
    _, found = room.measure_interleaved(subjects, QUICK)

    assert found["good"].problem is None
    assert found["bad"].problem is not None
    assert "NOT_DETERMINISTIC" == found["bad"].problem.code
    assert "none" == found["bad"].method
    assert () == found["good"].processes[0].rounds


def test_an_unmeasured_call_uses_the_users_own_tensors() -> None:
    x = torch.zeros(2)

    assert room.call_once(Subject(lambda x: x.add_(1), (x,))) is x
    assert [1.0, 1.0] == x.tolist()


def test_an_unmeasured_call_may_return_nothing() -> None:
    assert room.call_once(Subject(lambda: None)) is None


def test_an_unmeasured_lazy_callable_is_refused() -> None:
    async def fn() -> None: ...

    for lazy in (fn, lambda: fn()):
        with pytest.raises(SubjectError, match="calling it does no work"):
            room.call_once(Subject(lazy))


def run_without_torch(body: str) -> str:
    """
    Run a script in a process where torch can't be imported; return what it prints.
    """
    prelude = "import sys; sys.modules['torch'] = None\nfrom pytest_kernelperf.measure import *\n"
    done = subprocess.run(
        [sys.executable, "-c", prelude + body],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_plain_python_is_measured_without_torch() -> None:
    said = run_without_torch(
        "from pytest_kernelperf.model import Case\n"
        "job = Job(Case('t.py', 't', '', 'wall', 'warm', 'paced'), samples=5, rounds=2)\n"
        "subject = Subject(sum, ([1, 2],))\n"
        "output, (found,) = measure(subject, [job])\n"
        "print(output, inspect_call(subject), len(found.processes[0].rounds), found.problem)"
    )

    shape = "CallShape(inputs=(), device='cpu', footprint_bytes=0, operands=None)"
    assert f"3 {shape} 2 None" == said


def test_importing_the_room_imports_no_torch() -> None:
    heavy = "torch", "numpy", "scipy", "triton", "pynvml", "cuda"
    code = f"import pytest_kernelperf.measure, sys; print([m for m in {heavy} if m in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert "[]" == said.strip()
