"""
Finds out how a callable can be measured: captured, blocked on its stream, or not blocked at all.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from pytest_kernelperf.measure.canary import Shot, late
from pytest_kernelperf.measure.card import Card, rest
from pytest_kernelperf.measure.graph import (
    Captured,
    CaptureFailedError,
    Nodes,
    capture,
    nodes_of,
    warm_side_stream,
)
from pytest_kernelperf.measure.inputs import InARow, InputSets, Lane
from pytest_kernelperf.measure.subject import name_of
from pytest_kernelperf.model import Kernel, Problem

#: Nodes that may be enqueued behind the blocker: the driver's queue holds about 1024 launches, and
#: a full one makes the host wait for the device, which waits for the host.
MAX_NODES = 512
#: Assumed where the driver can't count: more than nearly every call has, so the queue never fills.
_UNKNOWN_NODES = 8

_WARM_UP_CALLS = 5
_WARM_UP_S = 0.025
_WARM_UP_LIMIT_S = 1.0
_ESTIMATE_US = 500.0
_ESTIMATE_CALLS = 20
_SETTLING_GRAPHS = 4

#: Work on another stream shows as a device that stays busy after the last event: by more than a
#: host hiccup, and by more than a fifth of the sample.
_HIDDEN_US = 50.0
_HIDDEN_SHARE = 0.2

NO_BLOCKER = (
    "no way to hold the stream back works here (cuda-bindings or Triton missing?): "
    "host time is inside where the host is slower than the device"
)
SYNCHRONISES = "the callable synchronises with the device: host time is inside"


@dataclass(frozen=True)
class Trial:
    """
    How one callable will be measured.

    Attributes:
        method: "graph", "stream" or "unblocked".
        nodes_per_call: Device operations that one call enqueues.
        estimate_us: Rough time per call; 0.0 if nobody asked.
        footprint_bytes, copy_bytes: Of the arguments, see `InputSets`.
        notes: Why it is not "graph", and what else a reader must know.
        problem: Set if it can't be measured at all.
    """

    method: str
    nodes_per_call: int
    kernels: tuple[Kernel, ...] = ()
    estimate_us: float = 0.0
    notes: tuple[str, ...] = ()
    problem: Problem | None = None
    footprint_bytes: int = 0
    copy_bytes: int = 0

    def by(self, method: str, note: str) -> Trial:
        """
        Return the same callable, to be measured by a lesser method, and why.
        """
        return replace(self, method=method, notes=(*self.notes, note))


def try_out(lane: Lane, card: Card, *, estimate: bool) -> Trial:
    """
    Warm a callable up, try to capture it, check the captured work, and estimate its time.

    Args:
        lane: The callable.
        card: The device to try it on.
        estimate: Whether the time per call is wanted (a pinned plan needs none).
    """
    sets = InputSets(lane, card, 1)
    warm_up(sets)
    try:
        captured = _capture_one(sets)
    except CaptureFailedError as failure:
        trial = _without_graph(lane, sets, card, failure)
    else:
        trial = _with_graph(lane, sets, card, captured)
    trial = replace(trial, footprint_bytes=sets.footprint_bytes, copy_bytes=sets.copy_bytes)
    if trial.problem is not None or not estimate:
        return trial
    return replace(trial, estimate_us=_estimate_us(lane, sets, card, trial))


def settle(lane: Lane, card: Card) -> None:
    """
    Capture and replay one call a few times, so that all rounds' graphs are launched alike.

    On an H100 (driver 580, CUDA 13) the first three graphs that a process captures after ordinary
    launches of a kernel run with no gap between their kernels, every later one with 0.3 µs: at
    3.7 µs a call that is 8 %. Without this the first rounds of a pinned plan were the fast ones,
    and those of a calibrated plan, whose estimate captures too, were not. Attaching the profiler
    has the same effect for good.
    """
    sets = InputSets(lane, card, 1)
    for _ in range(_SETTLING_GRAPHS):
        with contextlib.suppress(CaptureFailedError):
            captured = capture(sets.call, 1)
            sets.restore()
            captured.run()


def try_out_alone(lane: Lane, card: Card) -> Trial:
    """
    Warm a callable up for the wall timer, which times plain calls, and estimate its time.

    Its kernels come from a capture that is never replayed. That goes before the warm-up, which
    gives the allocator back the blocks that a capture makes it free.
    """
    sets = InputSets(lane, card, 1)
    kernels = _kernels_of(sets)
    warm_up(sets)
    return Trial(
        "event-sync",
        _UNKNOWN_NODES,
        kernels,
        estimate_us=median(_alone(sets, card).time_us for _ in range(5)),
        footprint_bytes=sets.footprint_bytes,
        copy_bytes=sets.copy_bytes,
    )


def warm_up(sets: InputSets) -> None:
    """
    Call until all is compiled, loaded and allocated: some calls and some time, at most a second.
    """
    import torch

    began = time.perf_counter()
    for count in range(10_000):
        spent_s = time.perf_counter() - began
        if (count >= _WARM_UP_CALLS and spent_s >= _WARM_UP_S) or spent_s >= _WARM_UP_LIMIT_S:
            break
        sets.restore()
        sets.call(0)
        torch.cuda.synchronize()


def hides_work(shots: Sequence[Shot]) -> bool:
    """
    Return whether the device typically stayed busy after the last event: work on another stream.
    """
    if not shots:
        return False
    busy_us = median(shot.busy_us for shot in shots)
    return busy_us > max(_HIDDEN_US, _HIDDEN_SHARE * median(shot.device_us for shot in shots))


def hidden_work(lane: Lane, how: str) -> Problem:
    """
    Return the problem of a callable whose work is not where it is timed.
    """
    return Problem(
        "HIDDEN_WORK",
        f"{name_of(lane.subject.fn)} {how}; expected all its work on the current stream, where the "
        "timer sees it: make the current stream wait for it (current_stream().wait_stream(other))",
    )


def _capture_one(sets: InputSets) -> Captured:
    sets.restore()
    warm_side_stream(lambda: sets.call(0))
    return capture(sets.call, 1)


def _kernels_of(sets: InputSets) -> tuple[Kernel, ...]:
    """
    Return the kernels that one call launches; none where it can't be captured.
    """
    try:
        nodes = nodes_of(_capture_one(sets))
    except CaptureFailedError:
        return ()
    return nodes.kernels if nodes is not None else ()


def _with_graph(lane: Lane, sets: InputSets, card: Card, captured: Captured) -> Trial:
    import torch

    nodes = nodes_of(captured)
    sets.restore()
    captured.run()
    for output in captured.outputs:
        lane.guard.poison(output)
    sets.restore()
    captured.run()
    torch.cuda.synchronize()
    problem = lane.guard.check_output(captured.outputs[0]) or sets.check()
    if problem is None and nodes is not None and nodes.count == 0:
        problem = hidden_work(lane, "put no work on the current stream")
    trial = _trial("graph", nodes, problem)
    return trial if card.blocker else trial.by("unblocked", NO_BLOCKER)


def _without_graph(lane: Lane, sets: InputSets, card: Card, failure: CaptureFailedError) -> Trial:
    trial = _trial("stream", None, None)
    if failure.unjoined:
        return replace(
            trial, problem=hidden_work(lane, "leaves work on another stream that nobody waits for")
        )
    trial = replace(trial, notes=(f"can't be captured in a CUDA graph ({failure})",))
    if hides_work([_alone(sets, card) for _ in range(3)]):
        return replace(
            trial, problem=hidden_work(lane, "keeps the device busy after its own stream has ended")
        )
    if card.blocker is None:
        return trial.by("unblocked", NO_BLOCKER)
    sets.restore()
    # Blocks for the allocator were left by the calls before: nothing allocates anew while blocked.
    return trial.by("unblocked", SYNCHRONISES) if late(_blocked(sets, card)) else trial


def _trial(method: str, nodes: Nodes | None, problem: Problem | None) -> Trial:
    if nodes is None:
        return Trial(method, _UNKNOWN_NODES, problem=problem)
    return Trial(method, max(nodes.count, 1), nodes.kernels, problem=problem)


def _alone(sets: InputSets, card: Card) -> Shot:
    sets.restore()
    rest(0.0)
    return card.shoot_unblocked(lambda: sets.call(0), 1, flush=False)


def _blocked(sets: InputSets, card: Card) -> Shot:
    rest(0.0)
    return card.shoot(lambda: sets.call(0), 1, flush=False)


def _estimate_us(lane: Lane, sets: InputSets, card: Card, trial: Trial) -> float:
    """
    Return the time per call: of one call, and of several in a row where one is short.

    A callable that changes its inputs is never called twice in a row: its indices might run off.
    """
    alone_us = _timed(sets, card, trial, 1)
    if alone_us >= _ESTIMATE_US or lane.guard.rewrites:
        return alone_us
    return _timed(
        sets, card, trial, max(1, min(_ESTIMATE_CALLS, MAX_NODES // trial.nodes_per_call))
    )


def _timed(sets: InputSets, card: Card, trial: Trial, calls: int) -> float:
    work: Captured | InARow = InARow(sets, calls)
    if trial.method == "graph":
        # If one call can be captured but many can't, the first round finds out.
        with contextlib.suppress(CaptureFailedError):
            work = capture(sets.call, calls)
    sets.restore()
    work.run()
    shoot = card.shoot_unblocked if trial.method == "unblocked" else card.shoot
    sets.restore()
    rest(0.0)
    return shoot(work.run, calls, flush=False).time_us
