"""
Ways to slow a callable, and the search for the amount.
"""

from __future__ import annotations

import pytest

from pytest_kernelperf.calibration import slowdowns
from pytest_kernelperf.calibration.slowdowns import (
    Dialled,
    Dialling,
    ExtraLaunches,
    Way,
    dial,
    is_near,
    ways_for,
)
from pytest_kernelperf.model import Interval, Plan

PLAN = Plan(300, 300, 2000.0, 20, 5, 4)


@pytest.fixture
def spins(monkeypatch):
    """
    Return the list of extra kernels launched.
    """
    found: list[int] = []
    monkeypatch.setattr(slowdowns, "_spin", found.append)
    return found


@pytest.mark.parametrize("skipped", [0, 1, 123])
def test_any_sample_holds_the_same_number_of_extra_launches(spins, skipped):
    slowed = ExtraLaunches(lambda: None, 500, launches=7, calls=300)
    for _ in range(skipped):
        slowed()
    spins.clear()

    for _ in range(300):
        slowed()

    assert [500] * 7 == spins


def test_the_slowed_callable_keeps_output_name_and_arguments(spins):
    def kernel(a, *, b):
        return a + b

    slowed = ExtraLaunches(kernel, 1, launches=1, calls=1)

    assert 3 == slowed(1, b=2)
    assert "kernel" == slowed.__name__


def test_a_kernel_with_a_dial_is_slowed_by_its_own():
    fn = Dialled(lambda x, amount: x + amount, "extra bytes", share=0.001)

    way, launches = ways_for(fn, "device", PLAN, 3.0, 0.02, on_gpu=True)

    assert "extra bytes" == way.name
    assert "an extra launch" in launches.name
    assert 1 == fn(1)
    assert 6 == way.slowed(5)(1)


def test_a_slowdown_shorter_than_a_launch_has_no_way():
    """
    2 % of single launches of 5 µs are 0.1 µs; of 300 calls in a sample they are 30 µs.
    """
    assert () == ways_for(abs, "launch", PLAN, 5.0, 0.02, on_gpu=True)
    assert 1 == len(ways_for(abs, "device", PLAN, 5.0, 0.02, on_gpu=True))


def test_extra_launches_add_up_to_the_size_that_was_wanted(spins):
    """
    2 % of 300 calls of 5 µs are 30 µs: seven launches of 4.3 µs.
    """
    (way,) = ways_for(abs, "device", PLAN, 5.0, 0.02, on_gpu=True)

    assert "an extra launch in 7 of 300 calls" == way.name
    assert 0.02 == pytest.approx(_extra(way.slowed(_amount(way, 0.02)), spins), rel=0.01)


def test_host_work_is_added_on_a_cpu():
    (way,) = ways_for(abs, "wall", PLAN, 100.0, 0.05, on_gpu=False)

    assert "extra host work" == way.name
    assert 4 == way.slowed(3)(-4)


def test_dialling_corrects_a_wrong_guess():
    """
    One unit was thought to cost 1 %, and costs 0.1 %.
    """
    found = dial(_way(share=0.01), 0.05, lambda amount: (amount * 0.001, Interval(0, 1)))

    assert 50 == found.amount
    assert 0.05 == pytest.approx(found.measured)


def test_dialling_keeps_the_nearest_attempt_where_none_is_near():
    """
    Steps so coarse that 2 % lies between two of them.
    """

    def measure(amount):
        size = 0.001 if amount < 5 else 0.5
        return size, Interval(size, size)

    found = dial(_way(share=0.02), 0.02, measure)

    assert 0.001 == found.measured
    assert not is_near(found)


def test_a_size_inside_the_interval_of_what_was_measured_is_near():
    assert is_near(Dialling(0.02, "", 1, 0.03, 0.015, 0.045))
    assert not is_near(Dialling(0.02, "", 1, 0.03, 0.028, 0.032))
    assert is_near(Dialling(0.02, "", 1, 0.021, 0.0209, 0.0211))


def _way(share: float) -> Way:
    return Way("steps", lambda amount: amount, share)


def _amount(way: Way, size: float) -> int:
    return round((size - way.fixed) / way.share)


def _extra(fn, spins) -> float:
    """
    Return what 300 calls of 5 µs take longer if a launch costs 1.3 µs and a cycle 1/1980 µs.
    """
    spins.clear()
    for _ in range(300):
        fn(-1)
    return sum(1.3 + cycles / 1980 for cycles in spins) / 1500
