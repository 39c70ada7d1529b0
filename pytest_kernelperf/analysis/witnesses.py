"""
Which of the candidate's processes speak for a change, each by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pytest_kernelperf.analysis.scatter import ProcessLogs


def agreeing(
    candidate: Sequence[ProcessLogs], baseline_us: float, change: float, beyond: float
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
    """
    usual = math.log(baseline_us)
    side = math.copysign(1.0, change)
    return sum(_is_witness(each, usual, side, beyond) for each in candidate)


def _is_witness(process: ProcessLogs, usual: float, side: float, beyond: float) -> bool:
    rounds = side * np.expm1(process.rounds - usual) > beyond
    mean = side * math.expm1(process.mean - usual) > beyond
    return bool(mean and 2 * np.count_nonzero(rounds) > rounds.size)
