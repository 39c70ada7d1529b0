"""
Measures callables on one CUDA device: tries them out, plans, and takes the rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import sleep

from pytest_kernelperf.measure.card import Card, card_for
from pytest_kernelperf.measure.collector import without_collector
from pytest_kernelperf.measure.device import take_device
from pytest_kernelperf.measure.event_sync import take_wall
from pytest_kernelperf.measure.guard import Guard
from pytest_kernelperf.measure.inputs import Lane
from pytest_kernelperf.measure.launch import take_launch
from pytest_kernelperf.measure.nvml import nvml_card
from pytest_kernelperf.measure.plan import choose_plan, shortage
from pytest_kernelperf.measure.rounds import disturbances
from pytest_kernelperf.measure.subject import Job, Subject, Taken
from pytest_kernelperf.measure.trial import Trial, try_out, try_out_alone
from pytest_kernelperf.model import Plan

#: Stands where a callable turned out unfit before a plan was needed.
_NO_PLAN = Plan(calls_per_sample=1, burst=1, gap_us=0.0, samples=0, rounds=0, input_sets=1)


def take(
    subjects: Mapping[str, Subject],
    guards: Mapping[str, Guard],
    job: Job,
    progress: Callable[[str], None],
) -> dict[str, Taken]:
    """
    Measure callables with one plan, their samples taken in turn: what drifts hits all alike.

    The slowest callable's estimate chooses the plan. One that is unfit carries its problem, and
    the others then have no rounds.
    """
    import torch

    lanes = [Lane(name, subject, guards[name]) for name, subject in subjects.items()]
    index = torch.device(lanes[0].guard.shape.device).index or 0
    with torch.cuda.device(index), without_collector():
        card = card_for(index)
        card.wake()
        progress(f"{job.case.timer} warm-up")
        trials = {lane.name: _try_out(lane, job, card) for lane in lanes}
        if any(trial.problem for trial in trials.values()):
            return {name: _unfit(trial, job) for name, trial in trials.items()}
        plan = _plan(lanes, trials, job, card)
        _let_siblings_fade(card)
        taken = _take(lanes, trials, plan, job, card, progress)
    note = shortage(plan, job.case.timer, job)
    shared = (note,) if note else ()
    return {
        name: replace(one, notes=(*one.notes, *disturbances(one.rounds, job), *shared))
        for name, one in taken.items()
    }


def _let_siblings_fade(card: Card) -> None:
    """
    Wait until what is seen beside the rounds is not what another process of the run did before.
    """
    fade_s = nvml_card(card.index).siblings_fade_s()
    if fade_s:
        sleep(fade_s)
        card.wake()


def _try_out(lane: Lane, job: Job, card: Card) -> Trial:
    if job.case.timer == "wall":
        return try_out_alone(lane, card)
    return try_out(lane, card, estimate=job.pinned is None)


def _unfit(trial: Trial, job: Job) -> Taken:
    plan = job.pinned or _NO_PLAN
    return Taken(trial.method, plan, (), trial.kernels, trial.notes, trial.problem)


def _plan(lanes: Sequence[Lane], trials: Mapping[str, Trial], job: Job, card: Card) -> Plan:
    footprints = [trial.footprint_bytes for trial in trials.values() if trial.footprint_bytes]
    largest = max(lanes, key=lambda lane: trials[lane.name].copy_bytes)
    return choose_plan(
        job.case.timer,
        max(trial.estimate_us for trial in trials.values()),
        nodes_per_call=max(trial.nodes_per_call for trial in trials.values()),
        footprint_bytes=min(footprints, default=0),
        l2_bytes=card.l2_bytes,
        # Each callable has copies of its own.
        free_bytes=card.free_bytes() // len(lanes),
        cold=job.case.l2 == "cold",
        rewrites=any(lane.guard.rewrites for lane in lanes),
        job=job,
        fn=largest.subject.fn,
        copy_bytes=trials[largest.name].copy_bytes,
    )


def _take(
    lanes: Sequence[Lane],
    trials: Mapping[str, Trial],
    plan: Plan,
    job: Job,
    card: Card,
    progress: Callable[[str], None],
) -> dict[str, Taken]:
    if job.case.timer == "device":
        return take_device(lanes, trials, plan, job, card, progress)
    if job.case.timer == "launch":
        return take_launch(lanes, trials, plan, job, card, progress)
    return take_wall(lanes, trials, plan, job, card, progress)
