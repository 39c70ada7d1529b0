"""
Whether times follow the clock is asked of the samples, and unknown means: they may.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from measured import a_process, a_round

from pytest_kernelperf.analysis.sensitivity import most_that_time_follows
from pytest_kernelperf.model import Process


def moving(slope: float, *, fall: float = 0.1, samples: int = 100) -> Process:
    """
    Return a process whose clock falls midway, its times following at a slope; 0.3 % noise each.
    """
    random = np.random.default_rng(7)
    drop = np.where(np.arange(samples) < samples // 2, 0.0, fall)
    times = 20.0 * np.exp(slope * drop + random.normal(0, 0.003, samples))
    clocks = 1980.0 * np.exp(-drop + random.normal(0, 0.003, samples))
    taken = a_round(times, clock_mhz=tuple(clocks))
    return replace(a_process(20.0), rounds=(taken,))


@pytest.mark.parametrize("slope", [0.0, 0.3, 0.6, 1.0])
def test_the_bound_is_above_the_slope_and_near_it(slope: float) -> None:
    bound = most_that_time_follows([moving(slope)])

    assert slope <= bound <= min(slope * 1.15 + 0.06, 1.0)


@pytest.mark.parametrize(
    "process",
    [
        moving(0.0, fall=0.01),
        moving(0.0, samples=20),
        a_process(20.0),
        a_process(20.0, clock_mhz=0.0),
        replace(a_process(20.0), rounds=(a_round([20.0] * 50, clock_mhz=(1980.0, 1500.0)),)),
    ],
    ids=["small move", "few samples", "one clock", "no canary", "one reading per burst"],
)
def test_where_the_samples_do_not_tell_time_may_follow_fully(process: Process) -> None:
    assert 1.0 == most_that_time_follows([process])


def test_the_process_that_follows_most_counts_and_one_that_does_not_tell_may() -> None:
    still, moved = a_process(20.0), moving(0.0)

    assert most_that_time_follows([moved, moving(0.6)]) == most_that_time_follows([moving(0.6)])
    assert 1.0 == most_that_time_follows([moved, still])
    assert 1.0 == most_that_time_follows([])


def test_a_kernel_that_got_faster_at_a_lower_clock_follows_not_at_all() -> None:
    assert 0.0 == most_that_time_follows([moving(-0.5)])
