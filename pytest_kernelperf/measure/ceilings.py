"""
A card's limits: what it can't exceed by its data, and what it reaches when asked to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from statistics import median
from typing import Any

from pytest_kernelperf.measure.canary import sift
from pytest_kernelperf.measure.card import Card, card_for, rest
from pytest_kernelperf.measure.environment import environment
from pytest_kernelperf.measure.graph import capture, warm_side_stream
from pytest_kernelperf.measure.nvml import nvml_card
from pytest_kernelperf.model import Ceilings, Peaks

#: Dense 16-bit matrix operations per SM and clock, with the faster accumulation, from the vendor's
#: peak figures over SMs and boost clock. A capability that is not here has no known peak.
_OPERATIONS_PER_CLOCK = {
    (7, 0): 1024,
    (7, 5): 1024,
    (8, 0): 2048,
    (8, 6): 1024,
    (8, 9): 1024,
    (9, 0): 4096,
    (10, 0): 8192,
    (10, 3): 8192,
    (12, 0): 1024,
}
#: How many times as many it does in the narrowest numbers that it multiplies: integers of 8 or 4
#: bits, FP8, FP4. One-bit logic is no multiplication.
_NARROWEST = {
    (7, 0): 1,
    (7, 5): 4,
    (8, 0): 4,
    (8, 6): 4,
    (8, 9): 4,
    (9, 0): 2,
    (10, 0): 4,
    (10, 3): 6,
    (12, 0): 4,
}

_SAMPLES = 20
_WARM_UPS = 3
#: The first graphs of a process run their kernels closer together than all later ones (trial.py).
_SETTLING_GRAPHS = 4
#: A product of full size draws all the power there is; longer gaps keep its clock up.
_GAP_US, _HOT_GAP_US = 2000.0, 10_000.0
#: Ten times the L2 of any card so far, so what it holds of a copy hardly counts.
_COPY_BYTES = 512 * 2**20
_COPIES = 2
_PRODUCT_ROWS, _LEAST_ROWS = 8192, 1024
_EMPTY_KERNELS = 200
#: Of the free memory that the buffers of one ceiling may take.
_MEMORY_SHARE = 0.5


def peaks(index: int) -> Peaks:
    """
    Return what a card can't exceed, from what driver and torch state about it.
    """
    import torch

    properties: Any = torch.cuda.get_device_properties(index)
    nvml = nvml_card(index)
    clock_mhz = nvml.facts().max_sm_clock_mhz or getattr(properties, "clock_rate", 0) * 1e-3
    capability = (properties.major, properties.minor)
    operations = _OPERATIONS_PER_CLOCK.get(capability, 0)
    tflops = round(properties.multi_processor_count * clock_mhz * operations * 1e-6, 1)
    return Peaks(
        tflops=tflops or None,
        gbs=nvml.memory_peak_gbs(),
        narrowest_tflops=tflops * _NARROWEST.get(capability, 0) or None,
    )


def measure_ceilings(index: int) -> Ceilings:
    """
    Measure what a card reaches: a large copy, large matrix products, kernels that do nothing.

    Paced and under the blocker, with the clock watched, as everything else here; some seconds.

    Raises:
        RuntimeError: If a copy or product does not fit into the card's free memory.
    """
    import torch

    with torch.cuda.device(index):
        card = card_for(index)
        card.wake()
        found = environment(f"cuda:{index}")
        return Ceilings(
            copy_gbs=round(_copy_gbs(card), 1),
            matmul_tflops={
                name: round(_product_tflops(card, name), 1)
                for name in ("float16", "bfloat16", "float32")
            },
            empty_kernel_us=round(_empty_kernel_us(card), 3),
            taken=datetime.now(timezone.utc).date().isoformat(),
            versions={
                name: text
                for name, text in found.versions.items()
                if name in ("torch", "cuda", "driver")
            },
        )


def _copy_gbs(card: Card) -> float:
    """
    Return bytes read plus written per second, of the driver's copy or a kernel's: the faster one.
    """
    import torch

    size = min(_COPY_BYTES, int(card.free_bytes() * _MEMORY_SHARE / 2))
    source = torch.ones(size // 4, device=f"cuda:{card.index}")
    target = torch.empty_like(source)
    ways: tuple[Callable[[int], Any], ...] = (
        lambda _: target.copy_(source),
        lambda _: torch.add(source, 1.0, out=target),
    )
    time_us = min(_paced_us(card, way, _COPIES, _GAP_US) for way in ways)
    return 2.0 * (size // 4) * 4 / time_us * 1e-3


def _product_tflops(card: Card, dtype_name: str) -> float:
    """
    Return the rate of a large product; for float32 with the matrix units' own precision (TF32).
    """
    import torch

    dtype = getattr(torch, dtype_name)
    rows = _product_rows(dtype.itemsize, card.free_bytes())
    shape = (rows, rows)
    left, right = (torch.randn(shape, dtype=dtype, device=f"cuda:{card.index}") for _ in range(2))
    out = torch.empty_like(left)
    with _tf32():
        time_us = _paced_us(card, lambda _: torch.mm(left, right, out=out), 1, _HOT_GAP_US)
    return 2.0 * rows * rows * rows / time_us * 1e-6


def _product_rows(item_bytes: int, free_bytes: int) -> int:
    rows = _PRODUCT_ROWS
    while 3 * rows * rows * item_bytes > free_bytes * _MEMORY_SHARE:
        rows //= 2
    if rows < _LEAST_ROWS:
        raise RuntimeError(
            f"a matrix product of {_LEAST_ROWS} rows needs more than half of the card's free "
            f"memory ({free_bytes / 2**20:.0f} MiB): free some"
        )
    return rows


def _empty_kernel_us(card: Card) -> float:
    """
    Return the GPU time of a spin of no cycles, a mean over many in one graph.
    """
    return _paced_us(card, lambda _: card.spin(0), _EMPTY_KERNELS, _GAP_US)


def _paced_us(card: Card, call: Callable[[int], Any], calls: int, gap_us: float) -> float:
    """
    Return the median time per call of a graph of so many calls, idle gaps between its samples.
    """
    for _ in range(_WARM_UPS):
        call(0)
    warm_side_stream(lambda: call(0))
    for _ in range(_SETTLING_GRAPHS):
        captured = capture(call, calls)
        captured.run()
    shoot = card.shoot if card.blocker else card.shoot_unblocked
    shots = []
    for _ in range(_SAMPLES):
        rest(gap_us)
        shots.append(shoot(captured.run, calls, flush=False))
    kept, _ = sift(shots)
    return median(shot.time_us for shot in kept or shots)


@contextlib.contextmanager
def _tf32() -> Iterator[None]:
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
