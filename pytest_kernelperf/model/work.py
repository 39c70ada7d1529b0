"""
What one call does, and how far its card's limits let it go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Peaks:
    """
    What a card can't exceed: units times clock, width times clock. None where that is not known.

    Attributes:
        tflops: Dense 16-bit matrix operations at the highest clock, 10^12 a second.
        gbs: Memory bandwidth, 10^9 bytes a second.
        narrowest_tflops: As `tflops`, in the fastest format that it has.
    """

    tflops: float | None = None
    gbs: float | None = None
    narrowest_tflops: float | None = None


@dataclass(frozen=True, slots=True)
class Ceilings:
    """
    What a card reached when it was asked to (`kernelperf doctor --ceilings`).

    Attributes:
        copy_gbs: Bytes read plus bytes written by a large copy, 10^9 a second.
        matmul_tflops: Dtype of the inputs to 10^12 operations a second in a large product.
        empty_kernel_us: GPU time of a kernel that does nothing, one after the other in a graph.
        taken: Day, ISO 8601.
        versions: Of torch, CUDA and driver.
    """

    copy_gbs: float
    matmul_tflops: Mapping[str, float]
    empty_kernel_us: float
    taken: str
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """
    What one call does at least, as its test counts it, and the card's limits that it is held to.

    Attributes:
        flops: Floating-point operations.
        moved_bytes: Bytes read plus bytes written, each once.
        cold_bytes: How many of them a cold call must fetch from memory; 0.0 if inputs are warm.
        operands: Dtypes that it multiplies in; None if that can't be seen.
        peaks: What the card can't exceed; None where there is no card.
        ceilings: What it reached; None if nobody measured it.
    """

    flops: float | None = None
    moved_bytes: float | None = None
    cold_bytes: float = 0.0
    operands: tuple[str, ...] | None = None
    peaks: Peaks | None = None
    ceilings: Ceilings | None = None


@dataclass(frozen=True, slots=True)
class Roofline:
    """
    How much of its card's limit a measured call uses.

    Attributes:
        tflops: 10^12 operations a second; None if nobody counted them.
        gbs: 10^9 bytes a second.
        limit: The one that binds: "compute", "memory" or "launch"; "" if none is known.
        share: The least time that this limit allows, over the measured time.
        against: "measured" ceilings, "theoretical" peaks, or "".
    """

    tflops: float | None = None
    gbs: float | None = None
    limit: str = ""
    share: float | None = None
    against: str = ""
