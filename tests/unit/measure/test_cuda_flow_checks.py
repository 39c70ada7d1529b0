"""
What holds for every CUDA timer, on a simulated device: checked outputs, setups, several callables.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest
from simulated_device import MIB, add, job, take, take_together

torch = pytest.importorskip("torch")

from pytest_kernelperf.errors import SubjectError  # noqa: E402 - torch may be missing
from pytest_kernelperf.measure.subject import Subject  # noqa: E402


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_a_rewritten_argument_is_restored_before_each_call(simulation, timer):
    """
    The guard compares the argument after a timed call with that after the first one.
    """

    def double(x: Any) -> None:
        # A replay here has no hold on arguments.
        simulation.refuse_capture()
        simulation.work("mul", 3.0)
        x.mul_(2)

    x = torch.arange(8.0)
    taken = take(Subject(double, (x,), mutates=("x",)), job(timer))

    assert taken.problem is None
    assert torch.equal(torch.arange(8.0), x)


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_an_undeclared_mutation_in_the_timed_calls_is_a_problem(simulation, timer):
    calls = 0

    def fn(x: Any) -> Any:
        nonlocal calls
        calls += 1
        simulation.refuse_capture()
        simulation.work("add", 3.0)
        output = x + 1
        if calls > 20:
            x.zero_()
        return output

    taken = take(Subject(fn, (torch.arange(8.0),)), job(timer))

    assert taken.problem is not None
    assert taken.problem.code in ("UNDECLARED_MUTATION", "WRONG_OUTPUT")


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_a_wrong_output_of_a_timed_call_is_a_problem(simulation, timer):
    calls = 0

    def fn(x: Any) -> Any:
        nonlocal calls
        calls += 1
        simulation.work("add", 3.0)
        return x + (1 if calls < 100 else 2)

    taken = take(Subject(fn, (torch.arange(8.0),)), job(timer, samples=60))

    assert "WRONG_OUTPUT" == taken.problem.code


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_setup_runs_before_each_round(simulation, timer):
    count = 0

    def setup() -> None:
        nonlocal count
        count += 1

    once = replace(add(simulation), setup=setup)
    take(once, job(timer, rounds=1))
    after_one, count = count, 0
    take(once, job(timer, rounds=4))

    assert 3 == count - after_one


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_side_by_side_all_callables_share_a_plan_and_have_their_own_times(simulation, timer):
    subjects = {"fast": add(simulation, 3.0), "slow": add(simulation, 6.0)}

    taken = take_together(subjects, job(timer))

    fast, slow = taken["fast"], taken["slow"]
    assert fast.plan == slow.plan
    assert 3.0 == pytest.approx(slow.rounds[0].times_us[0] - fast.rounds[0].times_us[0], abs=0.01)
    assert len(fast.rounds[0].times_us) == len(slow.rounds[0].times_us)


def test_a_problem_of_one_callable_stops_the_others_before_they_start(simulation):
    subjects = {
        "good": add(simulation),
        "idle": Subject(lambda x: x + 1, (torch.arange(8.0),)),
    }

    taken = take_together(subjects, job("device"))

    assert (None, ()) == (taken["good"].problem, taken["good"].rounds)
    assert "HIDDEN_WORK" == taken["idle"].problem.code


def test_the_callable_whose_copies_do_not_fit_is_named(simulation):
    """
    Its copies would fit alone, but each of two callables has half of the memory.
    """

    def large(x):
        simulation.work("large", 3.0)
        return x + 1

    subjects = {
        "small": Subject(add(simulation).fn, (torch.arange(8.0),)),
        "large": Subject(large, (torch.zeros(MIB),)),
    }
    simulation.free_bytes = 18 * MIB

    with pytest.raises(SubjectError, match=r"large do not fit: .*40% of the 9\.0 MiB"):
        take_together(subjects, job("device"))


def test_copies_that_do_not_fit_are_refused_with_numbers(simulation):
    simulation.free_bytes = MIB
    subject = Subject(add(simulation).fn, (torch.zeros(MIB),))

    with pytest.raises(
        SubjectError, match=r"add\..*fn do not fit: .* 4\.5 MiB.*50% of the 1\.0 MiB"
    ):
        take(subject, job("device"))


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_the_callables_own_error_passes_through_and_the_collector_is_on_again(simulation, timer):
    calls = 0

    def fn(x: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 30:
            raise ZeroDivisionError
        simulation.refuse_capture()
        simulation.work("add", 3.0)
        return x + 1

    with pytest.raises(ZeroDivisionError):
        take(Subject(fn, (torch.arange(8.0),)), job(timer, samples=100))

    assert gc.isenabled()
    assert simulation.hold is None


def test_progress_is_told_once_per_round(simulation):
    said: list[str] = []

    take_together({"": add(simulation)}, job("device"), said.append)

    assert ["device warm-up", "device round 1/2", "device round 2/2"] == said
