"""
Recorded H100 processes as baselines and candidates, and what may befall a candidate.

`tests/data/h100/cards.json` lists the files: a card with more of them is replayed with more turns
and more looks, without a change here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from pytest_kernelperf.analysis import judge, noise_from
from pytest_kernelperf.analysis.looks import LOOKS, wants_more
from pytest_kernelperf.analysis.noise import Noise
from pytest_kernelperf.measure.canary import Shot
from pytest_kernelperf.measure.nvml import Reading
from pytest_kernelperf.measure.records import Burst, burst_round_of, round_of
from pytest_kernelperf.model import (
    Entry,
    Limits,
    Measurement,
    Process,
    Recorded,
    Reference,
    Round,
    Verdict,
)
from pytest_kernelperf.store.runs import read_run

FOLDER = Path(__file__).parents[1] / "data" / "h100"
#: The fewest processes of a card that leave a baseline of three and two to judge.
LEAST = 5

#: What befalls a candidate: the number of its process (0 is the first measured), and the process.
Change = Callable[[int, Process], Process]


@dataclass(frozen=True)
class Card:
    """
    One card's recorded processes, in the order measured, each with all its cases.
    """

    uuid: str
    processes: tuple[tuple[Recorded, ...], ...]


@dataclass(frozen=True)
class Turn:
    """
    One candidate of one case, against a baseline of other processes of the same card.

    Attributes:
        line: The candidate's processes, one measurement each, in the order of measuring.
        limits: What the test asks, without its targets.
        noise: From this turn's baselines of all cases.
    """

    line: tuple[Measurement, ...]
    entry: Entry
    limits: Limits
    noise: Noise

    @property
    def timer(self) -> str:
        return self.line[0].case.timer

    @property
    def time_us(self) -> float:
        """
        What the baseline takes, by its median sample.
        """
        rounds = [each for one in self.entry.reference.processes for each in one.rounds]
        return float(np.median([time for each in rounds for time in each.times_us]))


@lru_cache
def cards() -> tuple[Card, ...]:
    """
    Return all recorded cards.
    """
    listed = json.loads((FOLDER / "cards.json").read_text(encoding="utf-8"))["cards"]
    return tuple(
        Card(
            each["uuid"],
            tuple(read_run(FOLDER / name).recorded for name in each["processes"]),
        )
        for each in listed
    )


@lru_cache
def turns(timer: str) -> tuple[Turn, ...]:
    """
    Return every case of one timer with every process of its card as first of a candidate.
    """
    return tuple(
        each
        for card in cards()
        if len(card.processes) >= LEAST
        for each in _turns(card)
        if each.timer == timer
    )


def elsewhere() -> list[Turn]:
    """
    Return the other cards' processes, one by one, against all of the card with most of them.
    """
    home = max(cards(), key=lambda each: len(each.processes))
    processes = [each for card in cards() if card is not home for each in card.processes]
    return [turn for each in processes for turn in _against(home.processes[:5], [each])]


def baseline_size(processes: int) -> int:
    """
    Return how many processes of a card are its baseline: five, if five are left to be judged.
    """
    return max(3, min(5, processes - 5))


def _turns(card: Card) -> Iterator[Turn]:
    count, size = len(card.processes), baseline_size(len(card.processes))
    for start in range(count):
        circle = [card.processes[(start + step) % count] for step in range(count)]
        yield from _against(circle[:size], circle[size : size + LOOKS[-1]])


def _against(
    baseline: Sequence[Sequence[Recorded]], line: Sequence[Sequence[Recorded]]
) -> Iterator[Turn]:
    references = {key: _reference(ones) for key, ones in _by_case(baseline).items()}
    candidates = _by_case(line)
    noise = noise_from(
        (candidates[key][0].measurement.case.regime, references[key]) for key in references
    )
    for key, ones in candidates.items():
        measurements = tuple(one.measurement for one in ones)
        limits = replace(ones[0].limits, targets_us={})
        yield Turn(measurements, Entry(references[key]), limits, noise)


def _by_case(processes: Sequence[Sequence[Recorded]]) -> dict[str, list[Recorded]]:
    """
    Return each case's measurements, one per process.
    """
    found: dict[str, list[Recorded]] = {}
    for each in processes:
        for one in each:
            found.setdefault(one.measurement.case.key, []).append(one)
    return found


def _reference(recorded: Sequence[Recorded]) -> Reference:
    first = recorded[0].measurement
    processes = tuple(process for each in recorded for process in each.measurement.processes)
    return Reference(first.plan, first.method, first.case.inputs, processes)


def befallen(turn: Turn, change: Change) -> Turn:
    """
    Return the turn with its candidate changed.
    """
    line = tuple(
        replace(each, processes=tuple(change(at, process) for process in each.processes))
        for at, each in enumerate(turn.line)
    )
    return replace(turn, line=line)


def also_in_baseline(turn: Turn, change: Change) -> Turn:
    """
    Return the turn with its baseline changed: the number is that of the baseline's process.
    """
    reference = turn.entry.reference
    processes = tuple(change(at, each) for at, each in enumerate(reference.processes))
    return replace(turn, entry=Entry(replace(reference, processes=processes)))


def last_look(turn: Turn) -> dict[float, Verdict]:
    """
    Return the judged verdicts, by percentile, of the last look that the rule takes.

    Where too few processes are recorded for a look, it is taken with those that there are.
    """
    for count in sorted({min(look, len(turn.line)) for look in LOOKS}):
        processes = tuple(one for each in turn.line[:count] for one in each.processes)
        joined = replace(turn.line[0], processes=processes)
        verdicts = judge(joined, turn.entry, turn.limits, turn.noise)
        if wants_more(verdicts, count) == count:
            break
    return {each.percentile: each for each in verdicts if each.judged}


def statuses(found: Sequence[Turn], change: Change, percentile: float = 50.0) -> Counter[str]:
    """
    Return how often each status is told of the changed candidates.
    """
    return Counter(last_look(befallen(each, change))[percentile].status.value for each in found)


def untouched(at: int, process: Process) -> Process:
    """
    Nothing happens.
    """
    return process


def both(first: Change, second: Change) -> Change:
    """
    One after the other.
    """
    return lambda at, process: second(at, first(at, process))


def slower(factor: float) -> Change:
    """
    Every sample takes longer by a factor.
    """
    return _each_time(lambda times, _: times * factor)


def longer(shift_us: float) -> Change:
    """
    Every call takes so many microseconds more: an extra launch, a longer prologue.
    """
    return _each_time(lambda times, _: times + shift_us)


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


def now_and_then(every: int, shift_us: float) -> Change:
    """
    One sample in so many takes longer, and nothing in the record tells.
    """
    return _each_time(lambda times, _: times + shift_us * (np.arange(times.size) % every == 3))


def drifting(start: float, end: float) -> Change:
    """
    Times go from one factor to another over the process's rounds and samples.
    """
    return _each_time(lambda times, when: times * (start + (end - start) * when))


def slow_mode(factor: float, *numbers: int) -> Change:
    """
    The processes of these numbers are slower throughout.
    """
    scale = slower(factor)
    return lambda at, process: scale(at, process) if at in numbers else process


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
