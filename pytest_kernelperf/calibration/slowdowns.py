"""
Real slowdowns of a wanted size: ways to make a callable slower, and the search for the amount.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pytest_kernelperf.model import Interval, Plan

#: One extra launch in a captured graph costs about this before its spin begins (H100).
_LAUNCH_US = 1.3
#: An extra launch shorter than this is mostly launch, and can't be dialled.
_LEAST_LAUNCH_US = 2.0
_CYCLES_PER_US = 1980.0
#: An amount whose measured size is this close to the wanted one (relative) is taken.
_CLOSE = 0.12
_ATTEMPTS = 4
#: One step of the search changes the amount by no more than this factor: one measurement is noisy.
_LONGEST_STEP = 4.0

Measured = tuple[float, Interval]


@dataclass(frozen=True)
class Dialled:
    """
    A callable that takes a number by which it does more work, in the same code.

    Attributes:
        launch: Called with the arguments and then the amount.
        way: What the amount adds, for people.
        share: What one unit is thought to cost, as a fraction of the call's time.
    """

    launch: Callable[..., Any]
    way: str
    share: float
    amount: int = 0

    def __call__(self, *args: Any) -> Any:
        """
        Run it with the amount that it holds: 0 unless it was slowed.
        """
        return self.launch(*args, self.amount)


@dataclass(frozen=True)
class Way:
    """
    One way to make one callable slower.

    Attributes:
        name: What is added, for people.
        slowed: Returns the slower callable for an amount.
        share: As in `Dialled`.
        fixed: What any amount costs besides, as a fraction.
    """

    name: str
    slowed: Callable[[int], Callable[..., Any]]
    share: float
    fixed: float = 0.0


@dataclass(frozen=True, slots=True)
class Dialling:
    """
    An amount that was found, and how much slower it is by interleaved comparison.
    """

    size: float
    way: str
    amount: int
    measured: float
    low: float
    high: float


class ExtraLaunches:
    """
    Calls a function and, spread evenly over so many calls, launches extra kernels after it.

    Any `calls` calls in a row hold exactly `launches` extra ones, wherever they begin: each sample
    is slowed by the same amount.

    Args:
        fn: The callable.
        cycles: Length of one extra kernel, clock cycles.
        launches: Extra launches in `calls` calls.
        calls: Calls of one sample.
    """

    def __init__(self, fn: Callable[..., Any], cycles: int, launches: int, calls: int) -> None:
        functools.update_wrapper(self, fn)
        self._fn = fn
        self._cycles = cycles
        self._launches = launches
        self._calls = calls
        self._turn = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """
        Call the function, and launch the extra kernel where it is this call's turn.
        """
        output = self._fn(*args, **kwargs)
        before = self._turn * self._launches // self._calls
        self._turn += 1
        if self._turn * self._launches // self._calls > before:
            _spin(self._cycles)
        return output


def ways_for(
    fn: Callable[..., Any], timer: str, plan: Plan, time_us: float, size: float, *, on_gpu: bool
) -> tuple[Way, ...]:
    """
    Return the ways to slow a callable by about a size, the best first; none if it is too small.

    A kernel's own dial comes first. It may be too coarse: one more block of a kernel that fills the
    card once makes no difference, or all of it.

    Args:
        fn: What is measured.
        timer: "device", "launch" or "wall".
        plan: Of its measurement.
        time_us: Of one call.
        size: The wanted slowdown as a fraction.
        on_gpu: Whether it works on a GPU.
    """
    if not on_gpu:
        share = _loop_us() / time_us
        return (Way("extra host work", lambda amount: _with_loop(fn, amount), share),)
    calls = plan.calls_per_sample if timer == "device" else 1
    launches = _extra_launches(fn, calls, time_us, size)
    own: tuple[Way, ...] = ()
    if isinstance(fn, Dialled):
        own = (Way(fn.way, lambda amount: replace(fn, amount=amount), fn.share),)
    return (*own, *launches)


def dial(way: Way, size: float, measure: Callable[[Callable[..., Any]], Measured]) -> Dialling:
    """
    Find the amount for a size by measuring, correcting, and measuring again.

    Args:
        way: How to slow.
        size: The wanted slowdown as a fraction.
        measure: Compares a slowed callable with the unslowed one, interleaved.

    Returns:
        The attempt that came nearest.
    """
    amount = max(1, round((size - way.fixed) / way.share))
    tried: list[Dialling] = []
    for _ in range(_ATTEMPTS):
        measured, interval = measure(way.slowed(amount))
        tried.append(Dialling(size, way.name, amount, measured, interval.low, interval.high))
        if abs(measured - size) <= _CLOSE * size:
            break
        amount = _corrected(way, amount, measured, size)
        if amount in [each.amount for each in tried]:
            break
    return min(tried, key=lambda each: abs(each.measured - size))


def is_near(dialling: Dialling) -> bool:
    """
    Return whether a dialled slowdown may stand for its size.
    """
    off = abs(dialling.measured - dialling.size)
    return off <= 2 * _CLOSE * dialling.size or dialling.low <= dialling.size <= dialling.high


def _corrected(way: Way, amount: int, measured: float, size: float) -> int:
    if way.fixed:
        return max(1, round(amount + (size - measured) / way.share))
    if measured <= 0:
        return round(_LONGEST_STEP * amount)
    step = min(max(size / measured, 1 / _LONGEST_STEP), _LONGEST_STEP)
    return max(1, round(amount * step))


def _extra_launches(
    fn: Callable[..., Any], calls: int, time_us: float, size: float
) -> tuple[Way, ...]:
    extra_us = size * time_us * calls
    if extra_us < _LEAST_LAUNCH_US:
        return ()
    launches = min(calls, max(1, int(extra_us / (2 * _LEAST_LAUNCH_US))))
    per_call = launches / (calls * time_us)
    where = "" if launches == calls else f" in {launches} of {calls} calls"
    return (
        Way(
            f"an extra launch{where}",
            lambda cycles: ExtraLaunches(fn, cycles, launches, calls),
            per_call / _CYCLES_PER_US,
            per_call * _LAUNCH_US,
        ),
    )


def _spin(cycles: int) -> None:
    import torch

    torch.cuda._sleep(cycles)


def _with_loop(fn: Callable[..., Any], amount: int) -> Callable[..., Any]:
    @functools.wraps(fn)
    def slowed(*args: Any, **kwargs: Any) -> Any:
        output = fn(*args, **kwargs)
        for _ in range(amount):
            pass
        return output

    return slowed


@functools.cache
def _loop_us() -> float:
    """
    Return what one turn of an empty loop costs on this machine, microseconds.
    """
    turns = 200_000
    begin = time.perf_counter()
    for _ in range(turns):
        pass
    return 1e6 * (time.perf_counter() - begin) / turns
