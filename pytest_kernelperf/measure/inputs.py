"""
The rotating copies of a call's arguments: other memory each round, beyond the L2 where wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_kernelperf.measure import tensors
from pytest_kernelperf.measure.card import Card
from pytest_kernelperf.measure.guard import Guard
from pytest_kernelperf.measure.plan import LATER_COPY_SHARE, refuse_too_large
from pytest_kernelperf.measure.subject import Subject
from pytest_kernelperf.model import Problem


@dataclass(frozen=True)
class Lane:
    """
    One of the callables that are measured side by side (often the only one).
    """

    name: str
    subject: Subject
    guard: Guard


class InputSets:
    """
    New copies of one lane's arguments, made for one round.

    Attributes:
        footprint_bytes: What one call can touch through its arguments.
        copy_bytes: Memory that one copy takes.
    """

    def __init__(self, lane: Lane, card: Card, count: int) -> None:
        args, kwargs = lane.guard.begin_round()
        self._lane = lane
        self._called = 0
        self.footprint_bytes = tensors.footprint_bytes(args, kwargs)
        self.copy_bytes = tensors.copy_bytes(args, kwargs)
        free_bytes, fn = card.free_bytes(), lane.subject.fn
        refuse_too_large(count, self.copy_bytes, free_bytes, fn, share=LATER_COPY_SHARE)
        self._sets = [tensors.copy_call(args, kwargs) for _ in range(count)]
        for copied in self._sets:
            lane.guard.restore(*copied)

    def __len__(self) -> int:
        return len(self._sets)

    def call(self, index: int) -> Any:
        """
        Call the subject on the set whose turn it is.
        """
        self._called = max(self._called, index + 1)
        args, kwargs = self._sets[index % len(self._sets)]
        return self._lane.subject.fn(*args, **kwargs)

    def restore(self, index: int | None = None) -> None:
        """
        Give the arguments that the callable writes their content back, in one set or in all.
        """
        if not self._lane.subject.mutates:
            return
        for args, kwargs in self._sets if index is None else [self._sets[index % len(self._sets)]]:
            self._lane.guard.restore(args, kwargs)

    def make_ready(self, outputs: Sequence[Any]) -> None:
        """
        Poison the outputs that the calls will write again, and restore what they change.
        """
        for output in outputs:
            self._lane.guard.poison(output)
        self.restore()

    def check(self, outputs: Sequence[Any] = ()) -> Problem | None:
        """
        Look whether outputs are right, and the first and the last set as a call must leave them.
        """
        for output in outputs:
            problem = self._lane.guard.check_output(output)
            if problem is not None:
                return problem
        last = min(self._called, len(self._sets)) - 1
        for index in sorted({0, last} - {-1}):
            problem = self._lane.guard.check_inputs(*self._sets[index])
            if problem is not None:
                return problem
        return None

    def needs_flush(self, card: Card, cold: bool) -> bool:
        """
        Return whether the copies alone are too small to keep the L2 cold.
        """
        return cold and 0 < len(self._sets) * self.footprint_bytes < 2 * card.l2_bytes


@dataclass
class InARow:
    """
    Calls one after the other on the current stream, without a graph.

    Attributes:
        marks: A pair of events per call, recorded around it; empty for none.
        outputs: Those of the first, a middle and the last call of the newest run.
    """

    sets: InputSets
    calls: int
    marks: Sequence[tuple[Any, Any]] = ()
    outputs: tuple[Any, ...] = ()

    def run(self) -> None:
        """
        Make the calls; whatever the last run's outputs occupied is free for these.
        """
        self.outputs = ()
        held = {0, self.calls // 2, self.calls - 1}
        outputs = []
        for index in range(self.calls):
            output = self._call(index)
            if index in held:
                outputs.append(output)
        self.outputs = tuple(outputs)

    def times_us(self) -> tuple[float, ...]:
        """
        Return what each pair of marks read, once the device is done.
        """
        return tuple(round(begin.elapsed_time(end) * 1e3, 6) for begin, end in self.marks)

    def _call(self, index: int) -> Any:
        if not self.marks:
            return self.sets.call(index)
        begin, end = self.marks[index]
        begin.record()
        output = self.sets.call(index)
        end.record()
        return output
