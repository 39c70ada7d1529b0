"""
Turns a callable into samples; the only room that touches a GPU or a clock.

Importing it imports neither torch nor a driver: those come with the callable that needs them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from pytest_kernelperf.errors import TimerUnavailableError
from pytest_kernelperf.measure.agreement import Tolerance, across
from pytest_kernelperf.measure.environment import environment
from pytest_kernelperf.measure.guard import Guard
from pytest_kernelperf.measure.subject import (
    CallShape,
    Job,
    Subject,
    Taken,
    arguments_of,
    inspect_call,
    name_of,
    refuse_lazy_function,
    refuse_lazy_output,
)
from pytest_kernelperf.measure.watchdog import install, watch
from pytest_kernelperf.model import Environment, Measurement, Peaks, Plan, Problem, Process

__all__ = [
    "CallShape",
    "Job",
    "Subject",
    "Tolerance",
    "across",
    "call_once",
    "environment",
    "inspect_call",
    "install",
    "measure",
    "measure_interleaved",
    "peaks",
    "release",
    "watch",
]

#: Stands where the subject failed its untimed calls, before a plan was needed.
_NO_PLAN = Plan(calls_per_sample=1, burst=1, gap_us=0.0, samples=0, rounds=0, input_sets=1)


def ignore(text: str) -> None:
    """
    Show no progress.
    """


def call_once(subject: Subject) -> Any:
    """
    Call the subject as its author would, on its own arguments, unmeasured and uncopied.

    Raises:
        SubjectError: It is a coroutine or generator function, or returned one.
    """
    refuse_lazy_function(subject.fn)
    args, kwargs = arguments_of(subject)
    output = subject.fn(*args, **kwargs)
    refuse_lazy_output(subject.fn, output)
    return output


def release() -> None:
    """
    Give the memory that torch keeps for later back to the cards: another process measures now.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def measure(
    subject: Subject, jobs: Sequence[Job], *, progress: Callable[[str], None] = ignore
) -> tuple[Any, tuple[Measurement, ...]]:
    """
    Measure one callable with one timer after the other.

    Args:
        subject: The callable; its exceptions pass through, and then nothing is returned.
        jobs: What is wanted; at least one.
        progress: Gets a short text now and then.

    Returns:
        The callable's own output from a timed call (a copy, its written arguments in place), and
        a measurement per job. The last one carries the problem if the subject is INVALID; the
        jobs after it were not run.

    Raises:
        SubjectError: The callable or its arguments can't be measured as they are.
        TimerUnavailableError: A timer or device is not supported here.
    """
    shape = inspect_call(subject)
    for job in jobs:
        _refuse_timer(subject, shape, job)
    guard = Guard(subject, shape)
    measurements = []
    with _on_device(shape.device):
        problem = guard.learn()
        for job in jobs:
            taken = _invalid(job, problem) if problem else _take(subject, guard, job, progress)
            measurements.append(_measurement(job, taken, guard))
            problem = taken.problem
            if problem:
                break
        output = guard.hand_over()
    return output, tuple(measurements)


def measure_interleaved(
    subjects: Mapping[str, Subject], job: Job, *, progress: Callable[[str], None] = ignore
) -> tuple[Mapping[str, Any], Mapping[str, Measurement]]:
    """
    Measure several callables with one timer and one plan, their samples taken in turn.

    Args:
        subjects: Name to callable; all on one device.
        job: What is wanted; its case describes all of them.
        progress: Gets a short text now and then.

    Returns:
        Each callable's own output from a timed call, and a measurement each. If one of them is
        INVALID it carries the problem, and the others have fewer rounds or none.

    Raises:
        SubjectError: A callable or its arguments can't be measured as they are.
        TimerUnavailableError: The timer or device is not supported here.
    """
    shapes = {name: inspect_call(subject) for name, subject in subjects.items()}
    device = _one_device(shapes)
    for name, subject in subjects.items():
        _refuse_timer(subject, shapes[name], job)
    guards = {name: Guard(subject, shapes[name]) for name, subject in subjects.items()}
    with _on_device(device):
        found = {name: guard.learn() for name, guard in guards.items()}
        if any(found.values()):
            taken = {name: _invalid(job, problem) for name, problem in found.items()}
        else:
            taken = _room_for(device).take(subjects, guards, job, progress)
        outputs = {name: guard.hand_over() for name, guard in guards.items()}
    return outputs, {name: _measurement(job, taken[name], guards[name]) for name in subjects}


def peaks(device: str) -> Peaks | None:
    """
    Return what a device can't exceed; None for a CPU, whose limits nobody states.
    """
    if device == "cpu":
        return None
    from pytest_kernelperf.measure import ceilings

    return ceilings.peaks(int(device.partition(":")[2] or 0))


def _take(subject: Subject, guard: Guard, job: Job, progress: Callable[[str], None]) -> Taken:
    room = _room_for(guard.shape.device)
    taken: dict[str, Taken] = room.take({"": subject}, {"": guard}, job, progress)
    return taken[""]


def _room_for(device: str) -> Any:
    """
    Return the module that measures on a device.
    """
    if device == "cpu":
        from pytest_kernelperf.measure import host_clock

        return host_clock
    from pytest_kernelperf.measure import cuda

    return cuda


def _on_device(device: str) -> contextlib.AbstractContextManager[Any]:
    """
    Make a CUDA device current, because a callable's own allocations go to the current one.
    """
    if device == "cpu":
        return contextlib.nullcontext()
    import torch

    guard: contextlib.AbstractContextManager[Any] = torch.cuda.device(device)
    return guard


def _refuse_timer(subject: Subject, shape: CallShape, job: Job) -> None:
    timer = job.case.timer
    if timer not in ("device", "launch", "wall"):
        raise TimerUnavailableError(
            f"timer {timer!r} is unknown: expected 'device', 'launch' or 'wall'"
        )
    if shape.device == "cpu" and timer != "wall":
        raise TimerUnavailableError(
            f"timer {timer!r} measures a GPU, but {name_of(subject.fn)} got no CUDA tensor: "
            "expected timer='wall' for a callable on the CPU; name that, or no timer, or move the "
            "tensors"
        )


def _one_device(shapes: Mapping[str, CallShape]) -> str:
    devices = {shape.device for shape in shapes.values()}
    if len(devices) == 1:
        return devices.pop()
    where = ", ".join(f"{name!r} on {shape.device}" for name, shape in shapes.items())
    raise TimerUnavailableError(
        f"callables can't be measured side by side on several devices ({where}): expected one; "
        "give all of them tensors on the same device"
    )


def _invalid(job: Job, problem: Problem | None) -> Taken:
    return Taken("none", job.pinned or _NO_PLAN, (), problem=problem)


def _measurement(job: Job, taken: Taken, guard: Guard) -> Measurement:
    """
    Put what a timer brought back together with where, when and how well checked it was.
    """
    process = Process(
        id=_of_process(os.getpid()) + uuid.uuid4().hex[:16],
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        environment=_environment(guard.shape.device),
        rounds=taken.rounds,
    )
    return Measurement(
        case=job.case,
        plan=taken.plan,
        method=taken.method,
        processes=(process,),
        kernels=taken.kernels,
        checks=guard.result(),
        notes=tuple(dict.fromkeys((*guard.notes, *taken.notes))),
        problem=taken.problem,
    )


@functools.cache
def _of_process(pid: int) -> str:
    """
    Return what all ids of this process begin with; a forked one has another number, so another.
    """
    return uuid.uuid4().hex[:16]


def _environment(device: str) -> Environment:
    """
    Return the fingerprint of this machine, with the host clock's own probes on a CPU.
    """
    found = environment(device)
    if device != "cpu":
        return found
    from pytest_kernelperf.measure.host_clock import probe_clock

    tick_us, empty_us = probe_clock()
    return dataclasses.replace(found, tick_us=tick_us, empty_interval_us=empty_us)
