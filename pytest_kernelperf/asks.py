"""
What a test's options ask of one call: its timers with their limits, and its cache state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kernelperf.errors import OptionsError, TimerUnavailableError
from pytest_kernelperf.model import Limits

if TYPE_CHECKING:
    from pytest_kernelperf.measure import CallShape
    from pytest_kernelperf.options import Options


@dataclass(frozen=True, slots=True)
class Ask:
    """
    One timer and what is asked of its measurement.
    """

    timer: str
    limits: Limits


def asks_for(options: Options, timers: tuple[str, ...], per: float) -> tuple[Ask, ...]:
    """
    Distribute percentiles and targets over the timers.

    A device sample is a mean over many calls, so device gives P50 alone; what else is asked for
    comes from single launches, with a launch measurement added if no named timer gives it.
    A target belongs to the first named timer that gives its percentile.

    Args:
        options: The test's options.
        timers: The timers to use, in the order named.
        per: Items per call.
    """
    given = {timer: [q for q in options.percentiles if can_give(timer, q)] for timer in timers}
    orphans = [q for q in options.percentiles if not any(q in qs for qs in given.values())]
    if orphans:
        given["launch"] = orphans
    asks = []
    targets = dict(options.targets_us)
    for timer, percentiles in given.items():
        if not percentiles:
            continue
        limits = Limits(
            percentiles=tuple(percentiles),
            targets_us={q: targets.pop(q) for q in percentiles if q in targets},
            per=per,
            max_regression={
                q: options.max_regression[q] for q in percentiles if q in options.max_regression
            },
        )
        asks.append(Ask(timer, limits))
    refuse_pace(options, given)
    return tuple(asks)


def choose_timers(options: Options, device: str) -> tuple[str, ...]:
    """
    Return the timers that were named, or the one that suits the tensors' device.

    Raises:
        TimerUnavailableError: If a GPU's timer was named for tensors on the CPU.
    """
    if not options.timers:
        return ("wall",) if device == "cpu" else ("device",)
    unable = [timer for timer in options.timers if timer != "wall"] if device == "cpu" else []
    if unable:
        raise TimerUnavailableError(
            f"timer {unable[0]!r} times a GPU, and the arguments' tensors are on the CPU: move "
            "them to a CUDA device, or leave timer= out (then it follows the tensors)"
        )
    return options.timers


def timer_for(options: Options, device: str, percentiles: Iterable[float]) -> str:
    """
    Return the one timer that gives all percentiles: the first named one, or the default.

    Raises:
        TimerUnavailableError: If it can't give one of them.
    """
    timer = choose_timers(options, device)[0]
    beyond = [q for q in percentiles if not can_give(timer, q)]
    if not beyond:
        return timer
    if not options.timers:
        return "launch"
    raise TimerUnavailableError(
        f"timer {timer!r} can't give P{beyond[0]:g}, its samples are means over many calls: name "
        "timer='launch', or bound P50 only"
    )


def choose_l2(options: Options, shape: CallShape) -> str:
    """
    Return the cache state that is measured and recorded.

    Raises:
        OptionsError: If cold was asked for and no tensor can rotate.
    """
    can_rotate = shape.device != "cpu" and shape.footprint_bytes > 0
    if options.l2 == "cold" and not can_rotate:
        where = "are on the CPU" if shape.footprint_bytes else "hold no tensor"
        raise OptionsError(
            f"l2='cold' rotates copies of CUDA tensors, and the arguments {where}: leave l2= out, "
            "or pass the tensors as arguments"
        )
    return options.l2 or ("cold" if can_rotate else "warm")


def refuse_pace(options: Options, timers: Iterable[str]) -> None:
    """
    Refuse a pace that a timer does not have.

    Raises:
        OptionsError: If a timer would leave the card idle where a sustained pace was asked for.
    """
    unable = [timer for timer in timers if timer != "device"]
    if options.pace == "sustained" and unable:
        raise OptionsError(
            "pace='sustained' is measured by the device timer alone (CUDA tensors, P50), and "
            f"timer {unable[0]!r} is needed for what is asked: expected timer='device' and no "
            "percentile above 50, or pace='paced'"
        )


def can_give(timer: str, percentile: float) -> bool:
    """
    Return whether a timer measures a percentile: device samples are means, so only their middle.
    """
    return timer != "device" or percentile == 50
