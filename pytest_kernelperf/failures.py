"""
Tells what a run's tests failed by: a verdict, which may be in the record or not, or themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_kernelperf.model import Verdict
from pytest_kernelperf.outcome import Outcome, fails

if TYPE_CHECKING:
    from pytest_kernelperf.settings import Settings

#: Node ids of what pytest reports as failed, and whether that was (also) in a teardown: no verdict
#: tells of it, and judged against other baselines the test may have none that fails.
Failed = Mapping[str, bool]


def failed_beyond(
    verdicts: Sequence[Verdict], outcome: Outcome, failed: Failed, settings: Settings
) -> bool:
    """
    Return whether a test failed by something that none of some verdicts tells, as in a teardown.

    Args:
        verdicts: All of the test's, or those of the kind that is looked at.
        outcome: What the test brought.
        failed: What pytest reports as failed.
        settings: What the run was asked to do.
    """
    if not _body_passed(outcome) or failed.get(outcome.nodeid):
        return True
    return outcome.nodeid in failed and not _any_fails(verdicts, settings)


def untold(outcomes: Collection[Outcome], failed: Failed, settings: Settings) -> tuple[str, ...]:
    """
    Return the failed tests whose records do not tell so: a judge of the record must know.
    """
    wrong = {one.nodeid for one in outcomes if not _body_passed(one)}
    slow = {one.nodeid for one in outcomes if _any_fails(one.verdicts_in_record, settings)}
    return tuple(
        nodeid
        for nodeid, in_teardown in failed.items()
        if nodeid not in wrong and (in_teardown or nodeid not in slow)
    )


def excused(outcomes: Iterable[Outcome], failed: Failed) -> dict[str, str]:
    """
    Return the tests with records that pytest does not fail whatever these say, each with why.
    """
    recorded = [one for one in outcomes if one.is_recorded]
    # Tests below two anchors may share a place, and their records can't be told apart.
    failing = {one.place for one in recorded if one.nodeid in failed}
    return {one.nodeid: one.excused for one in recorded if one.excused and one.place not in failing}


def _body_passed(outcome: Outcome) -> bool:
    return all(one.body_passed for one in outcome.recorded)


def _any_fails(verdicts: Iterable[Verdict], settings: Settings) -> bool:
    return any(fails(each, settings) for each in verdicts)
