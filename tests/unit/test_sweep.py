"""
Fresh processes that measure before the run: who is asked for what, when, and what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import pytest

from pytest_kernelperf.model import Problem, Recorded
from pytest_kernelperf.processes.budget import Budget
from pytest_kernelperf.processes.escalation import Answer, Request
from pytest_kernelperf.processes.sweep import Sweep, shuffled

LOST = Answer(failure="worker 2 was lost", is_lost=True)
TESTS = ("test_x.py::test_a", "test_x.py::test_b", "test_x.py::test_c")


class FakeWorkers:
    """
    Note what is asked of them, and bring one process of each test, or what a test says.
    """

    def __init__(self, make) -> None:
        self.make = make
        self.asked: list[tuple[int, Request]] = []
        self.course: list[str] = []
        self.answers: dict[tuple[int, str], Answer] = {}

    def start(self, numbers, waiting) -> None:
        waiting()
        if len(numbers) > 1:
            self.course.append(f"start {[*numbers]}")

    def measure(self, number, request, waiting) -> Answer:
        waiting()
        self.asked.append((number, request))
        self.course.append(f"measure {number}")
        own = self.recorded(request.nodeid, number)
        for _, plan in request.plans:
            own = replace(own, measurement=replace(own.measurement, plan=plan))
        return self.answers.get((number, request.nodeid), Answer((own,)))

    def retire(self, number) -> None:
        self.course.append(f"retire {number}")

    def recorded(self, nodeid: str, number: int) -> Recorded:
        made = self.make.recorded(name=f"p{number}")
        case = replace(made.measurement.case, test=nodeid.partition("::")[2])
        plan = replace(made.measurement.plan, calls_per_sample=100 * number)
        return replace(made, measurement=replace(made.measurement, case=case, plan=plan))

    def order(self, number: int) -> list[str]:
        return [request.nodeid for one, request in self.asked if one == number]


@pytest.fixture
def workers(make) -> FakeWorkers:
    return FakeWorkers(make)


def swept(workers: FakeWorkers, processes: int, budget: Budget | None = None) -> Sweep:
    sweep = Sweep(workers, budget or Budget(None), processes, lambda text: None)
    sweep.run(TESTS)
    return sweep


def ticking() -> Callable[[], float]:
    """
    Return a clock on which whatever is timed takes a second.
    """
    seconds: Iterator[int] = count()
    return lambda: float(next(seconds))


def of_run(workers: FakeWorkers, nodeid: str) -> Recorded:
    """
    Return what the run itself measures by the plan of process 2.
    """
    made = workers.recorded(nodeid, 1)
    plan = workers.recorded(nodeid, 2).measurement.plan
    return replace(made, measurement=replace(made.measurement, plan=plan))


def wrong(recorded: Recorded) -> Recorded:
    problem = Problem("WRONG_OUTPUT", "differs")
    return replace(recorded, measurement=replace(recorded.measurement, problem=problem))


def ids(recorded: tuple[Recorded, ...]) -> list[str]:
    return [process.id for one in recorded for process in one.measurement.processes]


def test_each_process_ends_before_the_next_begins(workers):
    swept(workers, 3)

    assert workers.course == [
        "start [2, 3]",
        *["measure 2"] * 3,
        "retire 2",
        *["measure 3"] * 3,
        "retire 3",
    ]


def test_each_process_measures_every_test_in_an_order_of_its_own(workers):
    swept(workers, 5)

    orders = [workers.order(number) for number in (2, 3, 4, 5)]
    assert [sorted(TESTS)] * 4 == [sorted(order) for order in orders]
    assert len({tuple(order) for order in orders}) > 1


def test_a_processs_order_is_the_same_in_every_run():
    assert shuffled("abcdefgh", 2) == shuffled("abcdefgh", 2) != shuffled("abcdefgh", 3)


def test_a_process_keeps_its_memory_from_test_to_test(workers):
    swept(workers, 2)

    assert [True] * 3 == [request.goes_on for _, request in workers.asked]


def test_the_first_processs_plan_holds_for_all_later_ones_and_for_the_run(workers):
    sweep = swept(workers, 4)

    planned = {number: {one.plans for n, one in workers.asked if n == number} for number in (2, 3)}
    expected = workers.recorded(TESTS[0], 2).measurement
    assert planned[2] == {()}
    assert ((expected.case, expected.plan),) in planned[3]
    assert sweep.plan(expected.case) == expected.plan
    assert sweep.plan(replace(expected.case, test="another")) is None


def test_the_plan_comes_from_the_first_process_that_measured(workers):
    workers.answers[2, TESTS[0]] = LOST

    sweep = swept(workers, 4)

    third = workers.recorded(TESTS[0], 3).measurement
    assert sweep.plan(third.case) == third.plan


def test_all_processes_of_a_test_are_joined(workers):
    sweep = swept(workers, 4)

    found = sweep.complete(TESTS[0], [of_run(workers, TESTS[0])])

    assert ids(found) == ["p1", "p2", "p3", "p4"]
    assert found[0].measurement.notes == ()


def test_a_process_that_brings_nothing_is_noted(workers):
    workers.answers[2, TESTS[1]] = LOST

    found = swept(workers, 2).complete(TESTS[1], [of_run(workers, TESTS[1])])

    assert found[0].measurement.notes == ("process 2 is missing: worker 2 was lost",)


def test_a_test_that_ends_two_processes_is_not_asked_of_the_rest(workers):
    workers.answers |= {(number, TESTS[1]): LOST for number in (2, 3, 4, 5)}

    sweep = swept(workers, 5)
    (found,) = sweep.complete(TESTS[1], [of_run(workers, TESTS[1])])

    assert [3, 3, 2, 2] == [len(workers.order(number)) for number in (2, 3, 4, 5)]
    assert found.measurement.notes == (
        "process 2 is missing: worker 2 was lost",
        "process 3 is missing: worker 2 was lost",
        "not asked of process 4, 5: two others were lost in this test",
    )


def test_what_measured_nothing_in_the_first_process_is_left_to_the_run(workers):
    workers.answers[2, TESTS[1]] = Answer(failure="the test measured nothing there")

    sweep = swept(workers, 3)

    assert sorted(workers.order(2)) == sorted(TESTS)
    assert sorted(workers.order(3)) == [TESTS[0], TESTS[2]]
    assert [True, False, True] == [nodeid in sweep for nodeid in TESTS]


def test_a_later_process_that_measured_nothing_is_noted(workers):
    workers.answers[3, TESTS[1]] = Answer(failure="the test measured nothing there")

    found = swept(workers, 3).complete(TESTS[1], [of_run(workers, TESTS[1])])

    assert ids(found) == ["p1", "p2"]
    assert found[0].measurement.notes == ("process 3 is missing: the test measured nothing there",)


def test_a_case_that_only_a_later_process_measured_has_its_plan_pinned(workers):
    other = workers.recorded(TESTS[0], 3)
    case = replace(other.measurement.case, name="other")
    other = replace(other, measurement=replace(other.measurement, case=case))
    own = workers.recorded(TESTS[0], 3)
    own = replace(
        own, measurement=replace(own.measurement, plan=of_run(workers, TESTS[0]).measurement.plan)
    )
    workers.answers[3, TESTS[0]] = Answer((own, other))

    sweep = swept(workers, 4)

    assert sweep.plan(case) == other.measurement.plan
    (fourth,) = (dict(one.plans) for n, one in workers.asked if (n, one.nodeid) == (4, TESTS[0]))
    assert fourth == {own.measurement.case: own.measurement.plan, case: other.measurement.plan}


def test_a_test_that_is_there_twice_is_measured_once_per_process(workers):
    sweep = Sweep(workers, Budget(None), 3, lambda text: None)
    sweep.run((*TESTS, TESTS[0]))

    assert sorted(TESTS) == sorted(workers.order(2)) == sorted(workers.order(3))
    assert ids(sweep.complete(TESTS[0], [of_run(workers, TESTS[0])])) == ["p1", "p2", "p3"]


def test_a_kernel_that_is_wrong_in_one_process_is_not_asked_of_the_next(workers):
    problem = wrong(workers.recorded(TESTS[0], 2))
    workers.answers[2, TESTS[0]] = Answer((problem,))

    sweep = swept(workers, 3)
    (found,) = sweep.complete(TESTS[0], [of_run(workers, TESTS[0])])

    assert sorted(workers.order(3)) == [TESTS[1], TESTS[2]]
    assert found.measurement.problem == problem.measurement.problem
    assert found.measurement.notes == ()
    # It was measured by a plan that means nothing.
    assert sweep.plan(problem.measurement.case) is None


def test_a_kernel_that_is_wrong_in_the_run_gets_no_other_process(workers):
    own = wrong(of_run(workers, TESTS[0]))

    assert swept(workers, 3).complete(TESTS[0], [own]) == (own,)


def test_a_spent_budget_ends_it_and_what_was_measured_counts(workers):
    # The start takes one second, each test another: all of process 2, one test of process 3.
    sweep = swept(workers, 3, Budget(5, clock=ticking()))
    first, *others = workers.order(3)

    assert others == []
    assert workers.course[-1] == "retire 3"
    for nodeid in TESTS:
        (found,) = sweep.complete(nodeid, [of_run(workers, nodeid)])
        told = [note for note in found.measurement.notes if "5 s for fresh processes" in note]
        assert (nodeid != first) == any("judged from 2" in note for note in told)


def test_an_interrupt_ends_the_process_that_measures(workers, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "measure", interrupted)

    with pytest.raises(KeyboardInterrupt):
        swept(workers, 3)

    assert workers.course == ["start [2, 3]", "retire 2"]


def test_the_progress_says_which_process_measures_and_is_taken_away(workers):
    said: list[str] = []
    Sweep(workers, Budget(None), 2, said.append).run(TESTS[:1])

    assert said[-2:] == ["test_a: process 2 of 2", ""]
