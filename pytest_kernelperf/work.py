"""
Counts what one call does, from `flops=` and `bytes=`, and refuses times that can't be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.keywords import Count, number
from pytest_kernelperf.model import Environment, Measurement, Peaks, Problem, Work
from pytest_kernelperf.options import Options
from pytest_kernelperf.units import is_time

if TYPE_CHECKING:
    from pytest_kernelperf.measure import CallShape, Subject


class Limited(Protocol):
    """
    The part of the measuring room that knows a card and its limits.
    """

    def environment(self, device: str) -> Environment: ...

    def peaks(self, device: str) -> Peaks | None: ...


def count_work(options: Options, subject: Subject, shape: CallShape, room: Limited) -> Work | None:
    """
    Return what one call does and what its card can do; None if the test counts nothing.

    The ceilings in use go into the record, so that it gives the same shares wherever it is judged.

    Args:
        options: Of the test.
        subject: Functions count from its arguments.
        shape: Of the same call.
        room: Measures; knows the card.

    Raises:
        OptionsError: If a function raises, or does not return a number above 0.
        CeilingsError: If measured ceilings were kept and can't be read.
    """
    from pytest_kernelperf.store.ceilings import read_ceilings

    if options.flops is None and options.moved_bytes is None:
        return None
    moved_bytes = _counted("bytes", options.moved_bytes, subject)
    gpu = room.environment(shape.device).gpu
    return Work(
        flops=_counted("flops", options.flops, subject),
        moved_bytes=moved_bytes,
        cold_bytes=min(moved_bytes or 0.0, float(shape.footprint_bytes)),
        operands=shape.operands,
        peaks=room.peaks(shape.device),
        ceilings=read_ceilings(gpu.uuid) if gpu else None,
    )


def held_to(work: Work | None, measurement: Measurement) -> Measurement:
    """
    Return a measurement with its work; INVALID if it took less time than that can take.
    """
    from pytest_kernelperf.analysis import physics_problem

    if work is None:
        return measurement
    if measurement.case.l2 != "cold":
        # Inputs in the cache may come faster than the memory's rate.
        work = replace(work, cold_bytes=0.0)
    counted = replace(measurement, work=work)
    return replace(counted, problem=counted.problem or physics_problem(counted))


def timed(measurement: Measurement) -> Measurement:
    """
    Return a measurement, INVALID if its clock did not move: times of 0 would be an improvement.

    A few such samples are a coarse clock's; the analysis takes its tick into account.
    """
    times_us = measurement.times_us
    still = sum(not is_time(time_us) for time_us in times_us)
    if measurement.problem is not None or 2 * still < len(times_us) or not times_us:
        return measurement
    return replace(
        measurement,
        problem=Problem(
            "CLOCK_STOOD_STILL",
            f"{still} of {len(times_us)} samples are no time above 0: the call is shorter than a "
            "tick of the clock, or the test has frozen it (freezegun and the like); time more work "
            "per call, or let the clock run",
        ),
    )


def _counted(keyword: str, count: Count | None, subject: Subject) -> float | None:
    if count is None:
        return None
    return _called(keyword, count, subject) if callable(count) else count


def _called(keyword: str, count: Callable[..., Any], subject: Subject) -> float:
    from pytest_kernelperf.measure.subject import arguments_of, name_of

    args, kwargs = arguments_of(subject)
    try:
        return number(count(*args, **kwargs), "a number above 0")
    except Exception as error:
        said = str(error) if isinstance(error, OptionsError) else f"{type(error).__name__}: {error}"
        raise OptionsError(
            f"{keyword}={name_of(count)} must count one call of {name_of(subject.fn)} from its "
            f"arguments, and did not: {said}"
        ) from error
