"""
What the device's own clock can tell apart: its tick, and what it reads when nothing happens.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from pytest_kernelperf.measure.card import Card, card_for

#: Spins that differ by less than a tick (37 cycles are 19 ns at 1.98 GHz; the tick is 32 ns on
#: H100).
_SPINS = 64
_FIRST_CYCLES, _STEP_CYCLES = 2000, 37
#: Below a nanosecond, a difference is the rounding of `elapsed_time`'s 32-bit milliseconds.
_FLOOR_US = 1e-3


def smallest_step_us(intervals_us: Sequence[float]) -> float:
    """
    Return the smallest positive gap between dithered intervals: the clock's tick.

    Returns:
        Microseconds, rounded to 0.1 ns; 0.0 if all intervals are equal.
    """
    ordered = sorted(intervals_us)
    gaps = [high - low for low, high in pairwise(ordered)]
    return round(min((gap for gap in gaps if gap > _FLOOR_US), default=0.0), 4)


@functools.cache
def probe_timer(device_index: int) -> tuple[float, float]:
    """
    Return the event clock's tick and what an empty interval reads, both µs; once per process.
    """
    import torch

    card = card_for(device_index)
    marks = [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        for _ in range(_SPINS)
    ]
    empty = _intervals_us(card, marks, spin=False)
    spun = _intervals_us(card, marks, spin=True)
    return smallest_step_us([*empty, *spun]), round(median(empty), 4)


def _intervals_us(card: Card, marks: Sequence[tuple[Any, Any]], *, spin: bool) -> list[float]:
    def run() -> None:
        for index, (begin, end) in enumerate(marks):
            begin.record()
            if spin:
                card.spin(_FIRST_CYCLES + index * _STEP_CYCLES)
            end.record()

    shoot = card.shoot if card.blocker else card.shoot_unblocked
    # Twice: the first run creates the events.
    card.warm(run, flush=False)
    shoot(run, len(marks), flush=False)
    return [begin.elapsed_time(end) * 1e3 for begin, end in marks]
