"""
Collects what a run's tests measured, and records and tells it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kernelperf.errors import KernelPerfError
from pytest_kernelperf.failures import excused, untold
from pytest_kernelperf.model import (
    Change,
    Comparison,
    Compiled,
    Independence,
    Recorded,
    Status,
    Verdict,
)
from pytest_kernelperf.outcome import Outcome
from pytest_kernelperf.storing import by_root, store
from pytest_kernelperf.units import listed

if TYPE_CHECKING:
    from pytest_kernelperf.analysis.proof import Proof
    from pytest_kernelperf.settings import Settings
    from pytest_kernelperf.store.runs import RunWriter


class Ledger:
    """
    All outcomes of a run, and the files it was asked for.

    Args:
        settings: What the run was asked to do.
        rerun: Returns the command that runs one test again.
    """

    def __init__(self, settings: Settings, rerun: Callable[[str], str]) -> None:
        self._settings = settings
        self._rerun = rerun
        self._outcomes: list[Outcome] = []
        self._writer: RunWriter | None = None
        self._changes: list[Change] = []
        self._ran: set[str] = set()
        self._uncollected: set[str] = set()
        self._failed: dict[str, bool] = {}
        self._has_failed = False
        self.selected: tuple[str, ...] = ()
        #: Whether a test ran or was deselected, measured or not.
        self.has_tests = False
        #: Set while the process that knows what is selected, a worker of xdist, has not told it.
        self.awaits_selected = False
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self.interrupted = False

    @property
    def verdicts(self) -> list[Verdict]:
        """
        All verdicts so far, in the order of the tests.
        """
        return [verdict for outcome in self._outcomes for verdict in outcome.verdicts]

    @property
    def recorded(self) -> list[Recorded]:
        """
        All measurements so far.
        """
        return [one for outcome in self._outcomes for one in outcome.recorded]

    @property
    def compiled(self) -> list[Compiled]:
        """
        All that was compiled so far.
        """
        return [one for outcome in self._outcomes for one in outcome.compiled]

    @property
    def comparisons(self) -> list[Comparison]:
        """
        All comparisons so far.
        """
        return [one for outcome in self._outcomes for one in outcome.comparisons]

    @property
    def independences(self) -> list[Independence]:
        """
        All `data_independence` results so far.
        """
        return [one for outcome in self._outcomes for one in outcome.independences]

    def begin(self) -> None:
        """
        Put an end to an earlier run's files, which one that crashes would leave as its own.
        """
        from pytest_kernelperf.store.files import forget

        try:
            if self._settings.json is not None:
                forget(self._settings.json)
            if self._settings.record is not None:
                self._opened(self._settings.record)
        except KernelPerfError as error:
            self._complain(str(error))

    def absorb(self, outcome: Outcome) -> None:
        """
        Take what one test brought, and record it at once: a crash later must not lose it.
        """
        self._outcomes.append(outcome)
        self._ran.add(outcome.nodeid)
        if self._settings.record is None:
            return
        try:
            writer = self._opened(self._settings.record)
            for record in outcome.recorded:
                writer.append(record)
            for comparison in outcome.comparisons:
                writer.append(comparison)
            for independence in outcome.independences:
                writer.append(independence)
        except KernelPerfError as error:
            self._complain(str(error))

    def note_failure(self, nodeid: str, *, in_teardown: bool) -> None:
        """
        Take note that pytest reports a test as failed, whatever failed in it and when.
        """
        # Which tests were to measure may be told later than that one of them failed.
        self._failed[nodeid] = in_teardown or self._failed.get(nodeid, False)

    def note_uncollected(self, nodeid: str) -> None:
        """
        Take note that something could not be collected: what it would have measured is missing.
        """
        self._uncollected.add(nodeid)
        self._failed[nodeid] = False

    def finish(self, *, has_failed: bool) -> None:
        """
        Close the record, store baselines and write the JSON document, as far as asked.

        Args:
            has_failed: Whether pytest itself ends with a status of failure.
        """
        self._has_failed = has_failed
        if not self.awaits_selected:
            concerned = {*self.selected, *self._ran, *self._uncollected}
            self._failed = {name: how for name, how in self._failed.items() if name in concerned}
        rest = self._not_run()
        if rest:
            self.warnings.append(f"stopped early, {len(rest)} not measured: {listed(rest)}")
        # A comparison without a limit has nothing to be judged by, and was made all the same.
        told = any(v.judged for v in self.verdicts) or self.comparisons
        if self._settings.strict and self.has_tests and not told:
            self._complain(self._nothing_judged())
        steps = {
            "closing the record": self._close_record,
            "storing baselines": self._update,
            "writing the JSON document": self._write_json,
        }
        for what, step in steps.items():
            try:
                step()
            except KernelPerfError as error:
                self._complain(str(error))
            except KeyboardInterrupt:
                self.interrupted = True
                self.errors.append(
                    f"interrupted while {what}: files not named above are as they were; run again"
                )
                return

    def blocks(self, *, width: int, color: bool, quiet: bool) -> list[str]:
        """
        Return what the terminal shows at the end, block by block.

        Args:
            width: Columns of the terminal.
            color: Whether it shows colours.
            quiet: Leave out the table and what was not asked for.
        """
        lines = [*self._device_line(), *self.warnings, *(f"ERROR: {text}" for text in self.errors)]
        blocks = []
        # An interrupt within scipy's import leaves it unusable: then nothing was measured yet.
        if self._outcomes or self._changes:
            from pytest_kernelperf import report

            blocks = self._tables(width=width, color=color) if not quiet else []
            if self._changes:
                blocks.append(report.update_lines(self._changes))
            if not quiet:
                proven = self._proofs.items()
                lines = [*(report.calibration_line(*each) for each in proven), *lines]
        blocks.append("\n".join(f"kernelperf: {line}" for line in lines))
        return [block for block in blocks if block.strip()]

    def _tables(self, *, width: int, color: bool) -> list[str]:
        from pytest_kernelperf import report

        tabled = [verdict for outcome in self._outcomes for verdict in outcome.tabled]
        compared = self.comparisons, self.independences
        return [
            report.tables(tabled, *compared, width=width, color=color),
            report.limits_lines(one.measurement for one in self.recorded),
            report.reasons(self._to_explain(), rerun=self.rerun_command),
            "\n".join(self._measurement_notes()),
        ]

    def _to_explain(self) -> list[Verdict]:
        """
        Return the verdicts; a missing baseline that this run has just stored needs no cure.
        """
        added = {
            (change.case.file, change.case.key)
            for change in self._changes
            if change.action == "added"
        }
        return [
            verdict
            for verdict in self.verdicts
            if verdict.status is not Status.NO_BASELINE
            or (verdict.case.file, verdict.case.key) not in added
        ]

    def last_line(self) -> str:
        """
        Return the one line that says how much was judged.
        """
        if not self._outcomes and not self._failed:
            return "kernelperf: 0 judged"
        from pytest_kernelperf import report

        told = {outcome.nodeid for outcome in self._outcomes if outcome.verdicts}
        failed = sum(nodeid not in told for nodeid in self._failed)
        return report.last_line(self.verdicts, failed, len(self._lacking()))

    def rerun_command(self, verdict: Verdict) -> str:
        """
        Return the command that runs a verdict's test again.
        """
        place = verdict.case.file, verdict.case.test
        for outcome in self._outcomes:
            if (outcome.file, outcome.test) == place:
                return self._rerun(outcome.nodeid)
        return self._rerun(f"{verdict.case.file}::{verdict.case.test}")

    def _opened(self, path: Path) -> RunWriter:
        from pytest_kernelperf.store.runs import RunWriter

        if self._writer is None:
            self._writer = RunWriter(path)
        return self._writer

    def _close_record(self) -> None:
        if self._settings.record is not None:
            writer = self._opened(self._settings.record)
            is_complete = not (self.awaits_selected or self._not_run())
            writer.close(
                complete=is_complete,
                failed=untold(self._outcomes, self._failed, self._settings),
                excused=excused(self._outcomes, self._failed),
                nodeids={
                    one.place: one.nodeid
                    for one in self._outcomes
                    if one.is_recorded and one.place != one.nodeid
                },
            )

    @cached_property
    def _proofs(self) -> dict[str, Proof]:
        """
        What is proven about the gates of this run, by card model; read once, after an update.
        """
        from pytest_kernelperf.gate import Gate

        found: dict[str, Proof] = {}
        if self._settings.against:
            return found
        for root, recorded in by_root(self._outcomes, self._failed, self._settings).items():
            try:
                found |= Gate(root).calibrations(recorded)
            except KernelPerfError as error:
                self._complain(str(error))
        return found

    def _update(self) -> None:
        if not self._settings.updating:
            return
        for done in store(self._outcomes, self._failed, self._settings):
            self._changes += done.changes
            for text in done.errors:
                self._complain(text)

    def _write_json(self) -> None:
        path = self._settings.json
        if path is None:
            return
        from pytest_kernelperf import report
        from pytest_kernelperf.store.files import write_bytes

        text = report.run_json(
            self.recorded,
            self.comparisons,
            # A run that a second interrupt ends has no status of its own yet.
            self._has_failed or bool(self.errors or self._not_run()),
            independences=self.independences,
            unmeasured=[one.unmeasured for one in self._outcomes if one.unmeasured],
            compiled=self.compiled,
            failed_tests=tuple(self._failed),
            skipped_tests=self._lacking(),
            calibrations=self._proofs,
        )
        write_bytes(path, text.encode())

    def _complain(self, text: str) -> None:
        if text not in self.errors:
            self.errors.append(text)

    def _nothing_judged(self) -> str:
        found = f"none of {len(self.selected)} tests that could measure came to a verdict"
        if not self.selected:
            found = "no test to run is marked kernel_perf or uses the kernelperf fixture"
        return f"nothing was judged, which strict does not let pass: {found}"

    def _lacking(self) -> dict[str, str]:
        """
        Return what this machine lacks, by the test that was skipped for it.
        """
        return {outcome.nodeid: outcome.missing for outcome in self._outcomes if outcome.missing}

    def _not_run(self) -> list[str]:
        return [nodeid for nodeid in self.selected if nodeid not in self._ran]

    def _measurement_notes(self) -> list[str]:
        compared = (one.measurements.values() for one in self.comparisons)
        contrasted = (one.measurements.values() for one in self.independences)
        measurements = [one.measurement for one in self.recorded]
        found = [
            f"note: {one.case.label} ({one.case.timer}): {note}"
            for one in chain(measurements, *compared, *contrasted)
            for note in one.notes
        ]
        found += [
            f"note: {one.case.label} (compile {one.case.l2}): {note}"
            for one in self.compiled
            for note in one.notes
        ]
        return list(dict.fromkeys(found))

    def _device_line(self) -> list[str]:
        """
        Return the one line that says what this machine could not do.
        """
        missing = Counter(self._lacking().values())
        parts = [f"{count} skipped ({why})" for why, count in missing.items()]
        on_cpu = sum(_is_on_cpu(outcome.recorded) for outcome in self._outcomes)
        if on_cpu:
            parts.append(f"{on_cpu} measured on the CPU, with the wall timer")
        unrun = sum(_is_only_compiled(outcome) for outcome in self._outcomes)
        if unrun:
            parts.append(f"{unrun} compiled, not run: no times and no results without a GPU")
        return ["; ".join(parts)] if missing or unrun else []


def _is_only_compiled(outcome: Outcome) -> bool:
    return not outcome.recorded and any(one.kernels for one in outcome.compiled)


def _is_on_cpu(recorded: Iterable[Recorded]) -> bool:
    processes = [process for one in recorded for process in one.measurement.processes]
    return bool(processes) and all(process.environment.gpu is None for process in processes)
