"""
Has fresh processes measure all tests before the run itself does, each in one go.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from pytest_kernelperf.model import Case, Plan, Recorded
from pytest_kernelperf.processes.budget import Budget
from pytest_kernelperf.processes.escalation import (
    Answer,
    Request,
    Workers,
    has_problem,
    joined,
    noted,
)
from pytest_kernelperf.units import listed

#: So many processes may be lost in a test: one that hangs or crashes would end each of them.
_MOST_LOST = 2


class Sweep:
    """
    What fresh processes measured of a run's tests, one process after the other.

    A test of which the first of them measured nothing is not in it.

    A kernel's time depends on what its process and the card did before: on pauses, and on what
    memory was free. Processes that take turns test by test share all that, so they agree with
    each other and not with a later run, which goes through its tests without a pause. So each goes
    through all of them here, in an order of its own, and ends before the next begins.

    Args:
        workers: The fresh processes.
        budget: What the run may spend in them.
        processes: In all, the run itself included.
        progress: Told which process measures.
    """

    def __init__(
        self, workers: Workers, budget: Budget, processes: int, progress: Callable[[str], None]
    ) -> None:
        self._workers = workers
        self._budget = budget
        self._numbers = range(2, processes + 1)
        self._progress = progress
        self._requests: dict[str, Request] = {}
        self._answers: dict[str, list[tuple[int, Answer]]] = {}
        self._plans: dict[Case, Plan] = {}

    def __contains__(self, nodeid: str) -> bool:
        return nodeid in self._answers

    def run(self, tests: Sequence[str]) -> None:
        """
        Measure tests in all processes, as far as the budget goes.

        Args:
            tests: Their node ids.
        """
        tests = list(dict.fromkeys(tests))  # Under --keep-duplicates one may be there twice.
        self._requests = {nodeid: Request(nodeid, (), goes_on=True) for nodeid in tests}
        self._answers = {nodeid: [] for nodeid in tests}
        try:
            with self._budget.spending():
                self._workers.start(self._numbers, self._waiting(2, shuffled(tests, 2)[0]))
            for number in self._numbers:
                self._go_through(number, shuffled(tests, number))
        finally:
            self._progress("")

    def plan(self, case: Case) -> Plan | None:
        """
        Return how a case was measured, for the run itself to do alike; None if it was not.
        """
        return self._plans.get(case)

    def complete(self, nodeid: str, recorded: Sequence[Recorded]) -> tuple[Recorded, ...]:
        """
        Return what the run measured of a test with what the other processes did, not judged yet.
        """
        found = tuple(recorded)
        for number, answer in self._answers[nodeid]:
            if has_problem(found):
                return found
            found = joined(found, answer, number)
        done = len(self._answers[nodeid])
        # One whose kernel is wrong was not asked of the rest.
        if done == len(self._numbers) or has_problem(found):
            return found
        if self._is_wanted(nodeid):
            return noted(found, self._budget.note(str(1 + done)))
        rest = listed([str(number) for number in self._numbers[done:]])
        return noted(found, f"not asked of process {rest}: two others were lost in this test")

    def _go_through(self, number: int, tests: Sequence[str]) -> None:
        try:
            for nodeid in tests:
                if self._budget.is_spent:
                    return
                if self._is_wanted(nodeid):
                    with self._budget.spending():
                        self._ask(number, nodeid)
        finally:
            self._workers.retire(number)

    def _is_wanted(self, nodeid: str) -> bool:
        if nodeid not in self:
            return False
        answers = [answer for _, answer in self._answers[nodeid]]
        if sum(answer.is_lost for answer in answers) == _MOST_LOST:
            return False
        return not any(has_problem(answer.recorded) for answer in answers)

    def _ask(self, number: int, nodeid: str) -> None:
        request, waiting = self._requests[nodeid], self._waiting(number, nodeid)
        waiting()
        self._workers.start([number], waiting)  # Again, if a test before this one ended it.
        answer = self._workers.measure(number, request, waiting)
        if not (answer.recorded or answer.is_lost or self._answers[nodeid]):
            # It compares, is skipped, or fails: not to be repeated unless the run measures it.
            del self._answers[nodeid]
            return
        self._answers[nodeid].append((number, answer))
        if answer.recorded and not has_problem(answer.recorded):
            self._requests[nodeid] = request.planned(answer.recorded)
            self._plans.update(self._requests[nodeid].plans)

    def _waiting(self, number: int, nodeid: str) -> Callable[[], None]:
        text = f"{self._requests[nodeid].test}: process {number} of {self._numbers[-1]}"
        return lambda: self._progress(text)


def shuffled(tests: Sequence[str], number: int) -> list[str]:
    """
    Return tests in the order of one process: another for each, the same in every run.
    """
    return random.Random(number).sample(tests, len(tests))
