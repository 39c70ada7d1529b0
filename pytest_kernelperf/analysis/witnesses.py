"""
Which of the candidate's processes speak for a change, each by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pytest_kernelperf.analysis.looks import enough_agree
from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.analysis.scatter import ProcessLogs


def agreeing(
    candidate: Sequence[ProcessLogs],
    baseline_us: float,
    change: float,
    beyond: float,
    explained: Sequence[float] = (),
) -> int:
    """
    Return how many processes lie so far off by themselves, on the side of the change.

    Their own estimate must, and so must most of their rounds: a single round beside other load is
    enough to carry the mean of all, and tells nothing of the kernel.

    Args:
        candidate: Each with at least one round; log µs.
        baseline_us: What they are compared with.
        change: The one seen over all, relative; its sign says which side.
        beyond: How far off is enough, 0.03 = 3 %.
        explained: How much of each one's slowdown is not the kernel's, on log scale; none if empty.
    """
    usual = math.log(baseline_us)
    side = math.copysign(1.0, change)
    others = explained or [0.0] * len(candidate)
    return sum(
        _is_witness(each, usual + other, side, beyond)
        for each, other in zip(candidate, others, strict=True)
    )


def clocks_excuse(agree: int, slow: int, processes: int) -> Reason | None:
    """
    Return CLOCK_MOVED where enough processes are slow, but too few more than their clocks explain.

    Over all of them a clock that fell in some has hardly moved: with one odd process of another
    kind beside them they would look like a slower kernel.

    Args:
        agree: Those that are slow beyond what their own clocks explain.
        slow: Those that are slow.
        processes: All.
    """
    moved = enough_agree(slow, processes) and not enough_agree(agree, processes)
    return Reason.CLOCK_MOVED if moved else None


def _is_witness(process: ProcessLogs, usual: float, side: float, beyond: float) -> bool:
    rounds = side * np.expm1(process.rounds - usual) > beyond
    mean = side * math.expm1(process.mean - usual) > beyond
    return bool(mean and 2 * np.count_nonzero(rounds) > rounds.size)
