"""
The three CUDA timers from end to end, on a simulated device.

What is simulated: a device clock that only work moves, events that read it, a blocker, a capture
that runs the Python once and replays its work, and a profiler. What is real: everything of ours
above them.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from pytest_kernelperf.errors import SubjectError  # noqa: E402 - torch may be missing
from pytest_kernelperf.measure import card as card_module  # noqa: E402
from pytest_kernelperf.measure import cuda, device, launch, sustained, trial  # noqa: E402
from pytest_kernelperf.measure.blocker import Hold  # noqa: E402
from pytest_kernelperf.measure.graph import (  # noqa: E402
    Captured,
    CaptureFailedError,
    Nodes,
)
from pytest_kernelperf.measure.guard import Guard  # noqa: E402
from pytest_kernelperf.measure.kernel_profile import ProfilerUnavailableError  # noqa: E402
from pytest_kernelperf.measure.nvml import nvml_card  # noqa: E402
from pytest_kernelperf.measure.records import KernelRecord  # noqa: E402
from pytest_kernelperf.measure.subject import Job, Subject, Taken  # noqa: E402
from pytest_kernelperf.model import Case, Plan  # noqa: E402

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


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    """
    A simulated device in place of torch's.
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
    return Nodes(len(captured.graph._work), ())


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


def sustained_job(simulation: Simulation, patch: pytest.MonkeyPatch) -> Job:
    """
    Return a job of a sustained pace, steady at once.
    """
    for name in ("_WINDOW_S", "_LEAST_S"):
        patch.setattr(sustained, name, 0.0)
    one = job("device", samples=4)
    return replace(one, case=replace(one.case, pace="sustained"))


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
    guard = Guard(subject)
    assert guard.learn() is None
    return cuda.take({"": subject}, {"": guard}, wanted, lambda _: None)[""]


def test_the_device_timer_reads_the_mean_of_a_graph_of_calls(simulation):
    taken = take(add(simulation), job("device"))

    # 1 ms of 3 µs calls, the overhead of two events spread over them.
    calls = taken.plan.calls_per_sample
    expected = round(3.0 + EVENT_US / calls, 6)
    assert ("graph", 2, (), None) == (taken.method, len(taken.rounds), taken.notes, taken.problem)
    assert (expected,) * 4 == pytest.approx(taken.rounds[0].times_us)
    assert (1980.0,) * 4 == pytest.approx(taken.rounds[0].clock_mhz, abs=0.2)
    assert all(slack_us >= 0 for slack_us in taken.rounds[0].slack_us)
    assert 4 == len(taken.rounds[0].slack_us)


def test_every_sample_is_preceded_by_the_idle_gap(simulation):
    taken = take(add(simulation), job("device"))

    gaps = [line for line in simulation.log if line == f"rest {taken.plan.gap_us:g}"]
    assert 8 == len(gaps)


def test_a_pinned_plan_is_reused_exactly_and_nothing_is_estimated(simulation):
    pinned = Plan(7, 7, 1000.0, 4, 2, 3)

    taken = take(add(simulation), job("device", pinned=pinned, rounds=None, samples=None))

    assert pinned == taken.plan
    assert 3.0 + EVENT_US / 7 == pytest.approx(taken.rounds[0].times_us[0])


def test_small_inputs_are_flushed_from_the_cache_and_large_ones_rotate(simulation):
    simulation.l2_bytes = 4096
    large = Subject(add(simulation, 100.0).fn, (torch.zeros(1024),))

    rotated = take(large, job("device", "cold"))
    flushes_rotated = [one for one in simulation.records if one.name == "flush"]
    take(add(simulation), job("device", "cold", pinned=Plan(7, 7, 0.0, 4, 2, 3)))
    flushes = [one for one in simulation.records if one.name == "flush"][len(flushes_rotated) :]

    assert 3 == rotated.plan.input_sets
    # One is the card's own warm-up; the small inputs are flushed once per sample.
    assert (1, 8) == (len(flushes_rotated), len(flushes))


def test_a_sample_at_a_fallen_clock_is_dropped_counted_and_measured_again(simulation):
    subject = add(simulation)
    shots = iter([False] * 3 + [True] + [False] * 50)
    real = device._Runner.shot

    def shot(runner: Any, gap_us: float) -> Any:
        taken = real(runner, gap_us)
        if not next(shots):
            return taken
        return replace(taken, time_us=taken.time_us * 1.25, before_mhz=1584.0, after_mhz=1584.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device._Runner, "shot", shot)
        first, second = take(subject, job("device")).rounds

    assert ([4, 4], [1, 0]) == (
        [len(one.times_us) for one in (first, second)],
        [len(one.discarded) for one in (first, second)],
    )
    assert ("CLOCK_FELL", 1584.0) == (first.discarded[0].reason, first.discarded[0].clock_mhz)


def test_a_callable_that_can_not_be_captured_is_measured_on_its_stream(simulation):
    def fn(x: Any) -> Any:
        if simulation.capturing is not None:
            raise RuntimeError("legacy stream")
        simulation.work("add", 3.0)
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("device"))

    assert ("stream", None) == (taken.method, taken.problem)
    assert "legacy stream" in taken.notes[0]
    assert 3.0 == pytest.approx(taken.rounds[0].times_us[0], rel=0.02)


def test_a_callable_that_synchronises_is_found_out_and_measured_unblocked(simulation):
    def fn(x: Any) -> Any:
        simulation.work("add", 3.0)
        torch.cuda.synchronize()
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("device"))

    assert ("unblocked", None) == (taken.method, taken.problem)
    assert trial.SYNCHRONISES in taken.notes
    assert ((), ()) == (taken.rounds[0].slack_us, taken.rounds[0].clock_mhz)


def test_a_callable_that_synchronises_only_later_starts_again_unblocked(simulation):
    """
    It passed the trial; two late samples in a row give it away.
    """
    calls = 0

    def fn(x: Any) -> Any:
        nonlocal calls
        calls += 1
        if simulation.capturing is not None:
            raise RuntimeError("legacy stream")
        simulation.work("add", 3.0)
        if calls > 20:
            torch.cuda.synchronize()
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("device"))

    assert ("unblocked", [4, 4]) == (taken.method, [len(one.times_us) for one in taken.rounds])


def test_work_that_nobody_joins_is_a_problem(simulation):
    def fn(x: Any) -> Any:
        if simulation.capturing is not None:
            raise RuntimeError("capturing stream has unjoined work")
        simulation.work("add", 3.0)
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("device"))

    assert "HIDDEN_WORK" == taken.problem.code
    assert () == taken.rounds


def test_a_call_that_launches_nothing_is_a_problem(simulation):
    taken = take(Subject(lambda x: x + 1, (torch.arange(8.0),)), job("device"))

    assert "HIDDEN_WORK" == taken.problem.code


def test_an_output_that_the_replay_does_not_write_is_a_problem(simulation, monkeypatch):
    monkeypatch.setattr(Graph, "replay", lambda graph: None)

    taken = take(add(simulation), job("device"))

    assert "POISON_LEFT" == taken.problem.code


def test_single_launches_come_from_the_records_without_the_events_overhead(simulation):
    taken = take(add(simulation), job("launch"))

    assert ("cupti", ()) == (taken.method, taken.notes)
    assert ["add"] == [kernel.name for kernel in taken.kernels]
    assert (3.0,) * 12 == taken.rounds[0].times_us
    assert (3.0,) == taken.rounds[0].first_us
    assert 1980.0 == pytest.approx(taken.rounds[0].clock_mhz[0], abs=0.2)


def test_calls_that_launch_other_kernels_each_time_fall_back_to_event_pairs(simulation):
    names = iter(f"kernel {number}" for number in range(100_000))

    def fn(x: Any) -> Any:
        simulation.work(next(names), 3.0)
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("launch"))

    assert "events" == taken.method
    assert "2.9 µs" in taken.notes[0]
    assert (3.0 + EVENT_US,) * 12 == pytest.approx(taken.rounds[0].times_us)


def test_records_that_stop_repeating_later_fall_back_too(simulation):
    calls = 0

    def fn(x: Any) -> Any:
        nonlocal calls
        calls += 1
        simulation.work("add" if calls < 160 else f"add {calls}", 3.0)
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("launch"))

    assert ("events", [12, 12]) == (taken.method, [len(one.times_us) for one in taken.rounds])


def test_without_a_profiler_event_pairs_are_used_and_it_is_said(simulation):
    simulation.profiler_works = False

    taken = take(add(simulation), job("launch"))

    assert "events" == taken.method
    assert "CUPTI is missing" in taken.notes[0]


def test_a_synchronising_callable_has_unblocked_launches(simulation):
    def fn(x: Any) -> Any:
        simulation.work("add", 3.0)
        torch.cuda.synchronize()
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("launch"))

    assert ("unblocked", 12) == (taken.method, len(taken.rounds[0].times_us))
    assert trial.SYNCHRONISES in taken.notes


def test_the_wall_timer_times_one_call_at_a_time(simulation):
    taken = take(add(simulation), job("wall"))

    assert ("event-sync", 2) == (taken.method, len(taken.rounds))
    assert (3.0 + EVENT_US,) * 4 == pytest.approx(taken.rounds[0].times_us)
    assert () == taken.rounds[0].slack_us


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_a_rewritten_argument_is_restored_before_each_call(simulation, timer):
    """
    The guard compares the argument after a timed call with that after the first one.
    """

    def double(x: Any) -> None:
        simulation.work("mul", 3.0)
        if simulation.capturing is None:
            x.mul_(2)

    if timer == "device":  # A replay here has no hold on arguments: let capture fail.
        real = double

        def double(x: Any) -> None:
            if simulation.capturing is not None:
                raise RuntimeError("legacy stream")
            real(x)

    if timer == "launch":
        real_launch = double

        def double(x: Any) -> None:
            if simulation.capturing is not None:
                raise RuntimeError("legacy stream")
            real_launch(x)

    x = torch.arange(8.0)
    taken = take(Subject(double, (x,), mutates=("x",)), job(timer))

    assert taken.problem is None
    assert torch.equal(torch.arange(8.0), x)


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_an_undeclared_mutation_in_the_timed_calls_is_a_problem(simulation, timer):
    calls = 0

    def fn(x: Any) -> Any:
        nonlocal calls
        calls += 1
        if simulation.capturing is not None:
            raise RuntimeError("legacy stream")
        simulation.work("add", 3.0)
        output = x + 1
        if calls > 20:
            x.zero_()
        return output

    taken = take(Subject(fn, (torch.arange(8.0),)), job(timer))

    assert taken.problem is not None
    assert taken.problem.code in ("UNDECLARED_MUTATION", "WRONG_OUTPUT")


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_a_wrong_output_of_a_timed_call_is_a_problem(simulation, timer):
    calls = 0

    def fn(x: Any) -> Any:
        nonlocal calls
        calls += 1
        simulation.work("add", 3.0)
        return x + (1 if calls < 100 else 2)

    taken = take(Subject(fn, (torch.arange(8.0),)), job(timer, samples=60))

    assert "WRONG_OUTPUT" == taken.problem.code


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_setup_runs_before_each_round(simulation, timer):
    count = 0

    def setup() -> None:
        nonlocal count
        count += 1

    once = replace(add(simulation), setup=setup)
    take(once, job(timer, rounds=1))
    after_one, count = count, 0
    take(once, job(timer, rounds=4))

    assert 3 == count - after_one


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_side_by_side_all_callables_share_a_plan_and_have_their_own_times(simulation, timer):
    subjects = {"fast": add(simulation, 3.0), "slow": add(simulation, 6.0)}
    guards = {name: Guard(subject) for name, subject in subjects.items()}
    assert [None, None] == [guard.learn() for guard in guards.values()]

    taken = cuda.take(subjects, guards, job(timer), lambda _: None)

    fast, slow = taken["fast"], taken["slow"]
    assert fast.plan == slow.plan
    assert 3.0 == pytest.approx(slow.rounds[0].times_us[0] - fast.rounds[0].times_us[0], abs=0.01)
    assert len(fast.rounds[0].times_us) == len(slow.rounds[0].times_us)


def test_a_problem_of_one_callable_stops_the_others_before_they_start(simulation):
    subjects = {
        "good": add(simulation),
        "idle": Subject(lambda x: x + 1, (torch.arange(8.0),)),
    }
    guards = {name: Guard(subject) for name, subject in subjects.items()}
    assert [None, None] == [guard.learn() for guard in guards.values()]

    taken = cuda.take(subjects, guards, job("device"), lambda _: None)

    assert (None, ()) == (taken["good"].problem, taken["good"].rounds)
    assert "HIDDEN_WORK" == taken["idle"].problem.code


def test_the_callable_whose_copies_do_not_fit_is_named(simulation):
    """
    Its copies would fit alone, but each of two callables has half of the memory.
    """

    def large(x):
        simulation.work("large", 3.0)
        return x + 1

    subjects = {
        "small": Subject(add(simulation).fn, (torch.arange(8.0),)),
        "large": Subject(large, (torch.zeros(MIB),)),
    }
    guards = {name: Guard(subject) for name, subject in subjects.items()}
    assert [None, None] == [guard.learn() for guard in guards.values()]
    simulation.free_bytes = 18 * MIB

    with pytest.raises(SubjectError, match=r"large do not fit: .*40% of the 9\.0 MiB"):
        cuda.take(subjects, guards, job("device"), lambda _: None)


def test_copies_that_do_not_fit_are_refused_with_numbers(simulation):
    simulation.free_bytes = MIB
    subject = Subject(add(simulation).fn, (torch.zeros(MIB),))
    guard = Guard(subject)
    assert guard.learn() is None

    with pytest.raises(
        SubjectError, match=r"add\..*fn do not fit: .* 4\.5 MiB.*50% of the 1\.0 MiB"
    ):
        cuda.take({"": subject}, {"": guard}, job("device"), lambda _: None)


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_the_callables_own_error_passes_through_and_the_collector_is_on_again(simulation, timer):
    calls = 0

    def fn(x: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 30:
            raise ZeroDivisionError
        if simulation.capturing is not None:
            raise RuntimeError("legacy stream")
        simulation.work("add", 3.0)
        return x + 1

    with pytest.raises(ZeroDivisionError):
        take(Subject(fn, (torch.arange(8.0),)), job(timer, samples=100))

    assert gc.isenabled()
    assert simulation.hold is None


def test_progress_is_told_once_per_round(simulation):
    said: list[str] = []
    subject = add(simulation)
    guard = Guard(subject)
    assert guard.learn() is None

    cuda.take({"": subject}, {"": guard}, job("device"), said.append)

    assert ["device warm-up", "device round 1/2", "device round 2/2"] == said


def test_a_sustained_pace_leaves_no_gap_and_no_hold(simulation, monkeypatch):
    holds = []
    wanted = sustained_job(simulation, monkeypatch)
    real = device.back_to_back

    def watched(*arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Blocker, "hold", holds.append)
            return real(*arguments)

    monkeypatch.setattr(device, "back_to_back", watched)

    taken = take(add(simulation), replace(wanted, rounds=1))

    calls = taken.plan.calls_per_sample
    assert ("graph", 0.0, None) == (taken.method, taken.plan.gap_us, taken.problem)
    assert 3.0 + EVENT_US / calls == pytest.approx(taken.rounds[0].times_us[0])
    assert {0.0} == set(taken.rounds[0].slack_us)
    assert [] == holds


def test_where_the_host_can_not_keep_ahead_a_sustained_pace_is_unblocked_and_says_so(
    simulation, monkeypatch
):
    wanted = sustained_job(simulation, monkeypatch)
    simulation.runs_dry = True

    taken = take(add(simulation), wanted)

    assert ("unblocked", [4, 4]) == (taken.method, [len(one.times_us) for one in taken.rounds])
    assert device.HOST_TOO_SLOW in taken.notes
