"""
Runs a measurement's rounds one after the other, and says whose turn it is within them.

A round that the machine disturbed is taken again, a few times: what it measured is kept in the
record, as dropped on that evidence. What stays disturbed stays marked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic, sleep
from typing import TypeVar

from pytest_kernelperf.measure.plan import DEFAULT_MAX_TIME_S
from pytest_kernelperf.measure.subject import Job
from pytest_kernelperf.model import Discard, Problem, Round

_T = TypeVar("_T")

#: What one round found of each lane: its samples, and what is wrong with it.
RoundOf = Mapping[str, tuple[Round, Problem | None]]

#: Reasons of the samples of a round that was taken again.
ROUND_THROTTLED = "ROUND_THROTTLED"
ROUND_SHARED = "ROUND_SHARED"
_WHY = {
    ROUND_THROTTLED: "the driver reported a power, thermal or hardware limit",
    ROUND_SHARED: "another process computed on the card",
}

#: What takes the clock down, of the driver's reasons; the others are settings.
_POWER_CAP = "sw_power_cap"
_LIMITS = frozenset(
    {"hw_slowdown", "hw_power_brake", "hw_thermal_slowdown", "sw_thermal_slowdown", _POWER_CAP}
)
#: As many rounds again as this share of those wanted: a limit that stays is the kernel's own power.
_AGAIN_SHARE = 0.5
#: A card that is left alone for so long cools, and a neighbour may be done.
_REST_S = 0.1


@dataclass(frozen=True)
class Patience:
    """
    What counts as disturbed, and how long a measurement may go on taking rounds again.

    Attributes:
        limits: The driver's reasons that disturb a round.
        deadline_s: On the clock of `time.monotonic`.
    """

    limits: frozenset[str]
    deadline_s: float

    @classmethod
    def of(cls, job: Job) -> Patience:
        """
        Return the patience of a job that begins now.

        At a sustained pace the power cap is no disturbance: it is what is measured.
        """
        limits = _LIMITS - {_POWER_CAP} if job.case.pace == "sustained" else _LIMITS
        return cls(limits, monotonic() + (job.max_time_s or DEFAULT_MAX_TIME_S))

    def disturbance(self, taken: Round) -> str | None:
        """
        Return why a round should be taken again, or None.
        """
        if taken.foreign_processes:
            return ROUND_SHARED
        return ROUND_THROTTLED if self.limits & set(taken.throttle) else None


def run_rounds(
    names: Iterable[str],
    count: int,
    one_round: Callable[[], RoundOf],
    job: Job,
    progress: Callable[[str], None],
) -> dict[str, tuple[tuple[Round, ...], Problem | None]]:
    """
    Run rounds and gather them by lane.

    Args:
        names: The lanes' names.
        count: How many rounds.
        one_round: Runs one round of every lane.
        job: What is wanted.
        progress: Told before each round.

    Returns:
        Each lane's rounds and the problem of its last one. A problem of any lane ends all: what is
        wrong fails the test, and the others' times would be for nothing.
    """
    patience = Patience.of(job)
    taken: list[RoundOf] = []
    for number in range(count):
        progress(f"{job.case.timer} round {number + 1}/{count}")
        taken.append(one_round())
        if _is_wrong(taken[-1]):
            break
    else:
        taken = _undisturbed(taken, one_round, patience, progress)
    return {
        name: (tuple(each[name][0] for each in taken), _problem_of(name, taken)) for name in names
    }


def disturbances(rounds: Sequence[Round], job: Job) -> tuple[str, ...]:
    """
    Return notes on rounds that were taken again, and on those that stayed disturbed.
    """
    patience = Patience.of(job)
    notes = []
    for reason, why in _WHY.items():
        again = sum(any(d.reason == reason for d in each.discarded) for each in rounds)
        still = sum(patience.disturbance(each) == reason for each in rounds)
        if again or still:
            notes.append(
                f"{why}: {again} of {len(rounds)} rounds were taken again, {still} stay disturbed"
            )
    return tuple(notes)


def _undisturbed(
    taken: Sequence[RoundOf],
    one_round: Callable[[], RoundOf],
    patience: Patience,
    progress: Callable[[str], None],
) -> list[RoundOf]:
    """
    Take disturbed rounds again while there is time, the newest in the old one's place.
    """
    done: list[RoundOf] = []
    left = math.ceil(_AGAIN_SHARE * len(taken))
    for each in taken:
        while (why := _disturbance(each, patience)) and left and not _is_wrong(each):
            if monotonic() >= patience.deadline_s:
                break
            left -= 1
            progress(f"round again: {_WHY[why]}")
            sleep(_REST_S)
            each = _in_place_of(each, one_round(), why)
        done.append(each)
        if _is_wrong(each):
            break
    return done


def _disturbance(taken: RoundOf, patience: Patience) -> str | None:
    # Lanes are measured side by side: what disturbed one disturbed all.
    return next((why for one, _ in taken.values() if (why := patience.disturbance(one))), None)


def _in_place_of(disturbed: RoundOf, again: RoundOf, why: str) -> RoundOf:
    return {
        name: (
            replace(one, discarded=(*_dropped(disturbed[name][0], why), *one.discarded)),
            problem,
        )
        for name, (one, problem) in again.items()
    }


def _dropped(taken: Round, why: str) -> tuple[Discard, ...]:
    # One reading per sample, except for single launches.
    clocks = taken.clock_mhz if len(taken.clock_mhz) == len(taken.times_us) else ()
    pairs = zip(taken.times_us, clocks or [None] * len(taken.times_us), strict=True)
    return (*taken.discarded, *(Discard(why, time_us, mhz) for time_us, mhz in pairs))


def _is_wrong(taken: RoundOf) -> bool:
    return any(problem for _, problem in taken.values())


def _problem_of(name: str, taken: Sequence[RoundOf]) -> Problem | None:
    return taken[-1][name][1] if taken else None


def in_turn(items: Sequence[_T], turn: int) -> Iterator[_T]:
    """
    Yield all items there and back, starting one later after each two turns.

    So each goes first equally often, and none always follows the same other: what one leaves
    behind (caches, heat) would become part of its follower's time.
    """
    start = turn // 2 % len(items)
    ordered = (*items[start:], *items[:start])
    yield from ordered[::-1] if turn % 2 else ordered
