"""
Single launches and wall time from end to end, on a simulated device.
"""

from __future__ import annotations

from typing import Any

import pytest
from simulated_device import EVENT_US, add, job, take

torch = pytest.importorskip("torch")

from pytest_kernelperf.measure import trial  # noqa: E402
from pytest_kernelperf.measure.subject import Subject  # noqa: E402


def test_single_launches_come_from_the_records_without_the_events_overhead(simulation):
    taken = take(add(simulation), job("launch"))

    assert ("cupti", ()) == (taken.method, taken.notes)
    assert ["add"] == [kernel.name for kernel in taken.kernels]
    assert (3.0,) * 12 == taken.rounds[0].times_us
    assert (3.0,) == taken.rounds[0].first_us
    assert 1980.0 == pytest.approx(taken.rounds[0].clock_mhz[0], abs=0.2)


def test_calls_that_launch_other_kernels_each_time_fall_back_to_event_pairs(simulation):
    names = iter(f"kernel {number}" for number in range(100_000))

    def fn(x: Any) -> Any:
        simulation.work(next(names), 3.0)
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("launch"))

    assert "events" == taken.method
    assert "2.9 µs" in taken.notes[0]
    assert (3.0 + EVENT_US,) * 12 == pytest.approx(taken.rounds[0].times_us)


def test_records_that_stop_repeating_later_fall_back_too(simulation):
    calls = 0

    def fn(x: Any) -> Any:
        nonlocal calls
        calls += 1
        simulation.work("add" if calls < 160 else f"add {calls}", 3.0)
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("launch"))

    assert ("events", [12, 12]) == (taken.method, [len(one.times_us) for one in taken.rounds])


def test_without_a_profiler_event_pairs_are_used_and_it_is_said(simulation):
    simulation.profiler_works = False

    taken = take(add(simulation), job("launch"))

    assert "events" == taken.method
    assert "CUPTI is missing" in taken.notes[0]


def test_a_synchronising_callable_has_unblocked_launches(simulation):
    def fn(x: Any) -> Any:
        simulation.work("add", 3.0)
        torch.cuda.synchronize()
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("launch"))

    assert ("unblocked", 12) == (taken.method, len(taken.rounds[0].times_us))
    assert trial.SYNCHRONISES in taken.notes


def test_the_wall_timer_times_one_call_at_a_time(simulation):
    taken = take(add(simulation), job("wall"))

    assert ("event-sync", 2) == (taken.method, len(taken.rounds))
    assert (3.0 + EVENT_US,) * 4 == pytest.approx(taken.rounds[0].times_us)
    assert () == taken.rounds[0].slack_us


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_every_timer_learns_which_kernels_one_call_launches(simulation, timer):
    def fn(x: Any) -> Any:
        simulation.work("add", 3.0)
        simulation.work("copy", 1.0)
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job(timer))

    assert ["add", "copy"] == [kernel.name for kernel in taken.kernels]


def test_the_wall_timer_captures_one_call_before_its_warm_up_and_none_later(simulation):
    captured: list[bool] = []

    def fn(x: Any) -> Any:
        captured.append(simulation.capturing is not None)
        simulation.work("add", 3.0)
        return x + 1

    take(Subject(fn, (torch.arange(8.0),)), job("wall"))

    assert 1 == sum(captured)
    # Two calls of the guard and one on the capturing stream come first.
    assert 3 == captured.index(True)


def test_the_wall_timer_times_a_callable_that_can_not_be_captured_as_any_other(simulation):
    def fn(x: Any) -> Any:
        simulation.work("add", 3.0)
        torch.cuda.synchronize()
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("wall"))

    assert ((), (), None) == (taken.kernels, taken.notes, taken.problem)
    assert (3.0 + EVENT_US,) * 4 == pytest.approx(taken.rounds[0].times_us)
