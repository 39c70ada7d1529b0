"""
The `device` timer: GPU time per call, a mean over the many calls of one sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_kernelperf.measure.canary import Shot, late, sift
from pytest_kernelperf.measure.card import Card, rest
from pytest_kernelperf.measure.graph import Captured, CaptureFailedError, capture
from pytest_kernelperf.measure.inputs import InARow, InputSets, Lane
from pytest_kernelperf.measure.nvml import nvml_card
from pytest_kernelperf.measure.records import round_of
from pytest_kernelperf.measure.rounds import in_turn, run_rounds
from pytest_kernelperf.measure.subject import Job, Taken
from pytest_kernelperf.measure.sustained import HostTooSlowError, back_to_back
from pytest_kernelperf.measure.trial import (
    SYNCHRONISES,
    Trial,
    hidden_work,
    hides_work,
    settle,
)
from pytest_kernelperf.model import Plan, Problem, Round

#: A round may take this many times the samples it wants before it gives up replacing dropped ones.
_PATIENCE = 2
HOST_TOO_SLOW = (
    "the host could not enqueue as fast as the device works, so at a sustained pace host time is "
    "inside"
)
#: Late releases in a row after which a callable is taken for one that synchronises.
_LATE_IN_A_ROW = 2


class MethodFailedError(Exception):
    """
    A lane's method stopped working; it must start again by a lesser one.
    """

    def __init__(self, lane: str, method: str, note: str) -> None:
        super().__init__(note)
        self.lane = lane
        self.method = method
        self.note = note


@dataclass
class _Runner:
    """
    One lane in one round: its inputs, and what enqueues one sample of calls.
    """

    lane: Lane
    sets: InputSets
    work: Captured | InARow
    shoot: Callable[..., Shot]
    calls: int
    flush: bool

    def shot(self, gap_us: float) -> Shot:
        """
        Poison and restore, leave the card idle for the gap, and time one sample.
        """
        self.sets.make_ready(self.work.outputs)
        rest(gap_us)
        return self.shoot(self.work.run, self.calls, flush=self.flush)

    def enqueue(self, card: Card) -> None:
        """
        Enqueue what comes before a sample of a sustained pace: poison, fresh contents, the flush.
        """
        self.sets.make_ready(self.work.outputs)
        if self.flush:
            card.flush()

    def run(self) -> None:
        """
        Enqueue the sample's calls.
        """
        self.work.run()

    def check(self) -> Problem | None:
        """
        Check the outputs and the inputs that the last sample left.
        """
        return self.sets.check(self.work.outputs)


def take_device(
    lanes: Sequence[Lane],
    trials: Mapping[str, Trial],
    plan: Plan,
    job: Job,
    card: Card,
    progress: Callable[[str], None],
) -> dict[str, Taken]:
    """
    Measure lanes that were tried out, samples interleaved, with one plan.
    """
    trials = dict(trials)
    for lane in lanes:
        if trials[lane.name].method == "graph":
            settle(lane, card)
    while True:
        try:
            return _take(lanes, trials, plan, job, card, progress)
        except MethodFailedError as found:
            trials[found.lane] = trials[found.lane].by(found.method, found.note)


def _take(
    lanes: Sequence[Lane],
    trials: Mapping[str, Trial],
    plan: Plan,
    job: Job,
    card: Card,
    progress: Callable[[str], None],
) -> dict[str, Taken]:
    found = run_rounds(
        trials, plan.rounds, lambda: _round(lanes, trials, plan, job, card), job, progress
    )
    return {
        name: Taken(
            method=trials[name].method,
            plan=plan,
            rounds=rounds,
            kernels=trials[name].kernels,
            notes=trials[name].notes,
            problem=problem,
        )
        for name, (rounds, problem) in found.items()
    }


def _round(
    lanes: Sequence[Lane], trials: Mapping[str, Trial], plan: Plan, job: Job, card: Card
) -> dict[str, tuple[Round, Problem | None]]:
    """
    Take one round of every lane: new inputs, a new graph, samples in turn.
    """
    cold = job.case.l2 == "cold"
    runners = [_runner(lane, trials[lane.name], plan, card, cold) for lane in lanes]
    sustained = job.case.pace == "sustained"
    blockable = all(trial.method != "unblocked" for trial in trials.values())
    watch = nvml_card(card.index).watch()
    shots = _busy(runners, plan, card) if sustained and blockable else _paced(runners, plan)
    reading = watch.read()
    return {
        one.lane.name: (
            round_of(shots[one.lane.name], reading, clock_may_fall=sustained),
            one.check() or _hidden(one.lane, trials[one.lane.name], shots[one.lane.name]),
        )
        for one in runners
    }


def _paced(runners: Sequence[_Runner], plan: Plan) -> dict[str, list[Shot]]:
    """
    Take samples in turn, the card idle for the gap before each; replace those that are dropped.
    """
    shots: dict[str, list[Shot]] = {one.lane.name: [] for one in runners}
    for turn in range(_PATIENCE * plan.samples):
        waiting = [one for one in runners if not _enough(shots[one.lane.name], plan.samples)]
        if not waiting:
            break
        for runner in in_turn(waiting, turn):
            shots[runner.lane.name].append(runner.shot(plan.gap_us))
            _refuse_late(runner.lane.name, shots[runner.lane.name])
    return shots


def _busy(runners: Sequence[_Runner], plan: Plan, card: Card) -> dict[str, list[Shot]]:
    """
    Take samples in turn on a card that is never idle.
    """
    try:
        return back_to_back(runners, plan.samples, card)
    except HostTooSlowError as found:
        raise MethodFailedError(found.lane, "unblocked", HOST_TOO_SLOW) from None


def _runner(lane: Lane, trial: Trial, plan: Plan, card: Card, cold: bool) -> _Runner:
    """
    Make a lane ready for one round, with one unblocked run of what a sample will run.
    """
    sets = InputSets(lane, card, plan.input_sets)
    calls = plan.calls_per_sample
    work: Captured | InARow = InARow(sets, calls)
    if trial.method == "graph":
        try:
            work = capture(sets.call, calls)
        except CaptureFailedError as failure:
            note = f"one call could be captured in a CUDA graph, but not {calls} ({failure})"
            raise MethodFailedError(lane.name, "stream", note) from None
    sets.restore()
    work.run()
    shoot = card.shoot_unblocked if trial.method == "unblocked" else card.shoot
    return _Runner(lane, sets, work, shoot, calls, sets.needs_flush(card, cold))


def _enough(shots: Sequence[Shot], samples: int) -> bool:
    return len(shots) >= samples and len(sift(shots)[0]) >= samples


def _refuse_late(lane: str, shots: Sequence[Shot]) -> None:
    if len(shots) >= _LATE_IN_A_ROW and all(late(shot) for shot in shots[-_LATE_IN_A_ROW:]):
        raise MethodFailedError(lane, "unblocked", SYNCHRONISES)


def _hidden(lane: Lane, trial: Trial, shots: Sequence[Shot]) -> Problem | None:
    # Nothing leaves a graph; what a blocked stream lets escape ended long before the release.
    if trial.method == "graph" or not hides_work(shots):
        return None
    return hidden_work(lane, "keeps the device busy after its own stream has ended")
