"""
A measuring run against a revision: fresh processes of both sides take turns, test by test.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Any

import pytest

from pytest_kernelperf.against.other_side import OtherSide
from pytest_kernelperf.against.revision import Revision
from pytest_kernelperf.errors import RevisionError
from pytest_kernelperf.model import Against, Measurement, Recorded, Status
from pytest_kernelperf.processes.budget import Budget
from pytest_kernelperf.processes.escalation import Answer, Request, noted, with_notes
from pytest_kernelperf.processes.workers import Collected, Launch, Pool
from pytest_kernelperf.units import listed

#: Pairs of processes after which the data are looked at.
LOOKS = (3, 5)
_BEFORE, _AFTER = "before", "after"
_PLUGIN_IS_OFF = "; its configuration keeps this plugin out: compare with another revision"


@dataclass(frozen=True, slots=True)
class Demand:
    """
    How much a paired run may take.

    Attributes:
        pairs: Pairs of processes per test; None = as many as its verdicts need.
        budget_s: Time in them, whole run; None = no limit.
        limit_s: Longest wait for a process's start or answer; 0 = for ever.
    """

    pairs: int | None
    budget_s: float | None
    limit_s: float


class PairedRun:
    """
    Measures each test at a revision and as it is now, in pairs of processes.

    Pair by pair the side that begins changes: before, after, after, before, and so on.

    Args:
        launch: Returns how this pytest was started, with the sources that it has imported so far.
        other: The side to compare with.
        demand: How much it may take.
        progress: Told who measures.
    """

    def __init__(
        self,
        launch: Callable[[], Launch],
        other: OtherSide,
        demand: Demand,
        progress: Callable[[str], None],
    ) -> None:
        self._launches = {_AFTER: launch}
        self._other = other
        self._demand = demand
        self._progress = progress
        self._pool = Pool(
            lambda number: self._launches[_AFTER if number % 2 else _BEFORE](), demand.limit_s
        )
        self._there: frozenset[str] = frozenset()
        self._budget = Budget(demand.budget_s)
        self._handlers: dict[int, Any] = {}

    @property
    def against(self) -> Against:
        """
        What a measurement is compared with as long as nothing of it was measured.
        """
        revision = self._other.revision
        return Against(revision.label, revision.commit, missing="the test ended before that")

    def prepare(self, selected: Sequence[str]) -> list[str]:
        """
        Check the revision out, build it, and start the first processes of both sides.

        Args:
            selected: Node ids of the tests that will measure.

        Returns:
            Sentences on what is compared, and on tests that one side has alone.

        Raises:
            RevisionError: If there is nothing that could be compared with.
        """
        self._handle_signals()
        name = self._other.revision.label

        def waiting() -> None:
            self._progress(f"preparing {name}")

        waiting()
        try:
            # Its sources are the revision's own.
            there = replace(self._other.make(self._launches[_AFTER](), waiting), sources={})
            self._launches[_BEFORE] = lambda: there
            # All that the first look needs: those that start together take as long as one alone.
            self._pool.start(_numbers_of(range(1, self._wanted((), 0) + 1)), waiting)
        finally:
            self._progress("")
        before, after = (self._pool.collected(number) for number in _numbers(1))
        found = _checked(before, selected, self._other.revision)
        self._there = frozenset(found.measured)
        # A test that was named becomes its file there: the others in it were not asked for.
        all_asked = not any("::" in one for one in self._launches[_AFTER]().args)
        beside = after.measured if isinstance(after, Collected) and all_asked else found.measured
        return [f"compared with {name}", *_one_sided(name, selected, found, beside)]

    def settle(
        self,
        nodeid: str,
        recorded: Sequence[Recorded],
        judge: Callable[[Recorded], Recorded],
    ) -> tuple[Recorded, ...]:
        """
        Return a test's records with both sides measured in as many pairs as they need, judged.

        Args:
            nodeid: The test.
            recorded: What this process measured: it gives the plan.
            judge: Judges a record anew.

        Raises:
            RevisionError: If the revision's process ran code that is not the revision's.
        """
        found = [_Pairing(one) for one in recorded]
        if nodeid not in self._there:
            missing = f"there is no test {nodeid} that measures"
            return tuple(judge(self._record(replace(one, missing=missing))) for one in found)
        request = Request.like(nodeid, recorded)
        judged, done = tuple(recorded), 0
        while (total := self._wanted(judged, done)) > done:
            if done and self._budget.is_spent:
                return noted(judged, self._budget.note(f"{done} pairs"))
            try:
                with self._budget.spending():
                    found = self._measured(request, found, range(done + 1, total + 1))
            finally:
                self._progress("")
            judged, done = tuple(judge(self._record(one)) for one in found), total
        return judged

    def abandon(self) -> None:
        """
        End all at once: this process is about to be ended.
        """
        self._pool.abandon()
        self._other.remove()

    def close(self) -> None:
        """
        End the processes and remove the checkout.
        """
        try:
            self._pool.stop()
        finally:
            self._other.remove()
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers = {}

    def _wanted(self, judged: Sequence[Recorded], done: int) -> int:
        if self._demand.pairs is not None:
            return self._demand.pairs
        if not done:
            return LOOKS[0]
        verdicts = [each for one in judged for each in one.verdicts if each.judged]
        undecided = any(each.status is Status.INCONCLUSIVE for each in verdicts)
        return next((look for look in LOOKS if undecided and look > done), done)

    def _measured(self, request: Request, found: list[_Pairing], pairs: range) -> list[_Pairing]:
        test = request.test
        self._pool.start(_numbers_of(pairs), lambda: self._progress(f"{test}: starting processes"))
        for pair in pairs:
            answers = {}
            for number in _numbers(pair):
                side = _AFTER if number % 2 else _BEFORE
                text = f"{test}: pair {pair} of {pairs[-1]}, {side}"
                answer = self._pool.measure(number, request, partial(self._progress, text))
                _refuse_strays(answer.strays, self._other.revision)
                answers[side] = answer
            found = [one.joined(pair, answers[_BEFORE], answers[_AFTER]) for one in found]
            if any(one.is_decided for one in found):
                break
        return found

    def _record(self, found: _Pairing) -> Recorded:
        against = replace(self.against, missing=found.missing)
        own = found.recorded.measurement
        if found.missing:
            return replace(
                found.recorded, measurement=with_notes(own, *found.notes), against=against
            )
        first = own.processes[0]
        after = _signed(found.after or replace(own, processes=()), first.commit, first.who)
        before = _signed(found.before or replace(own, processes=()), against.commit, first.who)
        notes = with_notes(own, *after.notes, *found.notes).notes
        return replace(
            found.recorded,
            measurement=replace(after, notes=notes),
            against=replace(against, measurement=before),
        )

    def _handle_signals(self) -> None:
        """
        Let a signal that ends the process end the run instead, so that it can tidy up.
        """

        def end(number: int, frame: FrameType | None) -> None:
            pytest.exit(f"ended by {signal.Signals(number).name}", returncode=128 + number)

        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is signal.SIG_DFL:
                    self._handlers[number] = signal.signal(number, end)


@dataclass(frozen=True, slots=True)
class _Pairing:
    """
    One case's two sides, as far as they were measured.

    Attributes:
        recorded: What the run's own process measured.
        before, after: The two sides; their processes pair.
        missing: Why the revision has nothing to compare with.
    """

    recorded: Recorded
    before: Measurement | None = None
    after: Measurement | None = None
    missing: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_decided(self) -> bool:
        """
        Whether more pairs would tell nothing.
        """
        return bool(self.missing) or bool(self.after and self.after.problem)

    def joined(self, pair: int, before: Answer, after: Answer) -> _Pairing:
        """
        Return it with one more pair, or with a note on why that is left out.
        """
        if self.is_decided:
            return self
        key = self.recorded.measurement.case.key
        old, new = _of_case(before, key), _of_case(after, key)
        if isinstance(new, Measurement) and new.problem is not None:
            return replace(self, after=replace(new, processes=()))
        if isinstance(old, Measurement) and old.problem is not None:
            old = f"it is INVALID there: {old.problem.message}"
        if isinstance(old, str) and self.before is None and not before.is_lost:
            return replace(self, missing=old.removesuffix("."))
        for one, known in ((old, self.before), (new, self.after)):
            why = one if isinstance(one, str) else _unlike(one, known)
            if why:
                return replace(self, notes=(*self.notes, f"pair {pair} is left out: {why}"))
        assert isinstance(old, Measurement)
        assert isinstance(new, Measurement)
        case = replace(old.case, file=new.case.file)
        return replace(
            self,
            before=_extended(self.before, replace(old, case=case)),
            after=_extended(self.after, new),
        )


def _of_case(answer: Answer, key: str) -> Measurement | str:
    if answer.failure:
        return answer.failure
    brought = (one.measurement for one in answer.recorded if one.measurement.case.key == key)
    return next(brought, "the test does not measure this case")


def _unlike(one: Measurement, known: Measurement | None) -> str:
    if known is None or (one.method, one.plan) == (known.method, known.plan):
        return ""
    return f"it was measured otherwise ({one.method}, {one.plan})"


def _extended(known: Measurement | None, one: Measurement) -> Measurement:
    if known is None:
        return one
    return replace(with_notes(known, *one.notes), processes=(*known.processes, *one.processes))


def _signed(measurement: Measurement, commit: str, who: str) -> Measurement:
    return replace(
        measurement, processes=tuple(one.signed(commit, who) for one in measurement.processes)
    )


def _numbers(pair: int) -> tuple[int, int]:
    """
    Return the workers of a pair in the order that they measure; odd ones measure the working tree.

    The run itself is process 1.
    """
    before, after = 2 * pair, 2 * pair + 1
    return (before, after) if pair % 2 else (after, before)


def _numbers_of(pairs: range) -> list[int]:
    return [number for pair in pairs for number in _numbers(pair)]


def _checked(before: Collected | str, selected: Sequence[str], revision: Revision) -> Collected:
    """
    Return what the revision's process collected.

    Raises:
        RevisionError: If it could not start or import, imported what is not the revision's, or has
            these tests from before they measured.
    """
    if isinstance(before, str):
        off = _PLUGIN_IS_OFF if "unrecognized arguments: --kernelperf" in before else ""
        raise RevisionError(f"{revision.label} can't be measured: {before}{off}")
    _refuse_strays(before.strays, revision)
    files = {nodeid.partition("::")[0] for nodeid in selected}
    for where, why in before.errors.items():
        if any(file == where or file.startswith(f"{where}/") for file in files):
            raise RevisionError(
                f"{revision.label} can't be measured: it can't import {where}: {why}. Install what "
                "that revision needs, or compare with one that runs with what is installed"
            )
    known = [nodeid for nodeid in selected if nodeid in before.unmeasured]
    if known and not before.measured:
        raise RevisionError(
            f"{revision.label} can't be measured: it lacks the plugin, for none of its tests is "
            f"marked or uses the fixture, not even {listed(known)}; compare with a later revision"
        )
    return before


def _refuse_strays(strays: Sequence[str], revision: Revision) -> None:
    if strays:
        raise RevisionError(
            f"{revision.label} was not measured: expected its own modules, got "
            f"{listed(strays)}, so both sides would run the same code. "
            "Install the project editable (pip install -e .) or not at all, and let tests import "
            "it from the folder that they are in"
        )


def _one_sided(
    name: str, selected: Sequence[str], before: Collected, after: Sequence[str]
) -> list[str]:
    only_after = [nodeid for nodeid in selected if nodeid not in before.measured]
    only_before = [nodeid for nodeid in before.measured if nodeid not in after]
    said = []
    if only_after:
        said.append(f"not in {name}, so compared with nothing: {listed(only_after)}")
    if only_before:
        said.append(f"only in {name}, so not compared: {listed(only_before)}")
    return said
