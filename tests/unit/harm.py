"""
What may befall a process: slower by a known size, in a slow mode, throttled, disturbed by the host.

Each change is remembered by its arguments: the same change is the same object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from pytest_kernelperf.measure.canary import Shot
from pytest_kernelperf.measure.nvml import Reading
from pytest_kernelperf.measure.records import Burst, burst_round_of, round_of
from pytest_kernelperf.model import Process, Round

#: What befalls a candidate: the number of its process (0 is the first measured), and the process.
Change = Callable[[int, Process], Process]


def untouched(at: int, process: Process) -> Process:
    """
    Nothing happens.
    """
    return process


@cache
def both(first: Change, second: Change) -> Change:
    """
    One after the other.
    """
    return lambda at, process: second(at, first(at, process))


@cache
def slower(factor: float) -> Change:
    """
    Every sample takes longer by a factor.
    """
    return _each_time(lambda times, _: times * factor)


@cache
def longer(shift_us: float) -> Change:
    """
    Every call takes so many microseconds more: an extra launch, a longer prologue.
    """
    return _each_time(lambda times, _: times + shift_us)


@cache
def slow_tail(share: float, factor: float) -> Change:
    """
    The slowest share of each round's launches takes longer by a factor.
    """

    def with_tail(times: np.ndarray, _: np.ndarray) -> np.ndarray:
        slow = np.argsort(times)[-round(share * times.size) :]
        times = times.copy()
        times[slow] *= factor
        return times

    return _each_time(with_tail)


@cache
def now_and_then(every: int, shift_us: float) -> Change:
    """
    One sample in so many takes longer, and nothing in the record tells.
    """
    return _each_time(lambda times, _: times + shift_us * (np.arange(times.size) % every == 3))


@cache
def two_modes(share: float, factor: float) -> Change:
    """
    A share of the samples, evenly spread, takes longer by a factor.
    """

    def mixed(times: np.ndarray, _: np.ndarray) -> np.ndarray:
        at = np.arange(times.size + 1)
        slow = np.diff(np.floor(at * share)) > 0
        return times * np.where(slow, factor, 1.0)

    return _each_time(mixed)


@cache
def drifting(start: float, end: float) -> Change:
    """
    Times go from one factor to another over the process's rounds and samples.
    """
    return _each_time(lambda times, when: times * (start + (end - start) * when))


@cache
def slow_mode(factor: float, *numbers: int) -> Change:
    """
    The processes of these numbers are slower throughout.
    """
    scale = slower(factor)
    return lambda at, process: scale(at, process) if at in numbers else process


@cache
def throttled(clock: float, share_of_rounds: float, *, seen: bool = True) -> Change:
    """
    The SM clock falls to a share, the time follows, in the last so many of the rounds.

    Args:
        clock: 0.5 = to half.
        share_of_rounds: 1.0 = all.
        seen: Whether canary and driver told; else only the times show it.
    """

    def fall(one: Round) -> Round:
        slow = replace(one, times_us=_plain(np.array(one.times_us) / clock))
        if not seen:
            return slow
        return replace(
            slow,
            clock_mhz=_plain(np.array(one.clock_mhz) * clock),
            nvml_clock_mhz=one.nvml_clock_mhz and one.nvml_clock_mhz * clock,
            throttle=("SW_POWER_CAP",),
        )

    def change(at: int, process: Process) -> Process:
        first = len(process.rounds) - round(share_of_rounds * len(process.rounds))
        rounds = (fall(one) if i >= first else one for i, one in enumerate(process.rounds))
        return replace(process, rounds=tuple(rounds))

    return change


@cache
def leaking(shift_us: float, every: int, *, seen: bool = True) -> Change:
    """
    One sample (or burst) in so many was released too early and takes longer by host time.

    The rounds are made anew by the code that makes them while measuring.

    Args:
        shift_us: Per call.
        every: 4 = a quarter of the samples or bursts.
        seen: Whether the slack is negative there, as it is in truth.
    """

    def change(at: int, process: Process) -> Process:
        rounds = tuple(
            _measured_with_leaks(one, shift_us, every, seen=seen) for one in process.rounds
        )
        return replace(process, rounds=rounds)

    return change


def _measured_with_leaks(one: Round, shift_us: float, every: int, *, seen: bool) -> Round:
    bursts, held = len(one.first_us), len(one.clock_mhz)
    early = [at % every == 1 for at in range(bursts or held)]
    shots = [
        Shot(0.0, mhz, mhz, -1.0 if leaked and seen else slack)
        for mhz, slack, leaked in zip(one.clock_mhz, one.slack_us, early, strict=True)
    ]
    extra_us = [shift_us if leaked else 0.0 for leaked in early]
    reading = Reading(clock_mhz=one.nvml_clock_mhz, memory_clock_mhz=one.memory_clock_mhz)
    if not bursts:
        times_us = [time + extra for time, extra in zip(one.times_us, extra_us, strict=True)]
        return round_of(
            [replace(s, time_us=t) for s, t in zip(shots, times_us, strict=True)], reading
        )
    size = -(-len(one.times_us) // bursts)
    taken = [
        Burst(shot, tuple(time + extra_us[at] for time in (first, *_part(one, at, size))))
        for at, (shot, first) in enumerate(zip(shots, one.first_us, strict=True))
    ]
    return burst_round_of(taken, len(one.times_us), reading)


def _part(one: Round, at: int, size: int) -> tuple[float, ...]:
    return one.times_us[at * size : (at + 1) * size]


def _each_time(change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Change:
    """
    Return what changes each round's times, told when each was taken: 0 to 1 over the process.
    """

    def changed(at: int, process: Process) -> Process:
        ends = np.linspace(0, 1, len(process.rounds) + 1)
        rounds = tuple(
            replace(
                one,
                times_us=_plain(
                    change(np.array(one.times_us), np.linspace(begin, end, len(one.times_us)))
                ),
            )
            for one, begin, end in zip(process.rounds, ends[:-1], ends[1:], strict=True)
        )
        return replace(process, rounds=rounds)

    return changed


def _plain(values: np.ndarray) -> tuple[float, ...]:
    return tuple(values.tolist())
