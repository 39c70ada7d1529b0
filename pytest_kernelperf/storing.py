"""
Stores what a run measured and compiled, as far as its tests' failures and the options allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kernelperf.bench import baselines_root
from pytest_kernelperf.errors import KernelPerfError
from pytest_kernelperf.failures import Failed, failed_beyond
from pytest_kernelperf.model import Change, Recorded, Status, UpdateMode, Verdict
from pytest_kernelperf.outcome import Outcome, fails
from pytest_kernelperf.units import listed

if TYPE_CHECKING:
    from pytest_kernelperf.settings import Settings


@dataclass(frozen=True, slots=True)
class Stored:
    """
    What was done about one test's kernels, or about one folder of baselines.

    Attributes:
        changes: One per case.
        errors: Sentences on what could not be done, and now fails the run.
    """

    changes: Sequence[Change] = ()
    errors: Sequence[str] = ()


def by_root(
    outcomes: Iterable[Outcome], failed: Failed, settings: Settings
) -> dict[Path, list[Recorded]]:
    """
    Return the measurements as an update takes them, by their folder of baselines.

    Args:
        outcomes: What the run's tests brought.
        failed: What pytest reports as failed.
        settings: What the run was asked to do.
    """
    found: dict[Path, list[Recorded]] = {}
    for outcome in outcomes:
        root = baselines_root(settings, Path(outcome.path))
        found.setdefault(root, []).extend(_to_store(outcome, failed, settings))
    return found


def store(outcomes: Sequence[Outcome], failed: Failed, settings: Settings) -> Iterator[Stored]:
    """
    Store kernels, then times, and yield what was done as it is done: an interrupt keeps the rest.

    Args:
        outcomes: What the run's tests brought.
        failed: What pytest reports as failed.
        settings: What the run was asked to do.
    """
    mode = UpdateMode(settings.update_new, settings.accept_regressions)
    for outcome in outcomes:
        yield _store_kernels(outcome, failed, settings, mode)
    for root, recorded in by_root(outcomes, failed, settings).items():
        if recorded:
            yield _store_times(root, recorded, settings, mode)


def _to_store(outcome: Outcome, failed: Failed, settings: Settings) -> tuple[Recorded, ...]:
    """
    Return a test's measurements; what failed after them, as in a teardown, counts as its body.
    """
    # A failing verdict on a kernel's code keeps its times from being stored: they are that code's.
    if not failed_beyond(outcome.verdicts_in_record, outcome, failed, settings):
        return outcome.recorded
    return tuple(replace(one, body_passed=False) for one in outcome.recorded)


def _store_kernels(
    outcome: Outcome, failed: Failed, settings: Settings, mode: UpdateMode
) -> Stored:
    from pytest_kernelperf.compiled import update_resources

    root = baselines_root(settings, Path(outcome.path))
    has_failed = failed_beyond(outcome.verdicts, outcome, failed, settings)
    try:
        changes = update_resources(root, outcome.compiled, mode, has_failed=has_failed)
    except KernelPerfError as error:
        return Stored(errors=[str(error)])
    verdicts = [one.verdict for one in outcome.compiled if one.verdict and not has_failed]
    return Stored(changes, list(_not_accepted(verdicts, changes, settings)))


def _store_times(
    root: Path, recorded: Sequence[Recorded], settings: Settings, mode: UpdateMode
) -> Stored:
    from pytest_kernelperf.gate import Gate

    try:
        changes = Gate(root).update(recorded, mode).changes
    except KernelPerfError as error:
        return Stored(errors=[str(error)])
    verdicts = [each for one in recorded if one.body_passed for each in one.verdicts]
    return Stored(changes, list(_not_accepted(verdicts, changes, settings)))


def _not_accepted(
    verdicts: Iterable[Verdict], changes: Iterable[Change], settings: Settings
) -> Iterator[str]:
    """
    Say which regressions passed because they were to be stored, and then were not.
    """
    refused = {(one.case.file, one.case.key) for one in changes if one.action == "refused"}
    passed = [
        each
        for each in verdicts
        if each.judged and each.status is Status.REGRESSED and not fails(each, settings)
    ]
    for case in dict.fromkeys(each.case for each in passed):
        if (case.file, case.key) in refused:
            what = list(dict.fromkeys(_what_of(each) for each in passed if each.case == case))
            yield (
                f"{case.label} ({case.timer}): {listed(what)} REGRESSED and not stored, so "
                "not accepted: its update was refused, for the reason given there"
            )


def _what_of(verdict: Verdict) -> str:
    return "code" if verdict.case.timer == "compile" else f"P{verdict.percentile:g}"
