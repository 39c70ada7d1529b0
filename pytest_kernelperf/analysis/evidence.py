"""
Evidence beside the times: what else happened while the candidate was slow.

A slowdown that the clock, the power cap or a neighbour explains is no news about the kernel. These
functions only ever excuse a slowdown; none can turn a verdict into a failure.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.model import Process, Round

# Compute-bound kernels follow the clock with slope -1, memory-bound ones with 0 (docs/verdicts.md).
# Half and more is the clock's doing.
_CLOCK_SHARE = 0.5
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
        clock_mhz, baseline_clock_mhz: Medians of the canary's readings; None without any.
        throttled, baseline_throttled: Shares of rounds with a power or hardware reason.
        throttle_names: The candidate's, sorted.
        foreign_rounds: Candidate rounds with more foreign processes than any baseline round had.
        rounds: Candidate rounds.
    """

    clock_mhz: float | None = None
    baseline_clock_mhz: float | None = None
    throttled: float = 0.0
    baseline_throttled: float = 0.0
    throttle_names: tuple[str, ...] = ()
    foreign_rounds: int = 0
    rounds: int = 0


def gather(candidate: Sequence[Process], baseline: Sequence[Process]) -> Circumstances:
    """
    Summarise the evidence of both sides' rounds; an empty baseline is one without any incident.
    """
    now, before = _rounds(candidate), _rounds(baseline)
    usual = max((each.foreign_processes for each in before), default=0)
    return Circumstances(
        clock_mhz=_median_clock(candidate),
        baseline_clock_mhz=_median_clock(baseline),
        throttled=_throttled_share(now),
        baseline_throttled=_throttled_share(before),
        throttle_names=tuple(sorted({name for each in now for name in _throttles(each)})),
        foreign_rounds=sum(each.foreign_processes > usual for each in now),
        rounds=len(now),
    )


def excuse(seen: Circumstances, relative_change: float) -> Reason | None:
    """
    Return what explains a slowdown other than the kernel; None if nothing does.

    Args:
        seen: From `gather`.
        relative_change: 0.03 = 3 % slower; nothing excuses a speed-up.
    """
    slowdown = math.log1p(relative_change)
    if slowdown <= 0:
        return None
    if clock_drop(seen) >= _CLOCK_SHARE * slowdown:
        return Reason.CLOCK_MOVED
    throttled_more = seen.throttled - seen.baseline_throttled >= _THROTTLED_SHARE
    if throttled_more and slowdown <= _MOST_THROTTLING:
        return Reason.THROTTLED
    return Reason.FOREIGN_PROCESS if seen.foreign_rounds else None


def clock_drop(seen: Circumstances) -> float:
    """
    Return by how much the candidate's clock was below the baseline's, on log scale; 0.0 if unknown.
    """
    if not seen.clock_mhz or not seen.baseline_clock_mhz:
        return 0.0
    return math.log(seen.baseline_clock_mhz / seen.clock_mhz)


def _rounds(processes: Sequence[Process]) -> list[Round]:
    return [each for process in processes for each in process.rounds]


def _median_clock(processes: Sequence[Process]) -> float | None:
    """
    Return the median over processes of the median over rounds, so that no side's length counts.
    """
    medians = []
    for process in processes:
        rounds = [statistics.median(each.clock_mhz) for each in process.rounds if each.clock_mhz]
        if rounds:
            medians.append(statistics.median(rounds))
    return statistics.median(medians) if medians else None


def _throttles(taken: Round) -> list[str]:
    return [name for name in taken.throttle if name.upper().startswith(_THROTTLE_NAMES)]


def _throttled_share(rounds: Sequence[Round]) -> float:
    return sum(bool(_throttles(each)) for each in rounds) / len(rounds) if rounds else 0.0
