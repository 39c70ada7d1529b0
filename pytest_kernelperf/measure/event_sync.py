"""
The `wall` timer on CUDA: event, call, event, synchronise, on an idle card.

The protocol of the validation report that this project began with: dispatch and launch are inside,
as a lone caller waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_kernelperf.measure.canary import Shot
from pytest_kernelperf.measure.card import Card, rest
from pytest_kernelperf.measure.inputs import InputSets, Lane
from pytest_kernelperf.measure.nvml import nvml_card
from pytest_kernelperf.measure.records import round_of
from pytest_kernelperf.measure.rounds import in_turn, run_rounds
from pytest_kernelperf.measure.subject import Job, Taken
from pytest_kernelperf.measure.trial import Trial, hidden_work, hides_work
from pytest_kernelperf.model import Plan, Problem, Round

METHOD = "event-sync"
_WARM_UP_CALLS = 10


@dataclass
class _Runner:
    """
    One lane in one round.
    """

    lane: Lane
    sets: InputSets
    flush: bool
    output: Any = None
    shots: list[Shot] = field(default_factory=list)

    def sample(self, card: Card, index: int, gap_us: float) -> None:
        """
        Time one call on the set whose turn it is, with the card idle before and after.
        """
        if self.output is not None:
            self.lane.guard.poison(self.output)
        # Freed before the call: its block is what the call's output is likely to get.
        self.output = None
        self.sets.restore(index)
        if self.flush:
            card.flush()
        rest(gap_us)
        self.shots.append(card.shoot_unblocked(lambda: self._call(index), 1, flush=False))

    def _call(self, index: int) -> None:
        self.output = self.sets.call(index)

    def check(self) -> Problem | None:
        """
        Check the last call's output, the inputs, and that the card was idle when the calls ended.
        """
        problem = self.lane.guard.check_output(self.output) or self.sets.check()
        if problem is None and hides_work(self.shots):
            return hidden_work(self.lane, "keeps the device busy after its own stream has ended")
        return problem


def take_wall(
    lanes: Sequence[Lane],
    trials: Mapping[str, Trial],
    plan: Plan,
    job: Job,
    card: Card,
    progress: Callable[[str], None],
) -> dict[str, Taken]:
    """
    Measure what a lone caller waits, samples of the lanes interleaved.
    """
    found = run_rounds(
        [lane.name for lane in lanes],
        plan.rounds,
        lambda: _round(lanes, plan, job, card),
        job,
        progress,
    )
    return {
        name: Taken(METHOD, plan, rounds, trials[name].kernels, problem=problem)
        for name, (rounds, problem) in found.items()
    }


def _round(
    lanes: Sequence[Lane], plan: Plan, job: Job, card: Card
) -> Mapping[str, tuple[Round, Problem | None]]:
    runners = [_runner(lane, plan, job, card) for lane in lanes]
    watch = nvml_card(card.index).watch()
    for index in range(plan.samples):
        for runner in in_turn(runners, index):
            runner.sample(card, index, plan.gap_us)
    reading = watch.read()
    return {one.lane.name: (round_of(one.shots, reading), one.check()) for one in runners}


def _runner(lane: Lane, plan: Plan, job: Job, card: Card) -> _Runner:
    sets = InputSets(lane, card, plan.input_sets)
    for _ in range(_WARM_UP_CALLS):
        sets.restore(0)
        sets.call(0)
    return _Runner(lane, sets, sets.needs_flush(card, job.case.l2 == "cold"))
