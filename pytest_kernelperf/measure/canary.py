"""
Reads the SM clock beside each sample, and drops samples on that evidence only.

A spin of a known number of SM cycles, timed by its own events under the same blocker, gives the
clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pytest_kernelperf.measure.blocker import Blocker
from pytest_kernelperf.model import Discard

#: About 25 µs at 1.98 GHz: long against the 32 ns tick (0.13 %), short against a 1 ms sample.
CYCLES = 50_000
_LEAD_IN_CYCLES = 10_000
#: Half a millisecond, in which 0.5 µs of overhead is 0.1 %: it gives the clock that the canary's
#: own overhead is taken from. Calibrated against a spin shorter than the canary (10 000 cycles),
#: processes read 1992 to 2025 MHz at one and the same clock, which 0.5 µs too much would explain.
_LONG_CYCLES = 1_000_000
_CALIBRATIONS = 9

#: The two canaries may differ by so much, and the clock must have fallen by more than so much.
AGREE = 0.03
FALLEN = 0.03
#: A kernel that the clock slows follows it at slope -1; half of that is "the time follows".
FOLLOWS = 0.5

CLOCK_FELL = "CLOCK_FELL"
BLOCKER_TIMEOUT = "BLOCKER_TIMEOUT"
LATE_ENQUEUE = "LATE_ENQUEUE"


@dataclass(frozen=True, slots=True)
class Shot:
    """
    One sample (or one burst) as it came from the device, before anything is judged.

    Attributes:
        time_us: Time per call.
        before_mhz, after_mhz: SM clock from the canaries around it; None where there is none.
        slack_us: Last enqueue to release; None where nothing was blocked.
        busy_us: How long the device stayed busy after the last event.
        device_us: Time between the two events, all calls together.
    """

    time_us: float
    before_mhz: float | None = None
    after_mhz: float | None = None
    slack_us: float | None = None
    busy_us: float = 0.0
    device_us: float = 0.0

    @property
    def clock_mhz(self) -> float | None:
        """
        Mean of both canaries.
        """
        if self.before_mhz is None or self.after_mhz is None:
            return None
        return round((self.before_mhz + self.after_mhz) / 2, 1)


def mhz_of(cycles: int, time_us: float, overhead_us: float) -> float:
    """
    Return the clock at which a spin of so many cycles took so long, its event overhead taken off.
    """
    return cycles / max(time_us - overhead_us, 1e-3)


def overhead_of(short: tuple[int, float], long: tuple[int, float]) -> float:
    """
    Return what events and launch add to a spin, from two lengths: the part that does not grow.

    Args:
        short: Cycles and microseconds of a short spin.
        long: Of a long one.

    Returns:
        Microseconds; 0.0 where the two make no sense together (a clock that moved in between).
    """
    (few, short_us), (many, long_us) = short, long
    if long_us <= short_us:
        return 0.0
    mhz = (many - few) / (long_us - short_us)
    overhead_us = short_us - few / mhz
    return overhead_us if 0.0 <= overhead_us < short_us else 0.0


def late(shot: Shot) -> bool:
    """
    Return whether the release came before the last enqueue: host time may be inside.
    """
    return shot.slack_us is not None and shot.slack_us < 0


def sift(
    shots: Sequence[Shot], late_reason: str = BLOCKER_TIMEOUT, *, clock_may_fall: bool = False
) -> tuple[list[Shot], list[Discard]]:
    """
    Split a round's shots into those to keep, in order, and those dropped on evidence.

    A shot is dropped if its enqueue was late, or if both canaries agree on a fallen clock and its
    time fell behind with it. The usual clock is the upper quartile of the round (a quarter of the
    shots can therefore never be dropped), the usual time the median of the shots near that clock.
    Where the clock may fall, it is no evidence.
    """
    timely = [shot for shot in shots if not late(shot)]
    usual_mhz, usual_us = _usual(timely)
    kept: list[Shot] = []
    dropped: list[Discard] = []
    for shot in shots:
        if late(shot):
            dropped.append(Discard(late_reason, shot.time_us, shot.clock_mhz))
        elif not clock_may_fall and clock_fell(shot, usual_mhz, usual_us):
            dropped.append(Discard(CLOCK_FELL, shot.time_us, shot.clock_mhz))
        else:
            kept.append(shot)
    return kept, dropped


def clock_fell(shot: Shot, usual_mhz: float, usual_us: float) -> bool:
    """
    Return whether a fallen clock, seen by both canaries, explains that a shot is slow.

    A slow shot at the usual clock stays, and so does a fast one at a fallen clock.
    """
    before, after = shot.before_mhz, shot.after_mhz
    if before is None or after is None or not usual_mhz:
        return False
    if abs(before - after) > AGREE * max(before, after):
        return False
    # The faster canary is the cautious reading.
    slowed = usual_mhz / max(before, after) - 1.0
    if slowed <= FALLEN:
        return False
    return shot.time_us / usual_us - 1.0 >= FOLLOWS * slowed


def _usual(shots: Sequence[Shot]) -> tuple[float, float]:
    """
    Return the round's usual clock and time, or zeros where the canary gave none.
    """
    read = [(shot.clock_mhz, shot.time_us) for shot in shots]
    clocks = sorted(mhz for mhz, _ in read if mhz is not None)
    if not clocks:
        return 0.0, 0.0
    usual_mhz = clocks[math.ceil(0.75 * len(clocks)) - 1]
    near = [us for mhz, us in read if mhz is not None and mhz >= (1 - FALLEN / 2) * usual_mhz]
    return usual_mhz, median(near)


class Canary:
    """
    The spin on a device, with its own overhead taken off.
    """

    def __init__(self, overhead_us: float) -> None:
        self.overhead_us = overhead_us

    def lead_in(self) -> None:
        """
        Enqueue a short spin that nobody times, so that no canary is the first work after a release.

        What comes first starts late: with the short calibration spin there, canaries read 1990 to
        2026 MHz from process to process on a card that runs at 1980 at most.
        """
        _spin(_LEAD_IN_CYCLES)

    def enqueue(self, begin: Any, end: Any, cycles: int = CYCLES) -> None:
        """
        Enqueue one timed spin on the current stream.
        """
        begin.record()
        _spin(cycles)
        end.record()

    def read_mhz(self, begin: Any, end: Any) -> float:
        """
        Return the clock that a finished spin ran at.
        """
        return round(mhz_of(CYCLES, begin.elapsed_time(end) * 1e3, self.overhead_us), 1)


def calibrated(blocker: Blocker) -> Canary | None:
    """
    Return a canary for the current device, or None if torch has no spin kernel.
    """
    import torch

    if not hasattr(torch.cuda, "_sleep"):
        return None
    canary = Canary(0.0)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(4)]
    # Once unblocked: events are created, and the spin's module loads, at their first use.
    _spin_both(canary, marks)
    torch.cuda.synchronize()
    own_us, long_us = [], []
    for _ in range(_CALIBRATIONS):
        with blocker.hold():
            canary.lead_in()
            _spin_both(canary, marks)
        marks[3].synchronize()
        own_us.append(marks[0].elapsed_time(marks[1]) * 1e3)
        long_us.append(marks[2].elapsed_time(marks[3]) * 1e3)
    return Canary(overhead_of((CYCLES, median(own_us)), (_LONG_CYCLES, median(long_us))))


def _spin_both(canary: Canary, marks: Sequence[Any]) -> None:
    canary.enqueue(marks[0], marks[1])
    canary.enqueue(marks[2], marks[3], _LONG_CYCLES)


def _spin(cycles: int) -> None:
    import torch

    spin: Callable[[int], None] = torch.cuda._sleep
    spin(cycles)
