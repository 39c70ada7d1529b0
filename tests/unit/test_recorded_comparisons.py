"""
Comparisons recorded on an H100: equal kernels are not told apart, and 2 % is.

PyTorch's default attention is cuDNN's at these shapes, so `sdpa` and `cudnn` are one kernel.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest

from pytest_kernelperf.analysis import compare
from pytest_kernelperf.model import Comparison, Measurement, Standing
from pytest_kernelperf.store.runs import read_run

RUN = Path(__file__).parents[1] / "data" / "h100" / "validation.run.gz"


@lru_cache
def recorded() -> tuple[Comparison, ...]:
    """
    Return the nine comparisons of the run.
    """
    return read_run(RUN).comparisons


def slowed(measurement: Measurement, factor: float) -> Measurement:
    """
    Return the measurement with all its times multiplied.
    """
    processes = tuple(
        replace(
            process,
            rounds=tuple(
                replace(each, times_us=tuple(time * factor for time in each.times_us))
                for each in process.rounds
            ),
        )
        for process in measurement.processes
    )
    return replace(measurement, processes=processes)


def standings(factor: float) -> list[Standing]:
    """
    Return how cuDNN's kernel, slowed by a factor, stands to itself at each shape.
    """
    found = []
    for each in recorded():
        pair = {
            "sdpa": each.measurements["sdpa"],
            "cudnn": slowed(each.measurements["cudnn"], factor),
        }
        found.append(compare(each.label, pair, "sdpa").ratios[1].standing)
    return found


def test_one_kernel_is_neither_faster_nor_slower_than_itself() -> None:
    assert set(standings(1.0)) <= {Standing.ALIKE, Standing.UNSURE}


@pytest.mark.parametrize("factor", [1.02, 1.05])
def test_two_percent_is_found_at_every_shape(factor: float) -> None:
    assert [Standing.SLOWER] * 9 == standings(factor)


def test_half_a_percent_is_not_called_a_difference() -> None:
    assert Standing.SLOWER not in standings(1.005)
