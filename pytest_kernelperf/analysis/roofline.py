"""
What a call's counted work says about its time: rates, the limit that binds, the physical floor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_kernelperf.analysis.percentiles import MEDIAN, percentile_us
from pytest_kernelperf.model import Measurement, Peaks, Plan, Problem, Roofline, Work

COMPUTE, MEMORY, LAUNCH = "compute", "memory", "launch"
MEASURED, THEORETICAL = "measured", "theoretical"

# Peaks are stated for 16-bit numbers. FP8 goes at most twice as fast. What is not listed here may
# hold numbers that are narrower still (FP4 and INT4 come packed in bytes), and goes as fast as the
# card's fastest products; where those are not known, by as much as any card's.
_WIDE = ("float16", "bfloat16", "float32", "float64", "complex", "int16", "int32", "int64", "bool")
_FP8, _FP8_FACTOR = "float8", 2.0
_NARROWEST_FACTOR = 6.0
# Rotating input sets are twice the L2; a cache with random replacement keeps a fifth of what is
# read in turn (h = exp(-2(1 - h))). So cold bytes may arrive at up to a quarter more than the
# memory's rate.
_L2_KEEPS = 1.25
# The clock's own reading, and a boost step above the highest that the driver states.
_CLOCK = 1.02
# Where only measured ceilings are known: a good kernel beats a copy or a library's product, which
# reaches two thirds of the peak, but not by half.
_ABOVE_CEILING = 1.5


@dataclass(frozen=True)
class Rates:
    """
    A card's limits as rates; None where not known.

    Attributes:
        tflops: Operations, 10^12 a second.
        gbs: Bytes, 10^9 a second.
        launch_us: Least time of any kernel.
        against: "measured", "theoretical", or "" if nothing is known.
    """

    tflops: float | None = None
    gbs: float | None = None
    launch_us: float | None = None
    against: str = ""


def rates_of(work: Work, inputs: tuple[str, ...]) -> Rates:
    """
    Return the limits that a call's shares refer to: ceilings if they were measured, else peaks.

    Args:
        work: With the card's limits.
        inputs: `Case.inputs`: their dtype chooses among the products' rates.
    """
    if work.ceilings is not None:
        rate = work.ceilings.matmul_tflops.get(product_dtype(work.ceilings.matmul_tflops, inputs))
        return Rates(rate, work.ceilings.copy_gbs, work.ceilings.empty_kernel_us, MEASURED)
    peaks = work.peaks
    if peaks is None or (peaks.tflops is None and peaks.gbs is None):
        return Rates()
    return Rates(peaks.tflops, peaks.gbs, None, THEORETICAL)


def product_dtype(tflops: Mapping[str, float], inputs: tuple[str, ...]) -> str:
    """
    Return which of the measured products a call is held to.

    That of its first input whose dtype was measured; else the fastest, which flatters nobody.
    """
    for line in inputs:
        if (dtype := dtype_of(line)) in tflops:
            return dtype
    return max(tflops, key=lambda name: tflops[name], default="")


def dtype_of(line: str) -> str:
    """
    Return the dtype that a line of `Case.inputs` begins with.
    """
    return line.partition("[")[0]


def roofline(work: Work, inputs: tuple[str, ...], timer: str, time_us: float) -> Roofline:
    """
    Return the rates that a call reached, and its share of the limit that binds.

    Args:
        work: What the call does, and the card's limits.
        inputs: `Case.inputs`.
        timer: An empty kernel's time is no limit for "wall", which waits for the host as well.
        time_us: Of one call.

    Source:
        Williams, Waterman & Patterson (2009), Roofline: an insightful visual performance model for
        multicore architectures.
    """
    rates = rates_of(work, inputs)
    least_us = {
        COMPUTE: _least_us(work.flops, rates.tflops, 1e6),
        MEMORY: _least_us(work.moved_bytes, rates.gbs, 1e3),
        LAUNCH: (rates.launch_us or 0.0) if timer != "wall" else 0.0,
    }
    limit = max(least_us, key=lambda name: least_us[name])
    known = least_us[limit] > 0.0
    return Roofline(
        tflops=work.flops / time_us * 1e-6 if work.flops else None,
        gbs=work.moved_bytes / time_us * 1e-3 if work.moved_bytes else None,
        limit=limit if known else "",
        share=least_us[limit] / time_us if known else None,
        against=rates.against if known else "",
    )


def physics_problem(measurement: Measurement) -> Problem | None:
    """
    Return why a measurement can't be true: its P50 lies below what its card could do at best.
    """
    work = measurement.work
    if work is None or not measurement.has_samples:
        return None
    time_us = percentile_us(measurement.processes, MEDIAN)
    floors = {
        COMPUTE: _compute_floor_us(work),
        MEMORY: _memory_floor_us(work, measurement),
    }
    limit = max(floors, key=lambda name: floors[name])
    if time_us >= floors[limit]:
        return None
    counted = (
        f"flops= counts {work.flops:.4g} operations ({_held_to(work)})"
        if limit == COMPUTE
        else f"bytes= counts {work.moved_bytes:.4g} bytes"
    )
    return Problem(
        "FASTER_THAN_PHYSICS",
        f"a call took {time_us:.4g} µs, and {counted}, for which this card needs at least "
        f"{floors[limit]:.4g} µs; expected a time above that: look for work that is skipped, "
        "cached or not finished when the clock stops, and at what is counted (one call, each byte "
        "once)",
    )


def _compute_floor_us(work: Work) -> float:
    peaks = work.peaks or Peaks()
    if peaks.tflops is not None:
        rate = peaks.tflops * _narrowness(work.operands)
        return _least_us(work.flops, min(rate, peaks.narrowest_tflops or rate) * _CLOCK, 1e6)
    if work.ceilings is not None:
        best = max(work.ceilings.matmul_tflops.values(), default=0.0)
        return _least_us(work.flops, best * _narrowness(work.operands) * _ABOVE_CEILING, 1e6)
    return 0.0


def _held_to(work: Work) -> str:
    """
    Return which products a call is held to, and why.
    """
    if work.operands is None:
        return (
            "held to the card's fastest products of any number format, since what the callable "
            "multiplies in can't be seen"
        )
    speed = {1.0: "16-bit", _FP8_FACTOR: "FP8"}.get(_narrowness(work.operands), "its fastest")
    dtypes = ", ".join(work.operands) or "no tensor"
    return f"held to {speed} products, since it multiplies {dtypes}"


def _memory_floor_us(work: Work, measurement: Measurement) -> float:
    peak = work.peaks.gbs if work.peaks else None
    if peak is None and work.ceilings is not None:
        peak = work.ceilings.copy_gbs * _ABOVE_CEILING
    gpu = measurement.processes[0].environment.gpu
    if peak is None or gpu is None:
        return 0.0
    fetched = _fetched_bytes(work.cold_bytes, measurement.plan, gpu.l2_bytes)
    return _least_us(fetched, peak * _L2_KEEPS, 1e3)


def _fetched_bytes(cold_bytes: float, plan: Plan, l2_bytes: int) -> float:
    """
    Return how many bytes of a mean call must have come from memory.

    A burst may find one L2 full of them. Input sets that fit into the L2 are cold the first time
    only: the cache is flushed before the burst, not within it.
    """
    if plan.input_sets * cold_bytes < 2 * l2_bytes:
        return cold_bytes * min(plan.input_sets / plan.burst, 1.0)
    return max(cold_bytes - l2_bytes / plan.burst, 0.0)


def _narrowness(operands: tuple[str, ...] | None) -> float:
    if operands is None:
        return _NARROWEST_FACTOR
    narrow = [dtype for dtype in operands if not dtype.startswith(_WIDE)]
    if all(dtype.startswith(_FP8) for dtype in narrow):
        return _FP8_FACTOR if narrow else 1.0
    return _NARROWEST_FACTOR


def _least_us(amount: float | None, rate: float | None, per_us: float) -> float:
    return amount / (rate * per_us) if amount and rate else 0.0
