"""
Has what is not decided yet measured in fresh processes, and joins what they bring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pytest_kernelperf.model import Case, Checks, Measurement, Plan, Process, Recorded
from pytest_kernelperf.processes.budget import Budget


@dataclass(frozen=True, slots=True)
class Request:
    """
    What a fresh process is to measure.

    Attributes:
        nodeid: The test, as pytest prints it.
        plans: How an earlier process measured each of its cases, to be done in the same way; empty
            where this one is the first.
        goes_on: The process measures the next test without a pause, and keeps its memory for that.
    """

    nodeid: str
    plans: tuple[tuple[Case, Plan], ...]
    goes_on: bool = False

    @classmethod
    def like(cls, nodeid: str, recorded: Iterable[Recorded]) -> Request:
        """
        Return the request to measure a test as it was measured before.
        """
        return cls(nodeid, ()).planned(recorded)

    def planned(self, recorded: Iterable[Recorded]) -> Request:
        """
        Return it with the plans that a process measured by, for cases that have none yet.
        """
        plans = {one.measurement.case: one.measurement.plan for one in recorded}
        return replace(self, plans=tuple({**plans, **dict(self.plans)}.items()))

    @property
    def test(self) -> str:
        """
        What the progress line calls the test.
        """
        return self.nodeid.split("::", 1)[-1]


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a fresh process brought: its measurements, or why there are none.

    Attributes:
        strays: What a process in another checkout imported from elsewhere: it is no answer then.
        is_lost: The process crashed, hung or did not start, which says nothing of the test.
    """

    recorded: tuple[Recorded, ...] = ()
    failure: str = ""
    strays: tuple[str, ...] = ()
    is_lost: bool = False


class Workers(Protocol):
    """
    The fresh processes; `number` counts from 2, since the run itself is the first.
    """

    def start(self, numbers: Sequence[int], waiting: Callable[[], None]) -> None: ...

    def measure(self, number: int, request: Request, waiting: Callable[[], None]) -> Answer: ...

    def retire(self, number: int) -> None: ...

    def stop(self) -> None: ...

    def abandon(self) -> None: ...


class Escalation:
    """
    Measures a test in as many processes as its verdicts need.

    Args:
        workers: The fresh processes.
        budget: What the run may spend in them.
        processes: Exactly so many for every test; None = as many as the verdicts want.
        progress: Told which process measures.
    """

    def __init__(
        self,
        workers: Workers,
        budget: Budget,
        *,
        processes: int | None = None,
        progress: Callable[[str], None],
    ) -> None:
        self._workers = workers
        self._budget = budget
        self._processes = processes
        self._progress = progress

    def needs_more(self, recorded: Sequence[Recorded]) -> bool:
        """
        Return whether one process is not enough for a test.
        """
        return self._wanted(recorded, 1) > 1

    def settle(
        self,
        nodeid: str,
        recorded: Sequence[Recorded],
        judge: Callable[[Recorded], Recorded],
    ) -> tuple[Recorded, ...]:
        """
        Return a test's records with the processes that they needed, judged anew.

        A process that brings nothing leaves a note and is not replaced.

        Args:
            nodeid: The test.
            recorded: What the first process measured, judged.
            judge: Judges a record anew.
        """
        found, asked = tuple(recorded), 1
        while (total := self._wanted(found, asked)) > asked:
            if self._budget.is_spent:
                return noted(found, self._budget.note(str(asked)))
            try:
                with self._budget.spending():
                    found = self._measured(nodeid, found, range(asked + 1, total + 1))
            finally:
                self._progress("")
            found, asked = tuple(map(judge, found)), total
        return found

    def _wanted(self, recorded: Sequence[Recorded], asked: int) -> int:
        from pytest_kernelperf.analysis import wants_more

        if has_problem(recorded):
            return asked
        if self._processes is not None:
            return self._processes
        return max(wants_more(one.verdicts, asked) for one in recorded)

    def _measured(
        self, nodeid: str, recorded: tuple[Recorded, ...], numbers: range
    ) -> tuple[Recorded, ...]:
        request = Request.like(nodeid, recorded)

        def waiting(number: int) -> Callable[[], None]:
            return lambda: self._progress(f"{request.test}: process {number} of {numbers[-1]}")

        self._workers.start(numbers, waiting(numbers[0]))
        for number in numbers:
            answer = self._workers.measure(number, request, waiting(number))
            recorded = joined(recorded, answer, number)
            if has_problem(recorded):
                break
        return recorded


def has_problem(recorded: Iterable[Recorded]) -> bool:
    """
    Return whether a kernel of a test is wrong, in whichever process that showed.
    """
    return any(one.measurement.problem for one in recorded)


def joined(recorded: Iterable[Recorded], answer: Answer, number: int) -> tuple[Recorded, ...]:
    """
    Return a test's records with what one more process brought; their verdicts are the old ones.
    """
    if answer.failure:
        return noted(recorded, f"process {number} is missing: {answer.failure}")
    brought = {one.measurement.case: one.measurement for one in answer.recorded}
    return tuple(
        replace(
            one, measurement=_joined(one.measurement, brought.get(one.measurement.case), number)
        )
        for one in recorded
    )


def _joined(first: Measurement, other: Measurement | None, number: int) -> Measurement:
    if other is None:
        return with_notes(first, f"process {number} is missing: it did not measure this case")
    if other.problem is not None:
        return replace(first, problem=other.problem)
    if (other.method, other.plan) != (first.method, first.plan):
        return with_notes(
            first,
            f"process {number} is missing: it measured otherwise ({other.method}, {other.plan})",
        )
    signature = first.processes[0]
    if away := [each for each in other.processes if _device(each) != _device(signature)]:
        return with_notes(
            first,
            f"process {number} is missing: it measured on another device "
            f"({' '.join(_device(away[0]))}, not {' '.join(_device(signature))})",
        )
    added = (each.signed(signature.commit, signature.who) for each in other.processes)
    return replace(
        with_notes(first, *other.notes),
        processes=(*first.processes, *added),
        checks=_both(first.checks, other.checks),
    )


def _device(process: Process) -> tuple[str, str]:
    return process.environment.device_name, process.environment.card


def _both(first: Checks, other: Checks) -> Checks:
    differences = [
        one.max_abs_difference for one in (first, other) if one.max_abs_difference is not None
    ]
    return Checks(
        outputs_checked=first.outputs_checked + other.outputs_checked,
        max_abs_difference=max(differences, default=None),
        inputs_checked=first.inputs_checked + other.inputs_checked,
        poisoned=first.poisoned + other.poisoned,
    )


def noted(recorded: Iterable[Recorded], note: str) -> tuple[Recorded, ...]:
    """
    Return records whose measurements carry one more note.
    """
    return tuple(replace(one, measurement=with_notes(one.measurement, note)) for one in recorded)


def with_notes(measurement: Measurement, *notes: str) -> Measurement:
    """
    Return a measurement with further notes; what it says already is not said twice.
    """
    return replace(measurement, notes=tuple(dict.fromkeys((*measurement.notes, *notes))))
