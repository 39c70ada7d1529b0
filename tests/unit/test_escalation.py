"""
How many fresh processes a test gets, and what becomes of what they bring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pytest_kernelperf.model import Checks, Problem, Recorded, Status, Verdict
from pytest_kernelperf.processes.budget import Budget
from pytest_kernelperf.processes.escalation import Answer, Escalation, Request, joined


class FakeWorkers:
    """
    Answer with one more process of each case, or as told for a number.
    """

    def __init__(self, make, answers: dict[int, Answer] | None = None) -> None:
        self.make = make
        self.answers = answers or {}
        self.started: list[list[int]] = []
        self.asked: list[int] = []

    def start(self, numbers, waiting) -> None:
        self.started.append(list(numbers))

    def measure(self, number, request, waiting) -> Answer:
        waiting()
        self.asked.append(number)
        own = Answer((self.make.recorded(name=f"p{number}"),))
        return self.answers.get(number, own)

    def stop(self) -> None: ...


def saying(by_processes: dict[int, Status]) -> Callable[[Recorded], Recorded]:
    """
    Return a judge that goes by the number of processes alone.
    """

    def judge(recorded: Recorded) -> Recorded:
        status = by_processes[len(recorded.measurement.processes)]
        verdict = Verdict(recorded.measurement.case, 50.0, status, "SAID", "")
        return replace(recorded, verdicts=(verdict,))

    return judge


def settled(
    workers: FakeWorkers, judge, budget: Budget | None = None, **keywords
) -> tuple[Recorded, ...]:
    first = judge(workers.make.recorded(name="p1"))
    keywords = {"progress": lambda text: None, **keywords}
    escalation = Escalation(workers, budget or Budget(None), **keywords)
    return escalation.settle("test_x.py::test_x", [first], judge)


def ids(recorded: tuple[Recorded, ...]) -> list[str]:
    return [process.id for one in recorded for process in one.measurement.processes]


def notes(recorded: tuple[Recorded, ...]) -> list[str]:
    return [note for one in recorded for note in one.measurement.notes]


@pytest.mark.parametrize("status", [Status.UNCHANGED, Status.NO_BASELINE, Status.INCOMPARABLE])
def test_what_is_decided_starts_no_process(make, status):
    workers = FakeWorkers(make)

    settled(workers, saying({1: status}))

    assert workers.started == []


def test_what_is_undecided_gets_three_processes_then_five_and_no_more(make):
    workers = FakeWorkers(make)
    unsure = Status.INCONCLUSIVE

    found = settled(workers, saying({1: unsure, 3: unsure, 5: unsure}))

    assert workers.started == [[2, 3], [4, 5]]
    assert ids(found) == ["p1", "p2", "p3", "p4", "p5"]


def test_what_three_processes_decide_is_decided(make):
    workers = FakeWorkers(make)

    found = settled(workers, saying({1: Status.INCONCLUSIVE, 3: Status.REGRESSED}))

    assert workers.asked == [2, 3]
    assert [one.verdicts[0].status for one in found] == [Status.REGRESSED]


def test_a_fixed_number_is_kept_whatever_the_verdict(make):
    workers = FakeWorkers(make)

    settled(workers, saying({1: Status.UNCHANGED, 4: Status.INCONCLUSIVE}), processes=4)

    assert workers.asked == [2, 3, 4]


def test_a_process_that_brings_nothing_is_noted_and_not_replaced(make):
    workers = FakeWorkers(make, {2: Answer(failure="worker 2 was lost")})
    judge = saying({1: Status.INCONCLUSIVE, 2: Status.INCONCLUSIVE, 4: Status.UNCHANGED})

    found = settled(workers, judge)

    assert workers.asked == [2, 3, 4, 5]
    assert ids(found) == ["p1", "p3", "p4", "p5"]
    assert "process 2 is missing: worker 2 was lost" in notes(found)


def test_an_invalid_process_ends_the_measuring_and_makes_all_invalid(make):
    wrong = make.recorded(name="p2")
    problem = Problem("WRONG_OUTPUT", "differs")
    wrong = replace(wrong, measurement=replace(wrong.measurement, problem=problem))
    workers = FakeWorkers(make, {2: Answer((wrong,))})

    found = settled(workers, saying({1: Status.INCONCLUSIVE}))

    assert workers.asked == [2]
    assert found[0].measurement.problem == problem


def test_a_spent_budget_starts_no_further_look_and_is_noted(make):
    workers = FakeWorkers(make)
    unsure = saying(dict.fromkeys((1, 3, 5), Status.INCONCLUSIVE))
    seconds = iter(range(0, 1000, 10))

    found = settled(workers, unsure, Budget(10, clock=lambda: float(next(seconds))))

    assert workers.asked == [2, 3]
    assert any("10 s for fresh processes" in note and "from 3" in note for note in notes(found))


def test_time_in_a_process_that_fails_is_spent_too():
    seconds = iter((0.0, 4.0))
    budget = Budget(4, clock=lambda: next(seconds))

    with pytest.raises(OSError, match="gone"), budget.spending():
        raise OSError("gone")

    assert budget.is_spent


def test_the_progress_says_which_process_measures_and_is_taken_away(make):
    said: list[str] = []

    settled(FakeWorkers(make), saying({1: Status.UNCHANGED, 3: Status.UNCHANGED}),
            processes=3, progress=said.append)  # fmt: skip

    assert said == ["test_x: process 2 of 3", "test_x: process 3 of 3", ""]


def test_the_request_pins_the_first_processs_plan(make):
    seen: list[Request] = []

    class Listening(FakeWorkers):
        def measure(self, number, request, waiting):
            seen.append(request)
            return super().measure(number, request, waiting)

    workers = Listening(make)
    first = make.recorded(name="p1").measurement
    settled(workers, saying({1: Status.UNCHANGED, 2: Status.UNCHANGED}), processes=2)

    assert seen == [Request("test_x.py::test_x", ((first.case, first.plan),))]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"method": "unblocked"}, "it measured otherwise (unblocked"),
        ({"case": "other"}, "it did not measure this case"),
    ],
)
def test_what_was_measured_otherwise_is_left_out(make, change, why):
    first, other = make.recorded(name="p1"), make.recorded(name="p2")
    if "case" in change:
        change = {"case": replace(other.measurement.case, name="other")}
    other = replace(other, measurement=replace(other.measurement, **change))

    (found,) = joined((first,), Answer((other,)), 2)

    assert ids((found,)) == ["p1"]
    assert why in notes((found,))[-1]


def test_what_another_device_measured_is_left_out(make):
    first, other = make.recorded(name="p1"), make.recorded(name="p2")
    (process,) = other.measurement.processes
    elsewhere = replace(process, environment=replace(process.environment, gpu=None, cpu="a CPU"))
    other = replace(other, measurement=replace(other.measurement, processes=(elsewhere,)))

    (found,) = joined((first,), Answer((other,)), 2)

    assert ids((found,)) == ["p1"]
    assert "it measured on another device (cpu a CPU a CPU, not " in notes((found,))[-1]


def test_later_processes_are_signed_like_the_first_and_their_checks_are_added(make):
    first, other = make.recorded(name="p1"), make.recorded(name="p2")
    (process,) = first.measurement.processes
    signed = replace(process, commit="c0ffee", who="Grace Hopper")
    checks = Checks(outputs_checked=2, max_abs_difference=0.5, inputs_checked=1, poisoned=3)
    measurement = replace(first.measurement, processes=(signed,), checks=checks)
    unknown = replace(checks, max_abs_difference=None)
    other = replace(other, measurement=replace(other.measurement, checks=unknown))

    (found,) = joined((replace(first, measurement=measurement),), Answer((other,)), 2)

    assert [(p.commit, p.who) for p in found.measurement.processes] == [
        ("c0ffee", "Grace Hopper")
    ] * 2
    assert found.measurement.checks == Checks(4, 0.5, 2, 6)
