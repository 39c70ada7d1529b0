"""
The `launch` timer: the duration of single launches, from bursts that were enqueued while blocked.

The profiler's records are the truest there is: no overhead, 32 ns steps (3.168 µs at P50 where
event pairs read 6.0). Event pairs behind the blocker are the second best, with a constant overhead
of about 2.9 µs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from pytest_kernelperf.measure.canary import late
from pytest_kernelperf.measure.card import Card, rest
from pytest_kernelperf.measure.device import MethodFailedError
from pytest_kernelperf.measure.graph import NAME_LENGTH
from pytest_kernelperf.measure.inputs import InARow, InputSets, Lane
from pytest_kernelperf.measure.kernel_profile import KernelProfile, ProfilerUnavailableError
from pytest_kernelperf.measure.nvml import Reading, nvml_card
from pytest_kernelperf.measure.records import (
    Burst,
    BurstPattern,
    NotRepeatingError,
    burst_round_of,
    launches_of,
    learn_pattern,
)
from pytest_kernelperf.measure.rounds import in_turn, run_rounds
from pytest_kernelperf.measure.subject import Job, Taken
from pytest_kernelperf.measure.trial import (
    MAX_NODES,
    SYNCHRONISES,
    Trial,
    hidden_work,
    hides_work,
)
from pytest_kernelperf.model import Kernel, Plan, Problem, Round

EVENTS = "single launches timed by event pairs, which add about 2.9 µs to each"
#: Calls in the short burst from which the pattern of records is learned.
_PATTERN_CALLS = 3
#: Bursts may be this many times those needed before a round gives up replacing dropped ones.
_PATIENCE = 2


@dataclass(frozen=True)
class _Way:
    """
    How one lane's launches are timed.

    Attributes:
        method: "cupti", "events" or "unblocked".
        pattern: The records of one burst, with "cupti" only.
        is_captured: A graph of one call was checked: no work is hidden elsewhere.
    """

    method: str
    notes: tuple[str, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    pattern: BurstPattern | None = None
    is_captured: bool = False


@dataclass
class _Runner:
    """
    One lane in one round.
    """

    lane: Lane
    way: _Way
    sets: InputSets
    work: InARow
    flush: bool

    def burst(self, card: Card, gap_us: float) -> Burst:
        """
        Poison and restore, leave the card idle for the gap, and run one burst.

        With "cupti" the times come later, from the records.
        """
        self.sets.make_ready(self.work.outputs)
        rest(gap_us)
        shoot = card.shoot_unblocked if self.way.method == "unblocked" else card.shoot
        shot = shoot(self.work.run, self.work.calls, flush=self.flush)
        return Burst(shot, self.work.times_us())

    def one_call(self) -> None:
        """
        Make one call outside any burst.
        """
        self.sets.call(0)

    def check(self) -> Problem | None:
        """
        Check the outputs and the inputs that the last burst left.
        """
        return self.sets.check(self.work.outputs)


def take_launch(
    lanes: Sequence[Lane],
    trials: Mapping[str, Trial],
    plan: Plan,
    job: Job,
    card: Card,
    progress: Callable[[str], None],
) -> dict[str, Taken]:
    """
    Measure single launches of lanes that were tried out, bursts interleaved, with one plan.
    """
    ways = {lane.name: _find_way(lane, trials[lane.name], plan, job, card) for lane in lanes}
    while True:
        try:
            return _take(lanes, trials, ways, plan, job, card, progress)
        except MethodFailedError as found:
            old = ways[found.lane]
            notes = (*old.notes, found.note)
            ways[found.lane] = replace(old, method=found.method, notes=notes, pattern=None)


def _take(
    lanes: Sequence[Lane],
    trials: Mapping[str, Trial],
    ways: Mapping[str, _Way],
    plan: Plan,
    job: Job,
    card: Card,
    progress: Callable[[str], None],
) -> dict[str, Taken]:
    nodes = max(trial.nodes_per_call for trial in trials.values())
    plan = _fitting(plan, ways, nodes)
    found = run_rounds(
        ways, plan.rounds, lambda: _round(lanes, ways, plan, job, card), job, progress
    )
    return {
        name: Taken(
            method=ways[name].method,
            plan=plan,
            rounds=rounds,
            kernels=trials[name].kernels or ways[name].kernels,
            notes=ways[name].notes,
            problem=problem,
        )
        for name, (rounds, problem) in found.items()
    }


def _fitting(plan: Plan, ways: Mapping[str, _Way], nodes_per_call: int) -> Plan:
    """
    Shorten the bursts where event pairs would fill the launch queue.
    """
    if all(way.method == "cupti" for way in ways.values()):
        return plan
    return replace(plan, burst=max(1, min(plan.burst, MAX_NODES // (nodes_per_call + 2))))


def _find_way(lane: Lane, trial: Trial, plan: Plan, job: Job, card: Card) -> _Way:
    """
    Choose how to time a lane's launches: by records if they repeat from call to call.
    """
    if trial.method == "unblocked":
        return _Way("unblocked", trial.notes)
    try:
        pattern = _learn_pattern(lane, plan, job, card)
    except (NotRepeatingError, ProfilerUnavailableError) as why:
        note = f"{EVENTS}: no usable kernel records ({why})"
        return _Way("events", (note,), is_captured=trial.method == "graph")
    kernels = tuple(Kernel(name[:NAME_LENGTH]) for name in pattern.call)
    return _Way("cupti", (), kernels, pattern, is_captured=trial.method == "graph")


def _learn_pattern(lane: Lane, plan: Plan, job: Job, card: Card) -> BurstPattern:
    if card.canary is None or card.blocker is None:
        raise NotRepeatingError("there is no canary to mark where a burst begins")
    sets = InputSets(lane, card, min(plan.input_sets, _PATTERN_CALLS))
    calls = min(_PATTERN_CALLS, len(sets)) if lane.guard.rewrites else _PATTERN_CALLS
    work = InARow(sets, calls)
    # As in the rounds: the number of sets that these will have decides whether they flush.
    flush = _flushes(sets.footprint_bytes, plan, job, card)
    with KernelProfile(card.index):
        # The first profile of a process attaches CUPTI, which takes a second and loads modules
        # anew.
        card.warm(work.run, flush=flush)
    sets.restore()
    rest(0.0)
    with KernelProfile(card.index) as profile:
        card.shoot(work.run, calls, flush=flush)
    # The canary comes after its lead-in.
    lead = card.blocker.records + int(flush) + 2
    return learn_pattern(profile.records, calls, lead, 1)


def _flushes(footprint_bytes: int, plan: Plan, job: Job, card: Card) -> bool:
    return job.case.l2 == "cold" and 0 < plan.input_sets * footprint_bytes < 2 * card.l2_bytes


def _round(
    lanes: Sequence[Lane], ways: Mapping[str, _Way], plan: Plan, job: Job, card: Card
) -> dict[str, tuple[Round, Problem | None]]:
    """
    Take one round of every lane: new inputs, then bursts until there are enough launches.
    """
    runners = [_runner(lane, ways[lane.name], plan, job, card) for lane in lanes]
    bursts: dict[str, list[Burst]] = {lane.name: [] for lane in lanes}
    needed = math.ceil(plan.samples / max(plan.burst - 1, 1))
    watch = nvml_card(card.index).watch()
    for _ in range(_PATIENCE):
        wanted = {name: _missing(taken, plan) for name, taken in bursts.items()}
        if not any(wanted.values()):
            break
        for name, new in _session(runners, wanted, plan, card).items():
            bursts[name].extend(new)
            _refuse_late(name, bursts[name], needed)
    reading = watch.read()
    return {
        one.lane.name: (
            burst_round_of(bursts[one.lane.name], plan.samples, reading),
            one.check() or _hidden(one, bursts[one.lane.name]),
        )
        for one in runners
    }


def _runner(lane: Lane, way: _Way, plan: Plan, job: Job, card: Card) -> _Runner:
    """
    Make a lane ready for one round, with one unblocked burst that leaves the allocator its blocks.
    """
    sets = InputSets(lane, card, plan.input_sets)
    marks = () if way.method == "cupti" else _pairs(plan.burst)
    work = InARow(sets, plan.burst, marks)
    flush = _flushes(sets.footprint_bytes, plan, job, card)
    runner = _Runner(lane, way, sets, work, flush)
    card.shoot_unblocked(work.run, work.calls, flush=flush)
    return runner


def _pairs(count: int) -> list[tuple[Any, Any]]:
    import torch

    return [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        for _ in range(count)
    ]


def _missing(bursts: Sequence[Burst], plan: Plan) -> int:
    """
    Return how many more bursts a lane needs for its launches.
    """
    kept = len(burst_round_of(bursts, plan.samples, Reading()).times_us)
    return math.ceil((plan.samples - kept) / max(plan.burst - 1, 1))


def _session(
    runners: Sequence[_Runner], wanted: Mapping[str, int], plan: Plan, card: Card
) -> dict[str, list[Burst]]:
    """
    Take so many bursts of each lane, under one profile where a lane needs it.
    """
    profile = KernelProfile(card.index)
    profiled = [one for one in runners if one.way.method == "cupti"]
    taken: list[tuple[_Runner, Burst]] = []
    try:
        with profile if profiled else nullcontext():
            for runner in profiled:
                runner.sets.restore(0)
                card.warm(runner.one_call, flush=runner.flush)
            for turn in range(max(wanted.values())):
                waiting = [one for one in runners if turn < wanted[one.lane.name]]
                taken += [(one, one.burst(card, plan.gap_us)) for one in in_turn(waiting, turn)]
    except ProfilerUnavailableError as why:
        raise MethodFailedError(profiled[0].lane.name, "events", f"{EVENTS}: {why}") from None
    bursts: dict[str, list[Burst]] = {one.lane.name: [] for one in runners}
    for runner, burst in _with_times(taken, profile):
        bursts[runner.lane.name].append(burst)
    return bursts


def _with_times(
    taken: Sequence[tuple[_Runner, Burst]], profile: KernelProfile
) -> list[tuple[_Runner, Burst]]:
    """
    Give the bursts that have none their launches' times, from the records.
    """
    patterns = [
        (one.way.pattern, one.work.calls) for one, _ in taken if one.way.pattern is not None
    ]
    try:
        times = iter(launches_of(profile.records, patterns))
    except NotRepeatingError as why:
        first = next(one.lane.name for one, _ in taken if one.way.pattern is not None)
        raise MethodFailedError(
            first, "events", f"{EVENTS}: no usable kernel records ({why})"
        ) from None
    return [
        (one, burst if one.way.pattern is None else Burst(burst.shot, next(times)))
        for one, burst in taken
    ]


def _refuse_late(lane: str, bursts: Sequence[Burst], needed: int) -> None:
    if len(bursts) >= min(needed, 2) and all(late(burst.shot) for burst in bursts):
        raise MethodFailedError(lane, "unblocked", SYNCHRONISES)


def _hidden(runner: _Runner, bursts: Sequence[Burst]) -> Problem | None:
    if runner.way.is_captured or not hides_work([burst.shot for burst in bursts]):
        return None
    return hidden_work(runner.lane, "keeps the device busy after its own stream has ended")
