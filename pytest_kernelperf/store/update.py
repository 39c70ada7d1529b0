"""
The rules of an update: what may become the reference, and why not (docs/baseline-format.md).

Pure: decides on values, touches no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.model import (
    Case,
    Entry,
    Measurement,
    Process,
    Recorded,
    Reference,
    Status,
    UpdateMode,
    Verdict,
)
from pytest_kernelperf.units import counted

#: A reference is complete with this many processes: from the fifth on, more of them hardly narrow
#: the interval of a change (h100 measurements, 3 or 5 against 7 baseline processes).
COMPLETE_PROCESSES = 5
#: With fewer, it is judged with a wide margin.
FIRM_PROCESSES = 3


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What to do with one case.

    Attributes:
        action: As in `Change.action`.
        sentence: As in `Change.sentence`.
        entry: What to store; None leaves the file as it is.
    """

    action: str
    sentence: str
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """
    Several runs' measurements of one case as one.

    Attributes:
        recorded: The joined measurement, still with one run's verdicts.
        left_out: What was not taken, and why.
        contradiction: Why the runs can't be joined; "" if they can.
    """

    recorded: Recorded
    left_out: tuple[str, ...] = ()
    contradiction: str = ""


def decide_update(recorded: Recorded, entry: Entry | None, mode: UpdateMode) -> Decision:
    """
    Decide what an update does with one measurement.

    Args:
        recorded: The measurement with the verdicts that it got against `entry`.
        entry: What is stored now.
        mode: What the user allowed.

    Returns:
        The decision; a case with several judged percentiles moves only if none forbids it.
    """
    if entry is not None and mode.new_only:
        return Decision("kept", "has a baseline already; only new ones were asked for")
    if (obstacle := _obstacle(recorded)) is not None:
        return Decision("refused", obstacle)
    measured = _as_reference(recorded.measurement)
    if entry is None:
        sentence = "had no baseline" + _provisional(measured)
        return Decision("added", sentence, Entry(measured, measured))
    statuses = _statuses(recorded)
    if Status.REGRESSED in statuses and not mode.accept_regressions:
        return Decision(
            "refused",
            f"{_percentiles(recorded, {Status.REGRESSED})} is slower; to take the slower time as "
            f"the new reference add --kernelperf-accept-regressions (kernelperf update: "
            f"--accept-regressions)",
        )
    if statuses & {Status.REGRESSED, Status.IMPROVED}:
        what = "regression accepted" if Status.REGRESSED in statuses else "improved"
        return Decision("moved", what + _provisional(measured), Entry(measured, measured))
    return _unchanged(entry, measured)


def join_runs(runs: Sequence[Recorded]) -> Joined:
    """
    Join one case's measurements from several runs into one with all their processes.

    Runs that an update could not use alone are left out. Runs that contradict each other are not
    averaged away: one that got faster and one that got slower are not two that are unchanged.

    Args:
        runs: At least one, all of the same case key and card model, judged against what is stored.
    """
    passed = [run for run in runs if run.body_passed and run.measurement.problem is None]
    # All too uncertain: together they may not be. If only some are, the others say it better.
    certain = [run for run in passed if Status.INCONCLUSIVE not in _leanings(run)] or passed
    if not certain:
        return Joined(runs[0])
    first = certain[0]
    alike = [run for run in certain if _identity(run.measurement) == _identity(first.measurement)]
    left_out = (
        _counted(len(runs) - len(passed), "failed or invalid"),
        _counted(len(passed) - len(certain), "INCONCLUSIVE"),
        _counted(len(certain) - len(alike), "measured with another plan, method or inputs"),
    )
    processes = {p.id: p for run in alike for p in run.measurement.processes}
    joined = replace(first.measurement, processes=tuple(processes.values()))
    return Joined(
        replace(first, measurement=joined),
        tuple(text for text in left_out if text),
        _contradiction(alike),
    )


def _contradiction(runs: Sequence[Recorded]) -> str:
    said = Counter(
        " and ".join(sorted(_leanings(run) & {Status.IMPROVED, Status.REGRESSED})) or "unchanged"
        for run in runs
    )
    if len(said) < 2:
        return ""
    counts = ", ".join(f"{count} {what}" for what, count in sorted(said.items()))
    return f"the runs contradict each other ({counts}); judge them one by one, update with one"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count else ""


def _statuses(recorded: Recorded) -> set[Status]:
    return {verdict.status for verdict in _judged(recorded)}


def _leanings(recorded: Recorded) -> set[Status]:
    """
    Return the statuses, with what one process alone only suggests told by its direction.
    """
    return {_leaning(verdict) for verdict in _judged(recorded)}


def _leaning(verdict: Verdict) -> Status:
    if verdict.reason != Reason.ONE_PROCESS.value or verdict.change is None:
        return verdict.status
    return Status.REGRESSED if verdict.change > 0 else Status.IMPROVED


def _obstacle(recorded: Recorded) -> str | None:
    problem = recorded.measurement.problem
    if problem is not None:
        return f"INVALID ({problem.code}): nothing is stored; {problem.message}"
    if not _kept(recorded.measurement):
        return "no sample was kept; measure again on a quiet machine"
    if not recorded.body_passed:
        return "the test itself failed; nothing is stored until it passes"
    judged = _judged(recorded)
    if not judged:
        return "no percentile was judged; nothing to decide on"
    for status, sentence in _FORBIDDING.items():
        hits = [verdict for verdict in judged if verdict.status is status]
        if hits:
            names = _percentiles(recorded, {status})
            return f"{names} {status.value} ({hits[0].reason}): {sentence}{_escape(hits[0])}"
    # REGRESSED goes before MISSED_TARGET, and accepting the one is not accepting the other.
    missed = [f"P{verdict.percentile:g}" for verdict in judged if verdict.target_met is False]
    if missed:
        return f"{', '.join(missed)} is slower and {_FORBIDDING[Status.MISSED_TARGET]}"
    return None


def _escape(verdict: Verdict) -> str:
    """
    Return the way out where measuring again like this may never help.
    """
    if verdict.reason == Reason.ONE_PROCESS.value:
        return (
            "; one process moves no reference: measure in fresh processes, or update with the "
            "records of several runs at once"
        )
    fault = {
        Reason.PROVISIONAL.value: "the few processes stored are the odd ones",
        Reason.STRADDLES_MARGIN.value: "the processes stored scatter too much",
    }.get(verdict.reason)
    if fault is None:
        return ""
    return (
        f"; if that does not help, {fault}: remove them with kernelperf prune --tests and update "
        "again"
    )


#: Statuses that forbid an update, whatever the other percentiles say, and the cure of each.
_FORBIDDING = {
    Status.INVALID: "nothing is stored from an invalid measurement",
    Status.NOT_MEASURED: "nothing was measured",
    Status.INCOMPARABLE: (
        "the stored baseline was measured under other conditions; if the new ones are to stay, "
        "remove it with kernelperf prune --tests and update again"
    ),
    Status.INCONCLUSIVE: "too uncertain to store; measure again on a quiet machine",
    Status.MISSED_TARGET: "misses its target; make it faster or raise the target first",
}


def _unchanged(entry: Entry, measured: Reference) -> Decision:
    reference = entry.reference
    known = {process.id for process in reference.processes}
    new = [process for process in measured.processes if process.id not in known]
    if not new:
        return Decision("kept", "this measurement is in the baseline already")
    room = COMPLETE_PROCESSES - len(reference.processes)
    if room <= 0 or _plan_of(reference) != _plan_of(measured):
        return Decision("kept", "unchanged; the reference stays", Entry(reference, measured))
    extended = replace(
        reference,
        processes=(*reference.processes, *new[:room]),
        kernels=measured.kernels or reference.kernels,
    )
    sentence = f"unchanged; now {_count(extended.processes)} of {COMPLETE_PROCESSES}"
    return Decision("extended", sentence + _provisional(extended), Entry(extended, measured))


def _as_reference(measurement: Measurement) -> Reference:
    return Reference(
        plan=measurement.plan,
        method=measurement.method,
        inputs=measurement.case.inputs,
        processes=_kept(measurement),
        kernels=measurement.kernels,
    )


def _kept(measurement: Measurement) -> tuple[Process, ...]:
    # A round whose samples were all dropped says nothing that could be stored.
    rounds = {p.id: tuple(r for r in p.rounds if r.times_us) for p in measurement.processes}
    return tuple(replace(p, rounds=rounds[p.id]) for p in measurement.processes if rounds[p.id])


def _judged(recorded: Recorded) -> list[Verdict]:
    return [verdict for verdict in recorded.verdicts if verdict.judged]


def _percentiles(recorded: Recorded, statuses: Collection[Status]) -> str:
    found = [f"P{v.percentile:g}" for v in _judged(recorded) if v.status in statuses]
    return ", ".join(found)


def _provisional(reference: Reference) -> str:
    count = len(reference.processes)
    if count >= FIRM_PROCESSES:
        return ""
    return (
        f"; provisional with {_count(reference.processes)} (wide margin): update again in new "
        f"processes to complete it"
    )


def _count(processes: Sequence[Process]) -> str:
    return counted(len(processes), "process", "processes")


def _plan_of(reference: Reference) -> tuple[object, ...]:
    # Samples and rounds say how much was measured, not how.
    plan = replace(reference.plan, samples=1, rounds=1)
    return plan, reference.method, reference.inputs


def _identity(measurement: Measurement) -> tuple[Case, object, str]:
    return measurement.case, replace(measurement.plan, samples=1, rounds=1), measurement.method
