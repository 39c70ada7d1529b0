"""
The wall timer on a CPU: single calls between two readings of the host's clock.

A sample is one call, what a lone caller waits. Calls shorter than some ticks are not bundled, which
would make a mean of them; the tick is recorded, and analysis takes it into account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter_ns
from typing import Any

from pytest_kernelperf.measure import tensors
from pytest_kernelperf.measure.collector import without_collector
from pytest_kernelperf.measure.guard import Guard
from pytest_kernelperf.measure.plan import (
    HOST_CHECKS,
    HOST_RENEWALS,
    choose_host_plan,
    host_total_us,
    shortage,
)
from pytest_kernelperf.measure.rounds import in_turn
from pytest_kernelperf.measure.subject import Job, Subject, Taken
from pytest_kernelperf.model import Plan, Problem, Round

METHOD = "host-clock"
#: Warm-up: this long or this many calls, whichever is later, but never longer than the last.
WARM_UP_US, WARM_UP_CALLS, WARM_UP_MOST_US = 25_000.0, 10, 1_000_000.0
#: Readings from which the tick is taken; about 0.2 ms.
_TICK_READINGS = 2000


@dataclass
class _Lane:
    """
    One callable with the copies that this round calls it on.
    """

    subject: Subject
    guard: Guard
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def renew(self) -> None:
        """
        Take new copies of the arguments, in other memory, for a new round.
        """
        self.args, self.kwargs = tensors.copy_call(*self.guard.begin_round())
        self.guard.restore(self.args, self.kwargs)

    def sample_us(self) -> tuple[float, Any]:
        """
        Time one call; return microseconds (whole nanoseconds) and the call's output.
        """
        if self.subject.mutates:
            self.guard.restore(self.args, self.kwargs)
        fn, args, kwargs = self.subject.fn, self.args, self.kwargs
        start_ns = perf_counter_ns()
        output = fn(*args, **kwargs)
        return (perf_counter_ns() - start_ns) / 1000, output

    def check(self, output: Any) -> Problem | None:
        """
        Check a timed call, poison its output, and call once more to warm the caches again.
        """
        problem = self.guard.check_output(output) or self.guard.check_inputs(self.args, self.kwargs)
        if problem is None:
            self.guard.poison(output)
            self.sample_us()
        return problem


def take(
    subjects: Mapping[str, Subject],
    guards: Mapping[str, Guard],
    job: Job,
    progress: Callable[[str], None],
) -> dict[str, Taken]:
    """
    Measure callables with one plan, their samples taken in turn: what drifts hits all alike.

    The slowest callable's estimate chooses the plan. A problem with one ends it for all.
    """
    lanes = {name: _Lane(subject, guards[name]) for name, subject in subjects.items()}
    with without_collector():
        for lane in lanes.values():
            lane.renew()
        estimates, spent = zip(*(_warm_up(lane) for lane in lanes.values()), strict=True)
        estimate_us, spent_us = max(estimates) * len(lanes), sum(spent)
        plan = choose_host_plan(estimate_us, job=job, spent_us=spent_us)
        rounds: dict[str, list[Round]] = {name: [] for name in lanes}
        problems: dict[str, Problem] = {}
        for index in range(plan.rounds):
            progress(f"wall round {index + 1}/{plan.rounds}")
            times, problems = _one_round(list(lanes.items()), plan, index)
            if problems:
                break
            for name, times_us in times.items():
                rounds[name].append(Round(times_us=tuple(times_us)))
    total_us = host_total_us(plan, estimate_us, spent_us)
    note = shortage(plan, job.case.timer, job, total_us=total_us)
    notes = (note,) if note else ()
    return {
        name: Taken(METHOD, plan, tuple(rounds[name]), notes=notes, problem=problems.get(name))
        for name in lanes
    }


def _one_round(
    lanes: list[tuple[str, _Lane]], plan: Plan, index: int
) -> tuple[dict[str, list[float]], dict[str, Problem]]:
    """
    Take one round's samples, the lanes in turn.
    """
    times: dict[str, list[float]] = {name: [] for name, _ in lanes}
    if index:
        for _, lane in lanes:
            lane.renew()
            # New memory: page faults and cold caches are not the callable's.
            for _ in range(HOST_RENEWALS):
                lane.sample_us()
    checked = _checked_samples(plan.samples)
    for sample in range(plan.samples):
        for name, lane in in_turn(lanes, sample):
            time_us, output = lane.sample_us()
            times[name].append(time_us)
            problem = lane.check(output) if sample in checked else None
            if problem is not None:
                return times, {name: problem}
    return times, {}


def _checked_samples(samples: int) -> frozenset[int]:
    """
    Return which samples of a round are checked: the first, the last, and some between.
    """
    last = samples - 1
    count = min(samples, HOST_CHECKS)
    return frozenset(round(last * step / max(1, count - 1)) for step in range(count))


def _warm_up(lane: _Lane) -> tuple[float, float]:
    """
    Call until the callable is warm.

    Returns:
        The median of the later half of the calls, and the time of all; microseconds.
    """
    times_us: list[float] = []
    spent_us = 0.0
    while spent_us < WARM_UP_MOST_US:
        if spent_us >= WARM_UP_US and len(times_us) >= WARM_UP_CALLS:
            break
        time_us, _ = lane.sample_us()
        times_us.append(time_us)
        spent_us += time_us
        if len(times_us) >= 10_000:  # A call of a microsecond is warm long before 25 ms are over.
            break
    late = sorted(times_us[len(times_us) // 2 :])
    return late[len(late) // 2], spent_us


def probe_clock() -> tuple[float, float]:
    """
    Return the smallest step of the host's clock and the time that an empty sample reads, both µs.
    """
    readings = [perf_counter_ns() for _ in range(_TICK_READINGS)]
    gaps = sorted(later - earlier for earlier, later in pairwise(readings))
    # Differences between gaps show a step finer than reading the clock takes.
    steps = [longer - shorter for shorter, longer in pairwise([0, *gaps]) if longer > shorter]
    return min(steps, default=0) / 1000, gaps[len(gaps) // 2] / 1000
