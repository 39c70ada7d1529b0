"""
`--kernelperf-against` on an H100: kernels slowed by 2 %, and identical ones, in pairs of processes.

Thirteen runs of `benchmarks/against_evidence.py` on one card and eight on another, each of one
slowed and three identical kernels, in three pairs or five.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
from live import told

from pytest_kernelperf.gate import Gate
from pytest_kernelperf.model import Recorded, Status
from pytest_kernelperf.store.runs import read_run

DATA = Path(__file__).parents[1] / "data" / "h100"
RUNS = (
    *(f"against_a929c388/run{number}" for number in range(13)),
    *(f"against_917f34fd/run{number}" for number in range(8)),
)
#: A run's slowed kernel, and the identical ones, in the order of its records.
SLOWED, IDENTICAL = slice(0, 1), slice(1, 4)
#: The identical comparison that was still open after five pairs: 512x8.
OPEN = {"against_917f34fd/run4": [Status.INCONCLUSIVE, Status.UNCHANGED, Status.UNCHANGED]}


@lru_cache
def judged(name: str) -> tuple[tuple[Recorded, Recorded], ...]:
    """
    Return the measurements of one run with the verdicts of then, and of now.
    """
    # A comparison with a revision asks no baseline.
    gate = Gate(DATA / "baselines")
    found = read_run(DATA / f"{name}.run.gz").recorded
    return tuple((each, gate.judge_again(each)) for each in found)


@pytest.mark.parametrize("name", RUNS)
def test_a_slowed_kernel_is_regressed_and_identical_ones_are_not(name) -> None:
    statuses = [verdict.status for _, now in judged(name) for verdict in now.verdicts]

    assert [Status.REGRESSED] == statuses[SLOWED]
    assert OPEN.get(name, [Status.UNCHANGED] * 3) == statuses[IDENTICAL]


@pytest.mark.parametrize("name", RUNS)
def test_the_verdicts_are_those_of_the_card(name) -> None:
    live, now = zip(*judged(name), strict=True)

    assert told(live) == told(now)


@pytest.mark.parametrize("name", RUNS)
def test_identical_kernels_differ_by_less_than_the_least_margin(name) -> None:
    changes = [verdict.change for _, now in judged(name) for verdict in now.verdicts]

    assert all(abs(change) < 0.01 for change in changes[IDENTICAL])
    assert all(0.015 < change < 0.03 for change in changes[SLOWED])
