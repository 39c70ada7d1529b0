"""
A pytest plugin for calibration's own processes: measures each case slowed too, files untouched.

`kernelperf calibrate` loads it with `-p` and says in an environment variable what is wanted. It
stands between the test run and the measuring room: the test gets its measurement as always, and the
slowed ones go to a record of their own.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pytest_kernelperf.analysis import compare, percentile_us
from pytest_kernelperf.calibration.order import (
    VARIABLE,
    CaseDiallings,
    Diallings,
    Order,
    case_key,
    read_diallings,
    slowed_name,
)
from pytest_kernelperf.calibration.slowdowns import (
    Dialling,
    Measured,
    Way,
    dial,
    is_near,
    ways_for,
)
from pytest_kernelperf.calibration.turn import Turn
from pytest_kernelperf.errors import KernelPerfError
from pytest_kernelperf.measure import Job
from pytest_kernelperf.model import Interval, Limits, Measurement, Recorded
from pytest_kernelperf.stash import ROOM, room_of
from pytest_kernelperf.store.files import write_bytes
from pytest_kernelperf.store.runs import RunWriter

#: How much a comparison measures that sizes a slowdown.
_SIZING_ROUNDS, _SIZING_SAMPLES = 3, 8
#: A slowed round of means over many calls has no fewer.
_LEAST_SAMPLES = 10
_AS_IT_IS, _SLOWED = "as it is", "slowed"


class InjectingRoom:
    """
    A measuring room that measures slowed callables besides.

    Args:
        room: The one that measures.
        order: What is wanted.
    """

    def __init__(self, room: Any, order: Order) -> None:
        self._room = room
        self._order = order
        self._random = random.Random(order.seed)
        self._writer: RunWriter | None = None
        self._diallings: Diallings = {} if order.sizes else read_diallings(Path(order.dialled))

    def __getattr__(self, name: str) -> Any:
        """
        Leave everything but `measure` to the room behind.
        """
        return getattr(self._room, name)

    def measure(
        self, subject: Any, jobs: Sequence[Job], *, progress: Any
    ) -> tuple[Any, tuple[Measurement, ...]]:
        """
        Measure as the room does, then the slowed callables; return what the room does.
        """
        output, measurements = self._room.measure(subject, jobs, progress=progress)
        for measurement in measurements:
            if measurement.is_usable:
                if self._order.sizes:
                    self._dial(subject, measurement)
                else:
                    self._measure_slowed(subject, measurement)
        return output, measurements

    def finish(self) -> None:
        """
        Write what was dialled, or end the record.
        """
        if self._order.sizes:
            write_bytes(Path(self._order.dialled), msgspec.json.encode(self._diallings))
        elif self._order.record:
            self._opened().close()

    def _dial(self, subject: Any, measurement: Measurement) -> None:
        time_us = percentile_us(measurement.processes, 50.0)
        found: list[Dialling] = []
        missing: list[str] = []
        for size in self._order.sizes:
            dialling = self._dialled(subject, measurement, time_us, size)
            if isinstance(dialling, Dialling):
                found.append(dialling)
            else:
                missing.append(f"{100 * size:g} %: {dialling}")
        key = case_key(measurement)
        self._diallings[key] = CaseDiallings(time_us, tuple(found), tuple(missing))

    def _dialled(
        self, subject: Any, measurement: Measurement, time_us: float, size: float
    ) -> Dialling | str:
        tried: list[str] = []
        for way in _ways(subject, measurement, time_us, size):
            try:
                dialling = dial(way, size, partial(self._compare, subject, measurement))
            except (KernelPerfError, ValueError) as error:
                tried.append(f"{way.name}: {error}")
                continue
            if is_near(dialling):
                return dialling
            tried.append(f"{way.name} came no nearer than {100 * dialling.measured:.2g} %")
        return "; ".join(tried) or "less than one extra launch takes"

    def _compare(self, subject: Any, measurement: Measurement, slowed: Any) -> Measured:
        plan = measurement.plan
        job = Job(
            case=measurement.case,
            pinned=plan,
            rounds=min(plan.rounds, _SIZING_ROUNDS),
            samples=_SIZING_SAMPLES if measurement.case.timer == "device" else plan.samples,
        )
        _, taken = self._room.measure_interleaved(
            {_AS_IT_IS: subject, _SLOWED: replace(subject, fn=slowed)}, job, progress=_ignore
        )
        problem = taken[_SLOWED].problem
        if problem is not None:
            raise KernelPerfError(problem.message)
        ratio = compare("size", taken, _AS_IT_IS).ratios[1]
        bounds = ratio.speedup_interval
        return 1 / ratio.speedup - 1, Interval(1 / bounds.high - 1, 1 / bounds.low - 1)

    def _measure_slowed(self, subject: Any, measurement: Measurement) -> None:
        dialled = self._diallings.get(case_key(measurement))
        if dialled is None or not self._order.record:
            return
        # In any order, so that no size always has the card as another left it.
        for dialling in self._random.sample(dialled.found, len(dialled.found)):
            ways = _ways(subject, measurement, dialled.time_us, dialling.size)
            for way in (each for each in ways if each.name == dialling.way):
                slowed = replace(subject, fn=way.slowed(dialling.amount))
                for taken in self._taken(slowed, measurement, dialling.size):
                    self._opened().append(Recorded(taken, Limits(), ()))

    def _taken(self, slowed: Any, measurement: Measurement, size: float) -> Iterator[Measurement]:
        case = replace(measurement.case, name=slowed_name(measurement.case.name, size))
        # Half of the samples: within a round more of them buy almost nothing, and time is short.
        samples = max(_LEAST_SAMPLES, measurement.plan.samples // 2)
        if measurement.case.timer != "device":
            samples = measurement.plan.samples
        job = Job(case=case, pinned=measurement.plan, samples=samples)
        try:
            _, taken = self._room.measure(slowed, [job], progress=_ignore)
        except KernelPerfError:
            return  # One trial less; the record shows how many there were.
        yield from (each for each in taken if each.is_usable)

    def _opened(self) -> RunWriter:
        if self._writer is None:
            self._writer = RunWriter(Path(self._order.record))
        return self._writer


class _Injecting:
    """
    The plugin's hooks, registered where an order was given.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._room: InjectingRoom | None = None

    # Last: a conftest of ours may have put a scripted room there.
    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """
        Put the injecting room before the one that measures.
        """
        self._room = InjectingRoom(room_of(session.config), self._order)
        session.config.stash[ROOM] = self._room

    def pytest_sessionfinish(self) -> None:
        """
        Write what was found.
        """
        if self._room is not None:
            self._room.finish()


def pytest_configure(config: pytest.Config) -> None:
    """
    Act only where calibrate gave an order.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return
    order = msgspec.json.decode(text, type=Order)
    config.pluginmanager.register(_Injecting(order))
    if order.turn is not None:
        config.pluginmanager.register(Turn(order.turn, order.seed))


def _ways(subject: Any, measurement: Measurement, time_us: float, size: float) -> tuple[Way, ...]:
    return ways_for(
        subject.fn,
        measurement.case.timer,
        measurement.plan,
        time_us,
        size,
        on_gpu=measurement.processes[0].environment.gpu is not None,
    )


def _ignore(text: str) -> None:
    """
    Show no progress.
    """
