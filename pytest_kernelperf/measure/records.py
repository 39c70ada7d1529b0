"""
Turns what the instruments saw into the records of a round: pure, no device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from pytest_kernelperf.measure.canary import LATE_ENQUEUE, Shot, sift
from pytest_kernelperf.measure.nvml import Reading
from pytest_kernelperf.model import Round


@dataclass(frozen=True, slots=True)
class KernelRecord:
    """
    One kernel, memset or copy as the profiler saw it run.
    """

    name: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class BurstPattern:
    """
    The names of the records that one burst leaves: before the calls, per call, after them.
    """

    lead: tuple[str, ...]
    call: tuple[str, ...]
    tail: tuple[str, ...]

    def names(self, calls: int) -> list[str]:
        """
        Return all names of a burst of so many calls.
        """
        return [*self.lead, *self.call * calls, *self.tail]


class NotRepeatingError(Exception):
    """
    The records do not repeat from call to call, so none can be given to a call with certainty.
    """


@dataclass(frozen=True, slots=True)
class Burst:
    """
    One burst: its evidence, and the duration of each of its launches, microseconds.
    """

    shot: Shot
    times_us: tuple[float, ...]


def learn_pattern(
    records: Sequence[KernelRecord], calls: int, lead: int, tail: int
) -> BurstPattern:
    """
    Return the pattern of the only burst in a profile.

    Args:
        records: All records, in order of start.
        calls: Calls in the burst.
        lead: Records before the calls (polling kernel, flush, canary).
        tail: Records after them (canary).

    Raises:
        NotRepeatingError: If the records between are no whole number per call, or their names
        differ.
    """
    names = [record.name for record in records]
    between = names[lead : len(names) - tail]
    per_call, rest = divmod(len(between), calls)
    if len(names) <= lead + tail or rest:
        raise NotRepeatingError(f"{len(between)} kernel records of {calls} calls")
    pattern = BurstPattern(
        tuple(names[:lead]), tuple(between[:per_call]), tuple(names[len(names) - tail :])
    )
    if pattern.names(calls) != names:
        raise NotRepeatingError("the calls launch different kernels")
    return pattern


def launches_of(
    records: Sequence[KernelRecord], bursts: Sequence[tuple[BurstPattern, int]]
) -> list[tuple[float, ...]]:
    """
    Find the bursts of a profile, in order, and return each call's span in microseconds.

    A call's span is from the start of its first record to the end of its last. Records between the
    bursts (restored inputs, poison) and before them (the unblocked first call) are skipped. The
    search runs backwards, because nothing follows the last burst: so a callable that spins like the
    canary can't shift it.

    Args:
        records: All records, in order of start.
        bursts: Pattern and number of calls of each burst, in the order they ran.

    Raises:
        NotRepeatingError: If a burst is not there.
    """
    names = [record.name for record in records]
    found: list[tuple[float, ...]] = []
    end = len(names)
    for pattern, calls in reversed(bursts):
        wanted = pattern.names(calls)
        start = _find_last(names, wanted, end)
        if start < 0:
            number = len(bursts) - len(found)
            raise NotRepeatingError(f"burst {number} of {len(bursts)} is not among the records")
        first, size = start + len(pattern.lead), len(pattern.call)
        starts = range(first, first + calls * size, size)
        found.append(tuple(_span_us(records[at : at + size]) for at in starts))
        end = start
    return found[::-1]


def _find_last(names: list[str], wanted: list[str], end: int) -> int:
    """
    Return where the last run of the wanted names before `end` starts; -1 if there is none.
    """
    for start in range(end - len(wanted), -1, -1):
        if names[start] == wanted[0] and names[start : start + len(wanted)] == wanted:
            return start
    return -1


def _span_us(records: Sequence[KernelRecord]) -> float:
    start_ns = min(record.start_ns for record in records)
    return round((max(record.end_ns for record in records) - start_ns) * 1e-3, 6)


def round_of(shots: Sequence[Shot], reading: Reading, *, clock_may_fall: bool = False) -> Round:
    """
    Return the record of a round of samples: what is kept, what was dropped, and the evidence.

    Args:
        shots: In the order measured.
        reading: What the driver said around the round.
        clock_may_fall: A fallen clock is part of what is measured (a sustained pace).
    """
    kept, dropped = sift(shots, clock_may_fall=clock_may_fall)
    return Round(
        times_us=tuple(shot.time_us for shot in kept),
        discarded=tuple(dropped),
        clock_mhz=_clocks(kept),
        slack_us=tuple(shot.slack_us for shot in shots if shot.slack_us is not None),
        nvml_clock_mhz=reading.clock_mhz,
        memory_clock_mhz=reading.memory_clock_mhz,
        power_w=reading.power_w,
        temperature_c=reading.temperature_c,
        throttle=reading.throttle,
        foreign_processes=reading.foreign_processes,
    )


def burst_round_of(bursts: Sequence[Burst], samples: int, reading: Reading) -> Round:
    """
    Return the record of a round of bursts, launch by launch.

    The first launch of a burst finds an idle card and takes about 5 % longer: it is kept apart,
    unless it is the only one. A burst is dropped whole, on the same evidence as a sample; its entry
    among the discarded holds its median. Launches beyond the wanted number are left out from the
    end.
    """
    judged = [replace(burst.shot, time_us=_typical_us(burst)) for burst in bursts]
    kept, dropped = sift(judged, LATE_ENQUEUE)
    # Shots are compared as objects: two bursts may well have equal medians.
    chosen = {id(shot) for shot in kept}
    good = [burst for burst, shot in zip(bursts, judged, strict=True) if id(shot) in chosen]
    times_us = [time_us for burst in good for time_us in _after_first(burst)]
    whole = round_of(kept, reading)
    return replace(
        whole,
        times_us=tuple(times_us[:samples]),
        first_us=tuple(burst.times_us[0] for burst in good if len(burst.times_us) > 1),
        discarded=tuple(dropped),
        slack_us=tuple(b.shot.slack_us for b in bursts if b.shot.slack_us is not None),
    )


def _after_first(burst: Burst) -> tuple[float, ...]:
    return burst.times_us[1:] if len(burst.times_us) > 1 else burst.times_us


def _typical_us(burst: Burst) -> float:
    return round(median(_after_first(burst)), 6) if burst.times_us else burst.shot.time_us


def _clocks(shots: Sequence[Shot]) -> tuple[float, ...]:
    return tuple(shot.clock_mhz for shot in shots if shot.clock_mhz is not None)
