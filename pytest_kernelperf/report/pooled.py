"""
Several runs as one: each case's processes together, and the figures that a report shows of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Protocol

from pytest_kernelperf.analysis import interval_us, percentile_us
from pytest_kernelperf.analysis.intervals import samples_needed
from pytest_kernelperf.analysis.percentiles import gives
from pytest_kernelperf.model import (
    Checks,
    Comparison,
    Independence,
    Interval,
    Measurement,
    Process,
    Recorded,
    Round,
)

#: The seed report's percentiles.
SHOWN = (50.0, 95.0, 99.0)
TIMERS = ("device", "launch", "wall")


class RecordedRun(Protocol):
    """
    What a report needs of a recorded run (`store.runs.Run`).
    """

    @property
    def name(self) -> str: ...

    @property
    def recorded(self) -> tuple[Recorded, ...]: ...

    @property
    def comparisons(self) -> tuple[Comparison, ...]: ...

    @property
    def independences(self) -> tuple[Independence, ...]: ...

    @property
    def complete(self) -> bool: ...


@dataclass(frozen=True)
class Figure:
    """
    One percentile of one case with one timer, microseconds per call.
    """

    time_us: float
    interval_us: Interval


@dataclass(frozen=True)
class Timing:
    """
    One case with one timer, all its processes.

    Attributes:
        recorded: The pooled measurement.
        figures: Percentile to figure; those that the samples can't settle are not in it.
    """

    recorded: Recorded
    figures: Mapping[float, Figure]


@dataclass(frozen=True)
class Row:
    """
    One test case on one model of card: a row of most tables.

    Attributes:
        label: What tables call it.
        device: The card's or processor's model.
        test: The test's name with parameters.
        per: Items per call.
        timings: By timer.
        targets_us: Percentile to limit, microseconds per item.
    """

    label: str
    device: str
    test: str
    per: float
    timings: Mapping[str, Timing]
    targets_us: Mapping[float, float]

    def figure(self, timer: str, percentile: float) -> Figure | None:
        """
        Return a percentile's figure, or None where it was not measured.
        """
        timing = self.timings.get(timer)
        return timing.figures.get(percentile) if timing else None


def device_of(measurement: Measurement) -> str:
    """
    Return the model that a measurement was taken on; "" if nothing was.
    """
    return next((each.environment.device_name for each in measurement.processes), "")


def is_sound(recorded: Recorded) -> bool:
    """
    Return whether a measurement's times mean anything: the kernel was right.
    """
    return recorded.body_passed and recorded.measurement.problem is None


@dataclass(frozen=True)
class Pool:
    """
    The sound measurements of all runs.

    Attributes:
        kept: One per case and device, with the processes of the way that most were measured in.
        left_out: Those measured with another method or plan: another quantity.
    """

    kept: tuple[Recorded, ...]
    left_out: tuple[Recorded, ...]


def pool(runs: Sequence[RecordedRun]) -> Pool:
    """
    Put the processes of each case together; one that occurs in two files counts once.
    """
    cases: dict[object, dict[object, list[Recorded]]] = {}
    for recorded in (each for run in runs for each in run.recorded if is_sound(each)):
        measurement = recorded.measurement
        ways = cases.setdefault((device_of(measurement), measurement.case), {})
        ways.setdefault(measurement.way, []).append(recorded)
    kept, left_out = [], []
    for ways in cases.values():
        joined = [_joined(group) for group in ways.values()]
        most = max(joined, key=lambda each: len(each.measurement.processes))
        kept.append(most)
        left_out += [each for each in joined if each is not most]
    return Pool(tuple(kept), tuple(left_out))


def rows(kept: Sequence[Recorded]) -> tuple[Row, ...]:
    """
    Return a row per test case and device, in the order measured.
    """
    with_file = len({each.measurement.case.file for each in kept}) > 1
    cells: dict[object, dict[str, Recorded]] = {}
    for recorded in kept:
        case = recorded.measurement.case
        key = (device_of(recorded.measurement), replace(case, timer=""))
        cells.setdefault(key, {})[case.timer] = recorded
    return tuple(_row(by_timer, with_file) for by_timer in cells.values())


def rounds_of(measurement: Measurement) -> tuple[Round, ...]:
    """
    Return the rounds of all processes.
    """
    return tuple(each for process in measurement.processes for each in process.rounds)


def sample_count(measurement: Measurement) -> int:
    """
    Return how many samples were kept.
    """
    return sum(len(each.times_us) for each in rounds_of(measurement))


def sampled_processes(measurement: Measurement) -> tuple[Process, ...]:
    """
    Return the processes that kept a sample.
    """
    return tuple(each for each in measurement.processes if each.has_samples)


def added_checks(several: Iterable[Checks]) -> Checks:
    """
    Return the sum of what was checked, and the largest difference.
    """
    return reduce(_added, several, Checks())


def _added(one: Checks, other: Checks) -> Checks:
    differences = (one.max_abs_difference, other.max_abs_difference)
    known = [each for each in differences if each is not None]
    return Checks(
        outputs_checked=one.outputs_checked + other.outputs_checked,
        max_abs_difference=max(known, default=None),
        inputs_checked=one.inputs_checked + other.inputs_checked,
        poisoned=one.poisoned + other.poisoned,
    )


def _joined(group: Sequence[Recorded]) -> Recorded:
    processes: dict[str, Process] = {}
    measurements: list[Measurement] = []
    for measurement in (each.measurement for each in group):
        new = {p.origin: p for p in measurement.processes if p.origin not in processes}
        if new or not measurements:
            measurements.append(measurement)
        processes.update(new)
    joined = replace(
        measurements[0],
        processes=tuple(processes.values()),
        checks=added_checks(each.checks for each in measurements),
        notes=tuple(dict.fromkeys(note for each in measurements for note in each.notes)),
    )
    return replace(group[0], measurement=joined)


def _row(chosen: Mapping[str, Recorded], with_file: bool) -> Row:
    first = next(iter(chosen.values()))
    case, device = first.measurement.case, device_of(first.measurement)
    on_card = any(p.environment.gpu for p in first.measurement.processes)
    label = case.label if with_file else case.label.removeprefix(f"{case.file}::")
    targets: dict[float, float] = {}
    for recorded in chosen.values():
        targets = {**recorded.limits.targets_us, **targets}
    return Row(
        label=label + (", L2 warm" if on_card and case.l2 == "warm" else ""),
        device=device,
        test=case.test,
        per=first.limits.per,
        timings={
            timer: _timing(chosen[timer], {*SHOWN, *targets}) for timer in TIMERS if timer in chosen
        },
        targets_us=targets,
    )


def _timing(recorded: Recorded, percentiles: Iterable[float]) -> Timing:
    measurement = recorded.measurement
    figures = {}
    for q in sorted(percentiles):
        enough = sample_count(measurement) >= samples_needed(q)
        span = interval_us(measurement.processes, q) if enough else None
        if span is not None and gives(measurement.case.timer, q):
            figures[q] = Figure(percentile_us(measurement.processes, q), span)
    return Timing(recorded, figures)
