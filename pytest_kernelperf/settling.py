"""
Has a test measured by other processes than this one: fresh ones, or pairs against a revision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest

from pytest_kernelperf.against.other_side import OtherSide
from pytest_kernelperf.against.paired_run import Demand, PairedRun
from pytest_kernelperf.against.revision import find_revision
from pytest_kernelperf.model import Against, Case, Plan, Recorded
from pytest_kernelperf.processes.budget import Budget
from pytest_kernelperf.processes.escalation import Escalation, Workers
from pytest_kernelperf.processes.sources import read_sources
from pytest_kernelperf.processes.sweep import Sweep
from pytest_kernelperf.processes.workers import Launch, Pool
from pytest_kernelperf.settings import Settings
from pytest_kernelperf.stash import WORKERS


class Settling:
    """
    The other processes of a run, from their preparation to their end.

    Args:
        config: Of the run.
        settings: What the run was asked to do.
        launch: How this pytest was started.
        progress: Told who measures.
    """

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        launch: Launch,
        progress: Callable[[str], None],
    ) -> None:
        self._config = config
        self._settings = settings
        self._launch = launch
        self._progress = progress
        self._sources: dict[str, str] = {}
        self._pool = Pool(lambda number: self._launch_as_now(), settings.hang_timeout_s)
        self._budget = Budget(settings.budget_s)
        self._sweep: Sweep | None = None
        self._escalation: Escalation | None = None
        self._paired: PairedRun | None = None

    def find_revision(self) -> None:
        """
        Find the revision to compare with, if the run is to compare with one.

        Raises:
            RevisionError: If there is none of that name.
        """
        settings, root = self._settings, self._config.rootpath
        if settings.against:
            other = OtherSide(find_revision(settings.against, root), root, settings.build or "")
            demand = Demand(settings.processes, settings.budget_s, settings.hang_timeout_s)
            self._paired = PairedRun(self._launch_as_now, other, demand, self._progress)

    @property
    def against(self) -> Against | None:
        """
        What measurements are compared with; None = baselines.
        """
        if self._paired is not None:
            return self._paired.against
        # A fresh process measures only; the run that it serves judges.
        return Against(self._settings.against, "") if self._settings.against else None

    def note_sources(self) -> None:
        """
        Take note of the project's files as they are now: fresh processes must find the same.
        """
        self._sources = read_sources(self._config.rootpath)

    def prepare(self, selected: Sequence[str]) -> list[str]:
        """
        Have the revision ready before the first test, and return what the run is to be told.

        Args:
            selected: Node ids of the tests that will measure.

        Raises:
            RevisionError: If there is nothing that could be compared with.
        """
        return self._paired.prepare(selected) if self._paired is not None else []

    def sweep(self, tests: Iterable[str]) -> None:
        """
        Have fresh processes measure before the first test, if their number is known by then.

        Args:
            tests: Node ids of the tests that can be measured here; looked at only if they are
                needed, since to tell them can take loading torch.
        """
        processes = self._settings.processes or 1
        if self._paired is not None or processes == 1:
            return
        if asked := tuple(tests):
            self._sweep = Sweep(self._workers(), self._budget, processes, self._progress)
            self._sweep.run(asked)

    def plan(self, case: Case) -> Plan | None:
        """
        Return how the fresh processes measured a case before the first test; None if none did.
        """
        return self._sweep.plan(case) if self._sweep is not None else None

    def settle(
        self,
        nodeid: str,
        recorded: Sequence[Recorded],
        judge: Callable[[Recorded], Recorded],
        release: Callable[[], None],
    ) -> Sequence[Recorded]:
        """
        Return a test's records with the processes that their verdicts need, judged anew.

        Args:
            nodeid: The test.
            recorded: What this process measured, judged.
            judge: Judges a record anew.
            release: Frees the memory that this process holds on the card.

        Raises:
            RevisionError: If the revision's process ran code that is not the revision's.
        """
        if self._paired is not None:
            release()
            return self._paired.settle(nodeid, recorded, judge)
        if self._sweep is not None and nodeid in self._sweep:
            return tuple(map(judge, self._sweep.complete(nodeid, recorded)))
        if self._escalation is None:
            self._escalation = Escalation(
                self._workers(),
                self._budget,
                processes=self._settings.processes,
                progress=self._progress,
            )
        if not self._escalation.needs_more(recorded):
            return recorded
        release()
        return self._escalation.settle(nodeid, recorded, judge)

    def abandon(self) -> None:
        """
        Leave nothing behind: this process is about to be ended.
        """
        self._workers().abandon()
        if self._paired is not None:
            self._paired.abandon()

    def close(self) -> None:
        """
        End the processes, however the run ended.
        """
        self._workers().stop()
        if self._paired is not None:
            self._paired.close()

    def _launch_as_now(self) -> Launch:
        return replace(self._launch, sources=self._sources)

    def _workers(self) -> Workers:
        return self._config.stash.get(WORKERS, self._pool)
