"""
Measures one callable of one test and has it judged: options and arguments in, records out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_kernelperf import compiled
from pytest_kernelperf.asks import asks_for, choose_l2, choose_timers, refuse_pace, timer_for
from pytest_kernelperf.comparing import check_same_shape
from pytest_kernelperf.errors import KernelPerfError
from pytest_kernelperf.model import Case, Compiled, Measurement, Recorded
from pytest_kernelperf.provenance import read_provenance
from pytest_kernelperf.work import count_work, held_to, timed

if TYPE_CHECKING:
    from pytest_kernelperf.gate import Gate
    from pytest_kernelperf.measure import CallShape, Job, Subject
    from pytest_kernelperf.model import (
        Against,
        Comparison,
        Environment,
        Independence,
        Peaks,
        Plan,
    )
    from pytest_kernelperf.options import Options
    from pytest_kernelperf.settings import Settings


class Room(Protocol):
    """
    The part of `pytest_kernelperf.measure` that a test run needs; tests script their own.
    """

    def inspect_call(self, subject: Subject) -> CallShape: ...

    def call_once(self, subject: Subject) -> Any: ...

    def measure(
        self, subject: Subject, jobs: list[Job], *, progress: Callable[[str], None]
    ) -> tuple[Any, tuple[Measurement, ...]]: ...

    def measure_interleaved(
        self, subjects: Mapping[str, Subject], job: Job, *, progress: Callable[[str], None]
    ) -> tuple[Mapping[str, Any], Mapping[str, Measurement]]: ...

    def environment(self, device: str) -> Environment: ...

    def peaks(self, device: str) -> Peaks | None: ...

    def watch(
        self, seconds: float, label: str, on_hang: Callable[[], str]
    ) -> AbstractContextManager[None]: ...

    def release(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """
    Which test measures.

    Attributes:
        nodeid: As pytest prints it.
        path: The test file.
        file: The same relative to its anchor, with forward slashes.
        test: The name with class and parameters.
    """

    nodeid: str
    path: Path
    file: str
    test: str


class Bench:
    """
    What all measurements of one process share: settings, gates, provenance, the watchdog.

    Args:
        settings: What the run was asked to do.
        room: Measures; `pytest_kernelperf.measure`, or a scripted one.
        progress: Gets a short text now and then while something is measured.
        on_hang: Called with the test's id before the process is ended because a callable never
            returned; returns what to say of what is kept.
        plans: How an earlier process of the run measured, where there was one.
        against: Set if the run compares with another revision instead of baselines.
    """

    def __init__(
        self,
        settings: Settings,
        room: Room,
        *,
        progress: Callable[[str], None],
        on_hang: Callable[[str], str],
        plans: Callable[[Case], Plan | None] = lambda case: None,
        against: Against | None = None,
    ) -> None:
        self.settings = settings
        self.room = room
        self.progress = progress
        self._on_hang = on_hang
        self._plans = plans
        self._against = against
        self._gates: dict[Path, Gate] = {}
        self._compiled: list[Compiled] = []
        self._provenance: dict[Path, tuple[str, str]] = {}

    def place(self, nodeid: str, path: Path) -> Place:
        """
        Return the identity of a test, which does not depend on where pytest was started.
        """
        from pytest_kernelperf.store.anchor import name_below_anchor

        return Place(nodeid, path, name_below_anchor(path), nodeid.split("::", 1)[-1])

    def gate(self, path: Path) -> Gate:
        """
        Return the gate that judges the tests of one file.
        """
        from pytest_kernelperf.gate import Gate

        root = baselines_root(self.settings, path)
        if root not in self._gates:
            self._gates[root] = Gate(root)
        return self._gates[root]

    def bad_baselines(self, files_by_root: Mapping[Path, list[Path]]) -> Iterator[tuple[Path, str]]:
        """
        Yield the folders of baselines in which something can't be read, and what is wrong.
        """
        for root, files in files_by_root.items():
            try:
                self.gate(files[0]).check_all()
            except KernelPerfError as error:
                yield root, str(error)

    def judged(self, recorded: Recorded, path: Path) -> Recorded:
        """
        Return a record with the verdicts that its measurement gets now.

        Args:
            recorded: Of a test in the file `path`.
            path: The test file.
        """
        from pytest_kernelperf.analysis import judge_against

        if self._against is None:
            verdicts = self.gate(path).judge(recorded.measurement, recorded.limits)
            return replace(recorded, verdicts=verdicts)
        against = recorded.against or self._against
        verdicts = judge_against(recorded.measurement, against, recorded.limits)
        return replace(recorded, verdicts=verdicts, against=against)

    def measure(
        self, place: Place, subject: Subject, options: Options, *, per: float, name: str
    ) -> tuple[Any, tuple[Recorded, ...]]:
        """
        Measure one callable with each timer that its options need, and judge it.

        Returns:
            The callable's own output, and one record per timer.

        Raises:
            KernelPerfError: If it can't be measured as asked. The callable's own exceptions
                pass through; then nothing is recorded.
        """
        shape = self.room.inspect_call(subject)
        asks = asks_for(options, choose_timers(options, shape.device), per)
        l2 = choose_l2(options, shape)
        work = count_work(options, subject, shape, self.room)
        cases = [_case(place, name, ask.timer, l2, options, shape) for ask in asks]
        device_name = self.room.environment(shape.device).device_name
        if self.settings.updating:
            self.gate(place.path).check_writable(place.file, device_name)
        jobs = [
            _job(
                case,
                options,
                pinned=self._plans(case) or self._pinned(place, case, device_name),
                tail=max(ask.limits.percentiles) > 50,
            )
            for case, ask in zip(cases, asks, strict=True)
        ]
        with self._watched(place, name), compiled.launches_on(shape.device) as launches:
            output, measurements = self.room.measure(
                subject, jobs, progress=self._labelled(place, name)
            )
        read, unread = compiled.read_launches(launches)
        measurements = tuple(compiled.with_resources(one, read) for one in measurements)
        if options.resources is not None and shape.device != "cpu":
            root = baselines_root(self.settings, place.path)
            found = compiled.compiled_of(measurements[0], read, unread)
            stored = compiled.stored_kernels(found.case, root)
            self._compiled.append(compiled.judged(found, options.resources, stored))
        asked = {ask.timer: ask.limits for ask in asks}
        recorded = []
        for measurement in measurements:
            signed = held_to(work, self._signed(timed(measurement), place))
            limits = asked[measurement.case.timer]
            recorded.append(self.judged(Recorded(signed, limits, ()), place.path))
        return output, tuple(recorded)

    def take_compiled(self) -> tuple[Compiled, ...]:
        """
        Return what the compiler had made of the kernels measured since this was last asked.
        """
        taken, self._compiled = tuple(self._compiled), []
        return taken

    def compare(
        self,
        place: Place,
        subjects: Mapping[str, Subject],
        options: Options,
        *,
        reference: str,
        name: str,
        min_speedup: Mapping[str, float],
    ) -> tuple[Mapping[str, Any], Comparison]:
        """
        Measure callables interleaved, with the first timer of their options.

        Returns:
            Each callable's output, and the ratios to the reference; none if one is INVALID.
        """
        from pytest_kernelperf.analysis import compare

        shape = self.room.inspect_call(subjects[reference])
        timer = choose_timers(options, shape.device)[0]
        refuse_pace(options, (timer,))
        l2 = choose_l2(options, shape)
        case = _case(place, name, timer, l2, options, shape)
        outputs, measurements = self._interleaved(place, subjects, _side_by_side(case, options))
        return outputs, compare(case.label, measurements, reference, min_speedup)

    def contrast_inputs(
        self,
        place: Place,
        subjects: Mapping[str, Subject],
        options: Options,
        *,
        name: str,
        bounds: Mapping[float, float],
    ) -> tuple[Mapping[str, Any], Independence]:
        """
        Measure one callable interleaved on several inputs, and compare its times on them.

        Returns:
            The output for each input, and the record.

        Raises:
            OptionsError: If the inputs differ in more than their content.
        """
        from pytest_kernelperf.analysis import contrast_inputs

        shapes = {label: self.room.inspect_call(subject) for label, subject in subjects.items()}
        check_same_shape(shapes)
        shape = next(iter(shapes.values()))
        timer = timer_for(options, shape.device, bounds)
        case = _case(place, name, timer, choose_l2(options, shape), options, shape)
        job = replace(_side_by_side(case, options), tail=max(bounds) > 50)
        outputs, measurements = self._interleaved(place, subjects, job)
        return outputs, contrast_inputs(case.label, measurements, bounds)

    def _interleaved(
        self, place: Place, subjects: Mapping[str, Subject], job: Job
    ) -> tuple[Mapping[str, Any], dict[str, Measurement]]:
        name = job.case.name
        with self._watched(place, name):
            outputs, measurements = self.room.measure_interleaved(
                subjects, job, progress=self._labelled(place, name)
            )
        return outputs, {key: self._signed(timed(one), place) for key, one in measurements.items()}

    @contextmanager
    def _watched(self, place: Place, name: str) -> Iterator[None]:
        seconds = self.settings.hang_timeout_s
        try:
            if not seconds:
                yield
                return
            label = f"{place.nodeid} {name}".strip()
            with self.room.watch(seconds, label, partial(self._on_hang, place.nodeid)):
                yield
        finally:
            self.progress("")

    def _pinned(self, place: Place, case: Case, device_name: str) -> Plan | None:
        if self._against is not None:
            return None
        return self.gate(place.path).pinned_plan(case, device_name)

    def _labelled(self, place: Place, name: str) -> Callable[[str], None]:
        label = f"{place.test} {name}".strip()
        return lambda text: self.progress(f"{label}: {text}")

    def _signed(self, measurement: Measurement, place: Place) -> Measurement:
        """
        Return the measurement with commit and recorder, where it may be stored.
        """
        if not (self.settings.updating or self.settings.record):
            return measurement
        folder = place.path.parent
        if folder not in self._provenance:
            self._provenance[folder] = read_provenance(folder)
        signature = self._provenance[folder]
        signed = tuple(process.signed(*signature) for process in measurement.processes)
        return replace(measurement, processes=signed)


def baselines_root(settings: Settings, test_file: Path) -> Path:
    """
    Return the folder that holds the baselines of a test file.
    """
    from pytest_kernelperf.store.anchor import find_anchor

    return settings.baselines or find_anchor(test_file) / "baselines"


def files_by_root(settings: Settings, test_files: Iterable[Path]) -> dict[Path, list[Path]]:
    """
    Return the folders of baselines of test files, each with those files, sorted.
    """
    found: dict[Path, list[Path]] = {}
    for path in sorted(test_files):
        found.setdefault(baselines_root(settings, path), []).append(path)
    return found


def _case(place: Place, name: str, timer: str, l2: str, options: Options, shape: CallShape) -> Case:
    return Case(
        file=place.file,
        test=place.test,
        name=name,
        timer=timer,
        l2=l2,
        pace=options.pace,
        inputs=shape.inputs,
    )


def _side_by_side(case: Case, options: Options) -> Job:
    """
    Return the job of a comparison: its ratios come from rounds, so it takes more and shorter ones.
    """
    return replace(_job(case, options), side_by_side=True)


def _job(case: Case, options: Options, *, pinned: Plan | None = None, tail: bool = False) -> Job:
    from pytest_kernelperf.measure import Job

    return Job(
        case=case,
        pinned=pinned,
        rounds=options.rounds,
        samples=options.samples,
        max_time_s=options.max_time_s,
        tail=tail,
    )
