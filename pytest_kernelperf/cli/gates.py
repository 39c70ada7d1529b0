"""
Finds the baselines that recorded measurements belong to, and what lost its own since.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pytest_kernelperf.cli.parameters import root_of
from pytest_kernelperf.gate import Gate, judge_run
from pytest_kernelperf.model import Case, Recorded, Status
from pytest_kernelperf.store.runs import Run


class Gates:
    """
    The gates of recorded runs, each made once.

    Args:
        named: The folder of baselines that the user named; None: each test file's own.
    """

    def __init__(self, named: Path | None) -> None:
        self._named = named
        self._gates: dict[Path, Gate] = {}

    def all(self) -> Iterable[Gate]:
        """
        Return the gates that were needed, or the one of the folder around if none was.
        """
        return tuple(self._gates.values()) or (self._at(root_of(self._named)),)

    def of(self, run: Run, recorded: Recorded) -> Gate:
        """
        Return the gate of one of a run's measurements.

        Raises:
            BaselineFormatError: If a file of its baselines can't be read.
        """
        case = recorded.measurement.case
        # A project inside the one that pytest was started in keeps its own baselines, and its
        # files are named from there: pytest's longer name tells which it is.
        file = run.nodeid_of(case).partition("::")[0]
        inner = file.removesuffix(case.file).strip("/") if file.endswith(f"/{case.file}") else ""
        return self._at(root_of(self._named, inner))

    def judge(self, run: Run) -> Run:
        """
        Return a recorded run with all its verdicts computed anew.
        """
        return judge_run(run, lambda recorded: self.of(run, recorded))

    def _at(self, root: Path) -> Gate:
        if root not in self._gates:
            self._gates[root] = Gate(root)
            self._gates[root].check_all()
        return self._gates[root]


def find_uncompared(before: Run, after: Run) -> tuple[Case, ...]:
    """
    Return the cases that were compared with a baseline once, and now have none.

    Args:
        before: As recorded.
        after: The same, judged again.
    """
    pairs = zip(before.recorded, after.recorded, strict=True)
    return tuple(now.measurement.case for was, now in pairs if _had_one(was) and _has_none(now))


def _had_one(recorded: Recorded) -> bool:
    return any(each.baseline_us is not None for each in recorded.verdicts)


def _has_none(recorded: Recorded) -> bool:
    return any(each.status is Status.NO_BASELINE for each in recorded.verdicts)
