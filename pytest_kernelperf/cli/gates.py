"""
Finds the baselines that recorded measurements belong to, and what lost its own since.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pytest_kernelperf.cli.parameters import root_of
from pytest_kernelperf.gate import Gate, judge_run
from pytest_kernelperf.model import Case, Recorded
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

    def uncompared(self, run: Run) -> tuple[Case, ...]:
        """
        Return the cases of a run as it was recorded that had a baseline then, and have none now.
        """
        return tuple(
            each.measurement.case
            for each in run.recorded
            if each.had_baseline and not self.of(run, each).has_baseline(each.measurement)
        )

    def _at(self, root: Path) -> Gate:
        if root not in self._gates:
            self._gates[root] = Gate(root)
            self._gates[root].check_all()
        return self._gates[root]
