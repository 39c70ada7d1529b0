"""
Keeps account of the time that a run spends in fresh processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Budget:
    """
    What a run may spend in fresh processes, and what it has spent.

    Args:
        limit_s: The most; None = no limit.
        clock: Seconds from any start.
    """

    def __init__(self, limit_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._spent_s = 0.0

    @property
    def is_spent(self) -> bool:
        """
        Whether there is nothing left; what was begun before is always finished.
        """
        return self._limit_s is not None and self._spent_s >= self._limit_s

    @contextmanager
    def spending(self) -> Iterator[None]:
        """
        Count the time until the end of the block, also of one that fails.
        """
        began = self._clock()
        try:
            yield
        finally:
            self._spent_s += self._clock() - began

    def note(self, judged_from: str) -> str:
        """
        Return what a record says that would have got more processes.

        Args:
            judged_from: What it is judged from, such as "3 pairs".
        """
        return (
            f"the run's {self._limit_s:g} s for fresh processes (kernelperf_budget) are spent: "
            f"judged from {judged_from}; give it more time, or run this test alone"
        )
