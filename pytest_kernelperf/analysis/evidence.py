"""
Evidence beside the times: what else happened while the candidate was slow.

A slowdown that the clocks, the power cap or a neighbour explain is no news about the kernel. These
functions only ever excuse a slowdown, or the part of it that they explain; none can turn a verdict
into a failure.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.analysis.sensitivity import most_that_time_follows
from pytest_kernelperf.model import Process, Round

# Canaries of two processes read up to 1.3 % apart at one and the same clock (docs/verdicts.md): a
# smaller difference between runs is no evidence, and a larger one may be so much larger in truth.
CLOCK_GRAIN = 0.015
# The memory clock is told by the driver and steps by far more than this.
_MEMORY_CLOCK_GRAIN = 0.001
# Power cap and hardware slowdowns were seen in 28 of 252 quiet paced rounds: a few are nothing.
_THROTTLED_SHARE = 1 / 3
# The cap takes the clock from 1980 down to 1375 MHz at most (docs/verdicts.md): it explains no more
# than this.
_MOST_THROTTLING = math.log(1980 / 1375)
_THROTTLE_NAMES = ("SW_POWER_CAP", "HW_", "SW_THERMAL")


@dataclass(frozen=True)
class Circumstances:
    """
    What happened around both sides' rounds.

    Attributes:
        clock_mhz, baseline_clock_mhz: SM clocks of one kind (canary, else the driver's), means over
            processes and rounds; None without any.
        memory_mhz, baseline_memory_mhz: Memory clocks, likewise.
        follows: The most that the candidate's times follow its SM clock, 0 to 1.
        throttled, baseline_throttled: Shares of rounds with a power or hardware reason.
        throttle_names: The candidate's, sorted.
        foreign_rounds: Candidate rounds with more foreign processes than are usual.
        rounds: Candidate rounds.
    """

    clock_mhz: float | None = None
    baseline_clock_mhz: float | None = None
    memory_mhz: float | None = None
    baseline_memory_mhz: float | None = None
    follows: float = 1.0
    throttled: float = 0.0
    baseline_throttled: float = 0.0
    throttle_names: tuple[str, ...] = ()
    foreign_rounds: int = 0
    rounds: int = 0


def gather(
    candidate: Sequence[Process], baseline: Sequence[Process], *, habits: bool = True
) -> Circumstances:
    """
    Summarise the evidence of both sides' rounds; an empty baseline is one without any incident.

    Args:
        candidate: What is judged.
        baseline: What it is compared with.
        habits: Whether a machine's usual neighbours are known from the baseline, and no news.
    """
    now, before = _rounds(candidate), _rounds(baseline)
    # What most baseline rounds lived with: a single disturbed one must not end the excuse.
    lived_with = [each.foreign_processes for each in before if habits]
    usual = statistics.median_low(lived_with or [0])
    clock, baseline_clock = _sm_clocks(candidate, baseline)
    return Circumstances(
        clock_mhz=clock,
        baseline_clock_mhz=baseline_clock,
        memory_mhz=_mean_clock(candidate, _memory_clock),
        baseline_memory_mhz=_mean_clock(baseline, _memory_clock),
        follows=most_that_time_follows(candidate),
        throttled=_throttled_share(now),
        baseline_throttled=_throttled_share(before),
        throttle_names=tuple(sorted({name for each in now for name in _throttles(each)})),
        foreign_rounds=sum(each.foreign_processes > usual for each in now),
        rounds=len(now),
    )


def excuse(seen: Circumstances, slower: float, margin: float) -> Reason | None:
    """
    Return what explains that a slowdown is above the margin; None if nothing does.

    Only what the evidence can explain is taken off: if the rest is still above the margin, the
    kernel is slower whatever the clock did.

    Args:
        seen: From `gather`.
        slower: The least slowdown that the data allow, 0.03 = 3 %: the interval's lower end.
        margin: The slowdown that is too much.
    """
    unexplained = math.log1p(slower) - math.log1p(margin)
    if unexplained <= 0:
        return None
    if explained_by_clocks(seen) >= unexplained:
        return Reason.CLOCK_MOVED
    throttled_more = seen.throttled - seen.baseline_throttled >= _THROTTLED_SHARE
    if throttled_more and unexplained <= _explained_by_throttling(seen):
        return Reason.THROTTLED
    return Reason.FOREIGN_PROCESS if seen.foreign_rounds else None


def explained_by_clocks(seen: Circumstances) -> float:
    """
    Return how much slowdown fallen clocks explain at most, on log scale; 0.0 if none fell.

    A kernel bound by one clock slows by that clock's ratio, one bound by both by something between
    the two: so by the larger at most.
    """
    return _explained(seen, CLOCK_GRAIN)


def explained_alone(process: Process, baseline: Sequence[Process]) -> float:
    """
    Return how much of one process's slowdown its own fallen clocks explain, on log scale.

    What its canary may be off by is not added: it takes three processes to call a kernel slower,
    and that many errors are not on one side.
    """
    return _explained(gather([process], baseline), 0.0)


def _explained(seen: Circumstances, error: float) -> float:
    core = clock_drop(seen)
    memory = _drop(seen.memory_mhz, seen.baseline_memory_mhz)
    return max(
        (core + error) * seen.follows if core >= CLOCK_GRAIN else 0.0,
        memory if memory >= _MEMORY_CLOCK_GRAIN else 0.0,
    )


def clock_drop(seen: Circumstances) -> float:
    """
    Return by how much the candidate's SM clock was below the baseline's, on log scale.
    """
    return _drop(seen.clock_mhz, seen.baseline_clock_mhz)


def _explained_by_throttling(seen: Circumstances) -> float:
    """
    Return how much slowdown a reported limit explains.

    Where the clock was read, as much as it says, its bias included: a limit that the canaries
    beside the samples did not feel slowed nothing.
    """
    if not seen.clock_mhz or not seen.baseline_clock_mhz:
        return _MOST_THROTTLING
    return max(clock_drop(seen), 0.0) + CLOCK_GRAIN


def _drop(now_mhz: float | None, before_mhz: float | None) -> float:
    return math.log(before_mhz / now_mhz) if now_mhz and before_mhz else 0.0


def _rounds(processes: Sequence[Process]) -> list[Round]:
    return [each for process in processes for each in process.rounds]


def _sm_clocks(
    candidate: Sequence[Process], baseline: Sequence[Process]
) -> tuple[float | None, float | None]:
    """
    Return both sides' SM clocks, of the better kind that both have: kinds are never compared.
    """
    canaries = _mean_clock(candidate, _canary), _mean_clock(baseline, _canary)
    if all(canaries) or any(canaries):
        return canaries
    return _mean_clock(candidate, _driver_clock), _mean_clock(baseline, _driver_clock)


def _canary(taken: Round) -> float | None:
    return statistics.median(taken.clock_mhz) if taken.clock_mhz else None


def _driver_clock(taken: Round) -> float | None:
    return taken.nvml_clock_mhz


def _memory_clock(taken: Round) -> float | None:
    return taken.memory_clock_mhz


def _mean_clock(
    processes: Sequence[Process], clock_of: Callable[[Round], float | None]
) -> float | None:
    """
    Return the geometric mean over processes of that over rounds, which is how times are averaged.
    """
    means = []
    for process in processes:
        clocks = [clock for each in process.rounds if (clock := clock_of(each))]
        if clocks:
            means.append(statistics.geometric_mean(clocks))
    return statistics.geometric_mean(means) if means else None


def _throttles(taken: Round) -> list[str]:
    return [name for name in taken.throttle if name.upper().startswith(_THROTTLE_NAMES)]


def _throttled_share(rounds: Sequence[Round]) -> float:
    return sum(bool(_throttles(each)) for each in rounds) / len(rounds) if rounds else 0.0
