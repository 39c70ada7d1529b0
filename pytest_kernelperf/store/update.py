"""
The rules of an update: what may become the reference, and why not (docs/baseline-format.md).

Pure: decides on values, touches no file.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.analysis.resources import are_no_worse
from pytest_kernelperf.model import (
    Case,
    Compiled,
    Entry,
    Kernel,
    Measurement,
    Process,
    Recorded,
    Reference,
    Status,
    UpdateMode,
    Verdict,
)
from pytest_kernelperf.units import counted, is_time

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
        entry: Times to store; None leaves the file as it is. Kernels that are "added" or "moved"
            are stored as they are.
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
    slower = (
        f"{_percentiles(recorded, {Status.REGRESSED})} is slower; to take the slower time as "
        f"the new reference add --kernelperf-accept-regressions (kernelperf update: "
        f"--accept-regressions)"
    )
    obstacle = _obstacle(recorded)
    action, sentence = _decided(_statuses(recorded), obstacle, slower, mode, is_new=entry is None)
    if action in ("refused", "kept"):
        return Decision(action, sentence)
    measured = Reference.of(recorded.measurement, _kept(recorded.measurement))
    if entry is not None and action == "unchanged":
        return _unchanged(entry, measured)
    return Decision(action, sentence + _provisional(measured), Entry(measured, measured))


def decide_kernels(
    compiled: Compiled, stored: Sequence[Kernel] | None, mode: UpdateMode, *, body_passed: bool
) -> Decision:
    """
    Decide what an update does with the kernels of one call, as `decide_update` does with times.

    Args:
        compiled: With the verdict that it got.
        stored: The kernels that are stored now; None if there are none.
        mode: What the user allowed.
        body_passed: The test did not fail by itself.
    """
    verdict = compiled.verdict
    assert verdict is not None, "kernels are judged before they are stored"
    status = verdict.status
    obstacle = _obstacle_of_kernels(compiled.case, verdict) if body_passed else _FAILED_BODY
    if stored is None and status in (Status.UNCHANGED, Status.REGRESSED):
        obstacle = obstacle or LOST
    if status is Status.UNCHANGED and stored and are_no_worse(stored, compiled.kernels):
        status = Status.IMPROVED
    worse = (
        "REGRESSED; to take these kernels as the new reference add --kernelperf-accept-regressions"
    )
    action, sentence = _decided({status}, obstacle, worse, mode, is_new=stored is None)
    if action == "unchanged":
        return Decision(
            "kept",
            "other machine code, not as good in all that is counted: the stored kernels stay, so "
            f"that small steps can't add up{_how_to_replace(compiled.case)}",
        )
    if action == "moved" and verdict.status is Status.UNCHANGED:
        sentence = "other machine code, no worse in anything that is counted"
    return Decision(action, sentence)


def _obstacle_of_kernels(case: Case, verdict: Verdict) -> str | None:
    why = _FORBIDDING_KERNELS.get(verdict.status)
    if why is None:
        return None
    way_out = _how_to_replace(case) if verdict.status is Status.INCOMPARABLE else ""
    return f"{verdict.status.value} ({verdict.reason}): {why}{way_out}"


def _how_to_replace(case: Case) -> str:
    """
    Return the command that removes stored kernels, and leaves the times of the same test.
    """
    name = shlex.quote(f"{case.file}::{case.key}")
    return f"; if these are to stay: kernelperf prune --tests {name}, and update again"


def _decided(
    statuses: Collection[Status],
    obstacle: str | None,
    worse: str,
    mode: UpdateMode,
    *,
    is_new: bool,
) -> tuple[str, str]:
    """
    Return what an update does with a case, of times or of kernels, and why.

    Args:
        statuses: Of what is judged, against what is stored.
        obstacle: What forbids to store it whatever is stored; None if nothing does.
        worse: What there is to say of a regression that is not accepted.
        mode: What the user allowed.
        is_new: Nothing is stored for the case.

    Returns:
        An action as in `Change.action`, or "unchanged": then the reference stays.
    """
    if not is_new and mode.new_only:
        return "kept", "has a baseline already; only new ones were asked for"
    if obstacle is not None:
        return "refused", obstacle
    if is_new:
        return "added", "had no baseline"
    if Status.REGRESSED in statuses:
        return ("moved", "regression accepted") if mode.accept_regressions else ("refused", worse)
    if Status.IMPROVED in statuses:
        return "moved", "improved"
    return "unchanged", ""


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
    alike = [run for run in certain if run.measurement.way == first.measurement.way]
    measured = {p.id: p for run in alike for p in run.measurement.processes}
    processes = {p.origin: p for p in measured.values()}
    left_out = (
        _counted(len(runs) - len(passed), "failed or invalid"),
        _counted(len(passed) - len(certain), "INCONCLUSIVE"),
        _counted(len(certain) - len(alike), "measured with another plan, method or inputs"),
        _counted(len(measured) - len(processes), "measured by a process taken already"),
    )
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
    if not recorded.measurement.has_samples:
        return "no sample was kept; measure again on a quiet machine"
    if not all(map(is_time, recorded.measurement.times_us)):
        return (
            "some samples are no positive times: the call is shorter than its timer's clock can "
            "tell; time more work per call"
        )
    if not recorded.body_passed:
        return _FAILED_BODY
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


_FAILED_BODY = "the test itself failed; nothing is stored until it passes"
#: Added as if it were new, a slow kernel that has just failed its test would be the reference.
LOST = (
    "its baseline was there when it was judged and is gone now: put it back (from version control) "
    "and update again; if it was removed for good, only update again"
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
#: The same for compiled kernels.
_FORBIDDING_KERNELS = {
    Status.INVALID: "nothing is stored of kernels that do not compile; mend them first",
    Status.INCONCLUSIVE: "nothing was compiled and read that could be stored",
    Status.MISSED_TARGET: "mend the kernel or raise the limit first",
    Status.INCOMPARABLE: "worse than what another compiler made",
}


def _unchanged(entry: Entry, measured: Reference) -> Decision:
    reference = entry.reference
    known = {process.origin for process in reference.processes}
    new = [process for process in measured.processes if process.origin not in known]
    if not new:
        ids = {process.id for process in (*reference.processes, *measured.processes)}
        what = "process" if len(ids) > len(known) else "measurement"
        return Decision("kept", f"this {what} is in the baseline already")
    room = COMPLETE_PROCESSES - len(reference.processes)
    if room <= 0 or reference.way != measured.way:
        return Decision("kept", "unchanged; the reference stays", Entry(reference, measured))
    extended = replace(
        reference,
        processes=(*reference.processes, *new[:room]),
        kernels=measured.kernels or reference.kernels,
    )
    sentence = f"unchanged; now {_count(extended.processes)} of {COMPLETE_PROCESSES}"
    return Decision("extended", sentence + _provisional(extended), Entry(extended, measured))


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
