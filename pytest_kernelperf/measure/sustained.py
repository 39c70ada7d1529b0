"""
Samples back to back on a card that is never idle: what a busy server gets.

The host enqueues some samples ahead of the device instead of holding it back. The proof that no
host time is inside a sample: when all of it was enqueued, the device had not yet finished the one
before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import monotonic
from typing import Any, Protocol

from pytest_kernelperf.measure.canary import Shot, late
from pytest_kernelperf.measure.card import Card, rounded
from pytest_kernelperf.measure.inputs import Lane
from pytest_kernelperf.measure.rounds import in_turn

#: Samples in the queue: two or three milliseconds of work, against host stalls of up to 1.7 ms.
_AHEAD = 3
#: The power control answers within tenths of a second: what two windows in a row agree on is the
#: steady state, heat apart.
_WINDOW_S = 0.25
_LEAST_S, _MOST_S = 0.75, 5.0
_STEADY = 0.003
#: Samples may be this many times those wanted before a round gives up replacing late ones.
_PATIENCE = 3


class Runner(Protocol):
    """
    One lane in one round, as the device timer makes it.
    """

    lane: Lane
    calls: int

    def enqueue(self, card: Card) -> None:
        """
        Enqueue what comes before a sample's clock starts.
        """

    def run(self) -> None:
        """
        Enqueue the sample's calls.
        """


class HostTooSlowError(Exception):
    """
    The device kept waiting for the host: a sustained pace is not to be had for this lane.
    """

    def __init__(self, lane: str) -> None:
        super().__init__(lane)
        self.lane = lane


def back_to_back(runners: Sequence[Runner], samples: int, card: Card) -> dict[str, list[Shot]]:
    """
    Keep the card busy until it is steady, then take samples of the lanes in turn, without a gap.

    Args:
        runners: The lanes of one round.
        samples: How many timely ones are wanted of each.
        card: The device they run on.

    Raises:
        HostTooSlowError: If the device ran dry in most samples.
    """
    train = _Train(card)
    _settle(train, runners)
    shots: dict[str, list[Shot]] = {one.lane.name: [] for one in runners}
    for turn in range(_PATIENCE * samples):
        for runner in in_turn(runners, turn):
            _keep(shots, train.add(runner))
        if all(_timely(taken) >= samples for taken in shots.values()):
            break
    _keep(shots, train.drain())
    for name, taken in shots.items():
        if 2 * _timely(taken) < len(taken):
            raise HostTooSlowError(name)
    return shots


def _settle(train: _Train, runners: Sequence[Runner]) -> None:
    """
    Run until the times of two windows agree, which no sample is taken from.
    """
    began = monotonic()
    earlier_us = 0.0
    while monotonic() - began < _MOST_S:
        window_us = _window_us(train, runners)
        is_steady = abs(window_us - earlier_us) <= _STEADY * window_us
        if is_steady and monotonic() - began >= _LEAST_S:
            return
        earlier_us = window_us


def _window_us(train: _Train, runners: Sequence[Runner]) -> float:
    """
    Return the lanes' median times in one window, added up.
    """
    times_us: dict[str, list[float]] = {}
    ends = monotonic() + _WINDOW_S
    while True:
        for runner in runners:
            for name, shot in train.add(runner):
                times_us.setdefault(name, []).append(shot.time_us)
        if monotonic() >= ends and len(times_us) == len(runners):
            return sum(map(median, times_us.values()))


def _keep(shots: Mapping[str, list[Shot]], done: Sequence[tuple[str, Shot]]) -> None:
    for name, shot in done:
        shots[name].append(shot)


def _timely(shots: Sequence[Shot]) -> int:
    return sum(not late(shot) for shot in shots)


class _Train:
    """
    The samples in the queue of one stream.

    Args:
        card: The device; its canary runs between any two samples.
    """

    def __init__(self, card: Card) -> None:
        self._card = card
        self._free = [_Wagon() for _ in range(_AHEAD)]
        self._queued: deque[_Wagon] = deque()
        self._before_mhz: float | None = None

    def add(self, runner: Runner) -> list[tuple[str, Shot]]:
        """
        Enqueue one more sample; return those that had to be waited for to make room.
        """
        done = [] if self._free else [self._finish()]
        previous = self._queued[-1] if self._queued else None
        wagon = self._free.pop()
        wagon.enqueue(runner, self._card)
        wagon.ran_dry = previous is None or previous.is_done()
        self._queued.append(wagon)
        return done

    def drain(self) -> list[tuple[str, Shot]]:
        """
        Wait for all that is queued.
        """
        return [self._finish() for _ in range(len(self._queued))]

    def _finish(self) -> tuple[str, Shot]:
        wagon = self._queued.popleft()
        shot = wagon.shot(self._card, self._before_mhz)
        self._before_mhz = shot.after_mhz
        self._free.append(wagon)
        return wagon.lane, shot


class _Wagon:
    """
    One sample in the queue: its events, and whether the device had run dry before it.
    """

    def __init__(self) -> None:
        import torch

        marks = [torch.cuda.Event(enable_timing=True) for _ in range(4)]
        self._start, self._end, self._clock_begins, self._last = marks
        self._calls = 1
        self.lane = ""
        self.ran_dry = False

    def enqueue(self, runner: Runner, card: Card) -> None:
        self.lane, self._calls = runner.lane.name, runner.calls
        runner.enqueue(card)
        self._start.record()
        runner.run()
        self._end.record()
        if card.canary is None:
            self._last.record()
        else:
            card.canary.enqueue(self._clock_begins, self._last)

    def is_done(self) -> bool:
        ask: Callable[[], Any] = self._last.query
        return bool(ask())

    def shot(self, card: Card, before_mhz: float | None) -> Shot:
        """
        Wait for the sample and read it.
        """
        self._last.synchronize()
        device_us = self._start.elapsed_time(self._end) * 1e3
        after_mhz = None
        if card.canary is not None:
            after_mhz = card.canary.read_mhz(self._clock_begins, self._last)
        return Shot(
            rounded(device_us / self._calls),
            before_mhz or after_mhz,
            after_mhz,
            slack_us=-1.0 if self.ran_dry else 0.0,
            device_us=device_us,
        )
