"""
A simulated CUDA device, for the three CUDA timers from end to end.

What is simulated: a device clock that only work moves, events that read it, a blocker, a capture
that runs the Python once and replays its work, and a profiler. What is real: everything of ours
above them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from pytest_kernelperf.measure import card as card_module  # noqa: E402
from pytest_kernelperf.measure import cuda, device, launch, trial  # noqa: E402
from pytest_kernelperf.measure.blocker import Hold  # noqa: E402
from pytest_kernelperf.measure.graph import Captured, CaptureFailedError, Nodes  # noqa: E402
from pytest_kernelperf.measure.guard import Guard  # noqa: E402
from pytest_kernelperf.measure.kernel_profile import ProfilerUnavailableError  # noqa: E402
from pytest_kernelperf.measure.nvml import nvml_card  # noqa: E402
from pytest_kernelperf.measure.records import KernelRecord  # noqa: E402
from pytest_kernelperf.measure.subject import Job, Subject, Taken  # noqa: E402
from pytest_kernelperf.model import Case, Kernel  # noqa: E402

#: What an event pair reads beside the work in it, as on the real device.
EVENT_US = 1.5
MIB = 2**20


class Simulation:
    """
    One device with its clock, and what happened on it.
    """

    def __init__(self) -> None:
        self.now_us = 0.0
        self.mhz = 1980.0
        self.l2_bytes = 50 * MIB
        self.free_bytes = 1024 * MIB
        self.hold: Hold | None = None
        self.capturing: list[tuple[str, float]] | None = None
        self.records: list[KernelRecord] = []
        self.log: list[str] = []
        self.profiler_works = True
        self.runs_dry = False

    def work(self, name: str, us: float) -> None:
        """
        Run a kernel, or put it into the graph that is being captured.
        """
        if self.capturing is not None:
            self.capturing.append((name, us))
            return
        start_ns = round(self.now_us * 1e3)
        self.now_us += us
        self.records.append(KernelRecord(name, start_ns, round(self.now_us * 1e3)))

    def spin(self, cycles: int) -> None:
        self.work("spin", cycles / self.mhz)

    def refuse_capture(self) -> None:
        """
        Fail in a capture, as work on the legacy stream does.
        """
        if self.capturing is not None:
            raise RuntimeError("legacy stream")

    def synchronize(self) -> None:
        """
        Wait for the device; a blocked one is freed by the watchdog, long after.
        """
        if self.capturing is not None:
            raise RuntimeError("operation not permitted when stream is capturing")
        if self.hold is not None:
            self.hold.release()


class Event:
    """
    An event of the simulated device.
    """

    simulation: Simulation

    def __init__(self, **_: Any) -> None:
        self._us = 0.0

    def record(self) -> None:
        self.simulation.now_us += EVENT_US
        self._us = self.simulation.now_us

    def elapsed_time(self, end: Event) -> float:
        return (end._us - self._us) * 1e-3

    def synchronize(self) -> None:
        pass

    def query(self) -> bool:
        return self.simulation.runs_dry


class Blocker:
    """
    Holds the simulated stream back.
    """

    name = "simulated"
    records = 0

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def hold(self) -> Hold:
        hold = Hold(lambda: self._set(hold), lambda: self._set(None))
        return hold

    def _set(self, hold: Hold | None) -> None:
        self._simulation.hold = hold


class Graph:
    """
    Captured work, and outputs that a replay writes again.
    """

    def __init__(self, simulation: Simulation, work: list[tuple[str, float]], outputs: Any) -> None:
        self._simulation, self._work = simulation, work
        self._outputs = [(output, output.clone()) for output in outputs]

    def replay(self) -> None:
        for name, us in self._work:
            self._simulation.work(name, us)
        for output, contents in self._outputs:
            output.copy_(contents)


@contextlib.contextmanager
def simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    """
    Put a simulated device in the place of torch's, in the block.
    """
    sim = Simulation()
    Event.simulation = sim
    for name, fake in _fake_torch_cuda(sim).items():
        monkeypatch.setattr(torch.cuda, name, fake, raising=False)
    monkeypatch.setattr(card_module, "blocker_for", lambda _: Blocker(sim))
    monkeypatch.setattr(card_module.Card, "flush", lambda _: sim.work("flush", 45.0))
    monkeypatch.setattr(trial, "warm_side_stream", lambda call: call())
    monkeypatch.setattr(launch, "KernelProfile", lambda _: Profile(sim))
    for module in (trial, device):
        monkeypatch.setattr(module, "capture", lambda call, calls: _capture(sim, call, calls))
    monkeypatch.setattr(trial, "nodes_of", _nodes_of)
    monkeypatch.setattr(trial, "_WARM_UP_S", 0.0)
    for module in (card_module, device, launch):
        monkeypatch.setattr(module, "rest", _rest(sim))
    for cached in (card_module.card_for, nvml_card):
        cached.cache_clear()
    yield sim
    for cached in (card_module.card_for, nvml_card):
        cached.cache_clear()


def _fake_torch_cuda(sim: Simulation) -> dict[str, Any]:
    return {
        "Event": Event,
        "synchronize": sim.synchronize,
        "_sleep": sim.spin,
        "device": lambda _: contextlib.nullcontext(),
        "get_device_properties": lambda _: SimpleNamespace(L2_cache_size=sim.l2_bytes, uuid="none"),
        "memory_reserved": lambda _: 0,
        "memory_allocated": lambda _: 0,
        "mem_get_info": lambda _: (sim.free_bytes, sim.free_bytes),
    }


def _rest(sim: Simulation) -> Callable[[float], None]:
    def rest(gap_us: float) -> None:
        sim.log.append(f"rest {gap_us:g}")

    return rest


def _capture(sim: Simulation, call: Callable[[int], Any], calls: int) -> Captured:
    sim.capturing = []
    try:
        outputs = [call(index) for index in range(calls)]
        held = [outputs[index] for index in sorted({0, calls // 2, calls - 1})]
        graph = Graph(sim, sim.capturing, held)
        return Captured(graph, tuple(held))
    except RuntimeError as error:
        raise CaptureFailedError(str(error), unjoined="unjoined" in str(error)) from None
    finally:
        sim.capturing = None


def _nodes_of(captured: Captured) -> Nodes:
    work = captured.graph._work
    return Nodes(len(work), tuple(Kernel(name) for name, _ in work))


class Profile:
    """
    A profiler of the simulated device.
    """

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.records: tuple[KernelRecord, ...] = ()

    def __enter__(self) -> Profile:
        if not self._sim.profiler_works:
            raise ProfilerUnavailableError("CUPTI is missing")
        self._sim.records.clear()
        return self

    def __exit__(self, *_: Any) -> None:
        self.records = tuple(self._sim.records)


def job(timer: str, l2: str = "warm", **wishes: Any) -> Job:
    """
    Return a small job: two rounds of four samples (twelve launches).
    """
    wishes = {"rounds": 2, "samples": 12 if timer == "launch" else 4, **wishes}
    return Job(Case("test_x.py", "test_x", "", timer, l2, "paced"), **wishes)


def add(sim: Simulation, us: float = 3.0) -> Subject:
    """
    Return a subject whose call takes so long on the device.
    """

    def fn(x: Any) -> Any:
        sim.work("add", us)
        return x + 1

    return Subject(fn, (torch.arange(8.0),))


def take(subject: Subject, wanted: Job) -> Taken:
    """
    Measure as the entry points do.
    """
    return take_together({"": subject}, wanted)[""]


def take_together(
    subjects: Mapping[str, Subject],
    wanted: Job,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Taken]:
    """
    Measure several callables side by side, as the entry points do.
    """
    guards = {name: Guard(subject) for name, subject in subjects.items()}
    assert {None} == {guard.learn() for guard in guards.values()}
    return cuda.take(subjects, guards, wanted, progress)
