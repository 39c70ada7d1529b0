"""
Recorded H100 processes as baselines and candidates, and what is told of them once changed.

`tests/data/h100/cards.json` lists the files, each of one process or more: a card with more of them
is replayed with more turns and more looks, without a change here. What is told of a candidate is
remembered: tests that ask the same share it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from harm import Change, untouched

from pytest_kernelperf.analysis import judge, noise_from
from pytest_kernelperf.analysis.looks import LOOKS, wants_more
from pytest_kernelperf.analysis.noise import Noise
from pytest_kernelperf.model import (
    Entry,
    Limits,
    Measurement,
    Recorded,
    Reference,
    Status,
    Verdict,
)
from pytest_kernelperf.store.runs import Run, read_run

FOLDER = Path(__file__).parents[1] / "data" / "h100"
#: The fewest processes of a card that leave a baseline of three and two to judge.
LEAST = 5

#: What one process measured.
Measured = tuple[Recorded, ...]


@dataclass(frozen=True)
class Card:
    """
    One card's recorded processes, in the order measured, each with all its cases.
    """

    uuid: str
    processes: tuple[Measured, ...]


@dataclass(frozen=True, eq=False)
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
    def kernel(self) -> str:
        """
        The shape, as "512x16".
        """
        return self.line[0].case.test.split("[")[1].rstrip("]").replace("-", "x")

    @property
    def card(self) -> str:
        """
        Of the candidate.
        """
        return self.line[0].processes[0].environment.card

    @property
    def home(self) -> str:
        """
        The card of the baseline.
        """
        return self.entry.reference.processes[0].environment.card

    @property
    def is_full(self) -> bool:
        """
        Whether baseline and candidate have the five processes that the rule may take.
        """
        return len(self.entry.reference.processes) == len(self.line) == LOOKS[-1]

    @property
    def time_us(self) -> float:
        """
        What the baseline takes, by its median sample.
        """
        rounds = [each for one in self.entry.reference.processes for each in one.rounds]
        return float(np.median([time for each in rounds for time in each.times_us]))


@cache
def cards() -> tuple[Card, ...]:
    """
    Return all recorded cards.
    """
    listed = json.loads((FOLDER / "cards.json").read_text(encoding="utf-8"))["cards"]
    return tuple(
        Card(
            each["uuid"],
            tuple(one for name in each["runs"] for one in taken_apart(read_run(FOLDER / name))),
        )
        for each in listed
    )


def taken_apart(run: Run) -> list[Measured]:
    """
    Return a run's measurements process by process.
    """
    singles = [
        [
            replace(each, measurement=replace(each.measurement, processes=(process,)))
            for process in each.measurement.processes
        ]
        for each in run.recorded
    ]
    return list(zip(*singles, strict=True))


@cache
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


def planned(timer: str) -> tuple[Turn, ...]:
    """
    Return the turns with the full plan; all, as long as no card has ten processes by a timer.
    """
    return tuple(each for each in turns(timer) if each.is_full) or turns(timer)


def some(timer: str) -> tuple[Turn, ...]:
    """
    Return about a hundred turns, evenly over cards, processes and kernels.

    What never happens is shown as well by them as by all, which share their processes.
    """
    found = turns(timer)
    # No divisor of nine kernels, or only some of them would have their turn.
    return found[:: next(step for step in (1, 2, 4, 5, 7, 8) if len(found) / step < 110)]


@cache
def elsewhere() -> tuple[Turn, ...]:
    """
    Return up to five processes of each card, one by one, against five of each other card.

    Only cases with one plan on both: what was measured otherwise is not compared.
    """
    return tuple(
        turn
        for home in cards()
        if len(home.processes) >= LEAST
        for card in cards()
        if card is not home
        for turn in against(home.processes[:5], [[each] for each in card.processes[:5]])
        if turn.line[0].plan == turn.entry.reference.plan
    )


def baseline_size(processes: int) -> int:
    """
    Return how many processes of a card are its baseline: five, if five are left to be judged.
    """
    return max(3, min(5, processes - 5))


def _turns(card: Card) -> Iterator[Turn]:
    count, size = len(card.processes), baseline_size(len(card.processes))
    for start in range(count):
        circle = [card.processes[(start + step) % count] for step in range(count)]
        yield from against(circle[:size], [circle[size : size + LOOKS[-1]]])


def against(baseline: Sequence[Measured], lines: Sequence[Sequence[Measured]]) -> Iterator[Turn]:
    """
    Return every case of each line of processes as a candidate against a baseline of others.
    """
    references = {key: _reference(ones) for key, ones in _by_case(baseline).items()}
    cases = {each.measurement.case.key: each.measurement.case for each in baseline[0]}
    noise = noise_from((cases[key].regime, reference) for key, reference in references.items())
    for line in lines:
        for key, ones in _by_case(line).items():
            if key in references:
                measurements = tuple(one.measurement for one in ones)
                limits = replace(ones[0].limits, targets_us={})
                yield Turn(measurements, Entry(references[key]), limits, noise)


def _by_case(processes: Sequence[Measured]) -> dict[str, list[Recorded]]:
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


@cache
def told(turn: Turn, change: Change = untouched) -> Mapping[float, Verdict]:
    """
    Return the judged verdicts on the changed candidate, by percentile.
    """
    return last_look(befallen(turn, change))


def last_look(turn: Turn) -> dict[float, Verdict]:
    """
    Return the judged verdicts, by percentile, of the last look that the rule takes.

    Where too few processes are recorded for a look, it is taken with those that there are.
    """
    for count in sorted({min(look, len(turn.line)) for look in LOOKS}):
        verdicts = look_at(turn, count)
        if wants_more(verdicts, count) == count:
            break
    return {each.percentile: each for each in verdicts}


def look_at(turn: Turn, count: int) -> list[Verdict]:
    """
    Return the judged verdicts on the first so many of the candidate's processes.
    """
    processes = tuple(one for each in turn.line[:count] for one in each.processes)
    joined = replace(turn.line[0], processes=processes)
    return [each for each in judge(joined, turn.entry, turn.limits, turn.noise) if each.judged]


def statuses(found: Iterable[Turn], change: Change, percentile: float = 50.0) -> Counter[str]:
    """
    Return how often each status is told of the changed candidates.
    """
    return Counter(told(each, change)[percentile].status.value for each in found)


def found_share(found: Iterable[Turn], change: Change, percentile: float = 50.0) -> float:
    """
    Return how many of the changed candidates are REGRESSED, as a share.
    """
    counts = statuses(found, change, percentile)
    return counts["REGRESSED"] / counts.total()


def verdicts(found: Iterable[Turn], change: Change) -> list[Verdict]:
    """
    Return the verdicts at all judged percentiles of the changed candidates.
    """
    return [verdict for each in found for verdict in told(each, change).values()]


def regressed(found: Iterable[Verdict]) -> list[str]:
    """
    Return the cases and percentiles of those verdicts that are REGRESSED.
    """
    return [f"{v.case.key} P{v.percentile:g}" for v in found if v.status is Status.REGRESSED]


def by_card(found: Iterable[Turn]) -> dict[str, list[Turn]]:
    """
    Return the turns of each card, by the first part of its UUID.
    """
    return _grouped((turn.card[:12], turn) for turn in found)


def by_kernel(found: Iterable[Turn]) -> dict[str, list[Turn]]:
    """
    Return the turns of each kernel.
    """
    return _grouped((turn.kernel, turn) for turn in found)


def _grouped(pairs: Iterable[tuple[str, Turn]]) -> dict[str, list[Turn]]:
    groups: dict[str, list[Turn]] = {}
    for name, turn in pairs:
        groups.setdefault(name, []).append(turn)
    return groups
