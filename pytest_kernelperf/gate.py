"""
The gate: judges measurements against stored baselines and applies updates.

The plugin and the command share it, so a stored run is judged exactly as it was live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kernelperf.errors import BaselineWriteError, KernelPerfError
from pytest_kernelperf.model import (
    Case,
    Change,
    Entry,
    Limits,
    Measurement,
    Plan,
    Process,
    Recorded,
    Reference,
    UpdateMode,
    UpdateReport,
    Verdict,
)
from pytest_kernelperf.store.anchor import slug as slug_of
from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.calibrations import read_calibration
from pytest_kernelperf.store.entries import normalised
from pytest_kernelperf.store.margins import noise_of, restate
from pytest_kernelperf.store.update import LOST, Decision, Joined, decide_update, join_runs

if TYPE_CHECKING:
    from pytest_kernelperf.analysis import Noise
    from pytest_kernelperf.analysis.proof import Proof
    from pytest_kernelperf.store.runs import Run

__all__ = ["Gate", "UpdateMode", "judge_run"]

#: Actions that change a reference, and with it what is known of noise.
_MOVING = ("added", "moved", "extended")


class Gate:
    """
    One folder of baselines, asked for plans and verdicts, and changed only by `update`.

    Args:
        baselines: The `baselines` folder; it need not exist.
    """

    def __init__(self, baselines: Path) -> None:
        self.baselines = Baselines(baselines)
        self._noise: dict[str, Noise] = {}

    def check_all(self) -> None:
        """
        Read all baselines, so that a bad file is found before any time is spent on measuring.

        Raises:
            BaselineFormatError: For the first file that can't be read.
        """
        self.baselines.check_all()
        for slug in self.baselines.slugs():
            read_calibration(self.baselines.root, slug)

    def check_writable(self, case_file: str, device_name: str) -> None:
        """
        Refuse a file that an update could not write, before anything is measured for it.

        Raises:
            BaselineWriteError: If the file or its folder is read-only.
        """
        self.baselines.check_writable(slug_of(device_name), case_file)

    def pinned_plan(self, case: Case, device_name: str) -> Plan | None:
        """
        Return the plan of a case's baseline, which a new measurement must reuse.
        """
        entry = self.baselines.load(slug_of(device_name), case.file).get(case.key)
        return entry.reference.plan if entry else None

    def calibrations(self, recorded: Iterable[Recorded]) -> dict[str, Proof]:
        """
        Return what was proven about this gate, by the slug of each card model measured on.
        """
        slugs = sorted({_slug(each.measurement) for each in recorded} - {""})
        found = {slug: read_calibration(self.baselines.root, slug) for slug in slugs}
        return {slug: proof for slug, proof in found.items() if proof is not None}

    def judge(self, measurement: Measurement, limits: Limits) -> tuple[Verdict, ...]:
        """
        Judge a measurement against its card model's baseline.
        """
        slug = _slug(measurement)
        entries = self.baselines.load(slug, measurement.case.file) if slug else {}
        return self._judge(measurement, limits, slug, entries.get(measurement.case.key))

    def has_baseline(self, measurement: Measurement) -> bool:
        """
        Return whether something is stored for a measurement's case on its card model.
        """
        slug, case = _slug(measurement), measurement.case
        return bool(slug) and case.key in self.baselines.load(slug, case.file)

    def judge_again(self, recorded: Recorded) -> Recorded:
        """
        Return a record with the verdicts that it gets now.
        """
        from pytest_kernelperf.analysis import judge_against

        if recorded.against is not None:
            verdicts = judge_against(recorded.measurement, recorded.against, recorded.limits)
        else:
            verdicts = self.judge(recorded.measurement, recorded.limits)
        return replace(recorded, verdicts=verdicts)

    def update(self, recorded: Sequence[Recorded], mode: UpdateMode) -> UpdateReport:
        """
        Take measurements into the baselines, as far as the rules of an update allow.

        Several measurements of one case (from several runs) are joined first. Each is judged
        again against what is stored at that moment, under the file's lock, so that what another
        process stored since then is neither lost nor overlooked.

        Returns:
            The files written and one change per case.

        Raises:
            KernelPerfError: If a file can't be read or written; the others are written.
        """
        written: list[str] = []
        changes: list[Change] = []
        errors: list[KernelPerfError] = []
        moved: dict[str, dict[str, list[str]]] = {}
        for (slug, file), cases in _by_file(recorded).items():
            try:
                path, done = self._update_file(slug, file, cases, mode)
            except KernelPerfError as error:
                errors.append(error)
                continue
            changes.extend(done)
            written.extend([path] if path else [])
            if keys := [each.case.key for each in done if each.action in _MOVING]:
                moved.setdefault(slug, {})[file] = keys
        for slug, keys_by_file in moved.items():
            try:
                restate(self.baselines, slug, keys_by_file)
            except KernelPerfError as error:
                errors.append(error)
        if errors:
            raise _joined_error(errors, written)
        return UpdateReport(tuple(written), tuple(changes))

    def _update_file(
        self, slug: str, file: str, cases: Mapping[str, Sequence[Recorded]], mode: UpdateMode
    ) -> tuple[str | None, list[Change]]:
        changes: list[Change] = []
        stored: dict[str, Entry | None] = {}

        def decide(entries: Mapping[str, Entry]) -> Mapping[str, Entry | None]:
            for key, runs in cases.items():
                change, entry = self._update_case(slug, runs, entries.get(key), mode)
                changes.append(change)
                if entry is not None:
                    stored[key] = entry
            return stored

        if not slug:  # nothing was measured: nothing to store, and no card to store it under
            decide({})
            return None, changes
        path = self.baselines.update(slug, file, decide)
        return (str(path) if stored else None), changes

    def _update_case(
        self, slug: str, runs: Sequence[Recorded], entry: Entry | None, mode: UpdateMode
    ) -> tuple[Change, Entry | None]:
        joined = join_runs([self._judged(run, slug, entry) for run in runs])
        recorded = self._judged(joined.recorded, slug, entry)
        decision = decide_update(recorded, entry, mode)
        if joined.contradiction and not mode.new_only:
            decision = Decision("refused", joined.contradiction)
        if entry is None and not mode.begin_anew and any(run.had_baseline for run in runs):
            decision = Decision("refused", LOST)
        percentiles = sorted({v.percentile for v in recorded.verdicts if v.judged})
        case = recorded.measurement.case
        stored = self._completed(slug, case, decision, percentiles)
        change = Change(
            case=case,
            action=decision.action,
            sentence="; ".join(
                [decision.sentence, *(f"left out: {why}" for why in joined.left_out)]
            ),
            before_us=_times(entry.reference, percentiles) if entry else {},
            after_us=_after(decision, stored, joined, recorded.verdicts),
        )
        return change, stored

    def _completed(
        self, slug: str, case: Case, decision: Decision, percentiles: Sequence[float]
    ) -> Entry | None:
        """
        Return the entry as it will be read back, with the margins that its noise supports.
        """
        from pytest_kernelperf.analysis import margins

        if decision.entry is None:
            return None
        entry = normalised(decision.entry, case.key)
        if decision.action == "kept":
            return entry
        supported = margins(case.regime, entry.reference, percentiles, self._noise_of(slug))
        return normalised(
            replace(entry, reference=replace(entry.reference, margins=supported)), case.key
        )

    def _judged(self, recorded: Recorded, slug: str, entry: Entry | None) -> Recorded:
        verdicts = self._judge(recorded.measurement, recorded.limits, slug, entry)
        return replace(recorded, verdicts=verdicts)

    def _judge(
        self, measurement: Measurement, limits: Limits, slug: str, entry: Entry | None
    ) -> tuple[Verdict, ...]:
        from pytest_kernelperf.analysis import explained, judge

        case = measurement.case
        hints = self.baselines.elsewhere(slug, case) if slug and entry is None else []
        verdicts = judge(measurement, entry, limits, self._noise_of(slug), elsewhere=hints)
        if entry is None:
            return verdicts
        return tuple(explained(each, measurement, entry.reference) for each in verdicts)

    def _noise_of(self, slug: str) -> Noise:
        # Once: while a run updates its own baselines, all its verdicts share one prior.
        if slug not in self._noise:
            self._noise[slug] = noise_of(self.baselines, slug)
        return self._noise[slug]


def judge_run(run: Run, gate_for: Callable[[Recorded], Gate]) -> Run:
    """
    Return a recorded run with all its verdicts computed anew.

    Args:
        run: As it was read.
        gate_for: Gives the gate with the baselines that a record belongs to.
    """
    from pytest_kernelperf.analysis import contrast_again, judge_again

    return replace(
        run,
        recorded=tuple(gate_for(each).judge_again(each) for each in run.recorded),
        comparisons=tuple(map(judge_again, run.comparisons)),
        independences=tuple(map(contrast_again, run.independences)),
    )


def _joined_error(errors: Sequence[KernelPerfError], written: Sequence[str]) -> KernelPerfError:
    if len(errors) == 1 and not written:
        return errors[0]
    lines = [*(str(error) for error in errors), *(f"written all the same: {p}" for p in written)]
    return BaselineWriteError("\n".join(lines))


def _slug(measurement: Measurement) -> str:
    processes: tuple[Process, ...] = measurement.processes
    return slug_of(processes[0].environment.device_name) if processes else ""


def _by_file(
    recorded: Sequence[Recorded],
) -> dict[tuple[str, str], dict[str, list[Recorded]]]:
    grouped: dict[tuple[str, str], dict[str, list[Recorded]]] = {}
    for record in recorded:
        case = record.measurement.case
        cases = grouped.setdefault((_slug(record.measurement), case.file), {})
        cases.setdefault(case.key, []).append(record)
    return grouped


def _after(
    decision: Decision, stored: Entry | None, joined: Joined, verdicts: Sequence[Verdict]
) -> dict[float, float]:
    """
    Return the new reference's times; where that stays, those that were measured.
    """
    judged = [each for each in verdicts if each.judged]
    if stored is not None:
        # As they are stored, to the last digit.
        shown = stored.latest if decision.action == "kept" else stored.reference
        return _times(shown, [each.percentile for each in judged]) if shown else {}
    if joined.contradiction or joined.recorded.measurement.problem is not None:
        return {}  # No time of these is one of the kernel's.
    return {each.percentile: each.time_us for each in judged if each.time_us is not None}


def _times(reference: Reference, percentiles: Sequence[float]) -> dict[float, float]:
    from pytest_kernelperf.analysis import percentile_us

    return {q: percentile_us(reference.processes, q) for q in percentiles}
