"""
What a recorded run was told on its card, to be compared with what it is told now.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_kernelperf.model import Recorded, Status, Verdict

Said = list[tuple[str, float, Status, str]]


def said(verdicts: Iterable[Verdict]) -> Said:
    """
    Return what verdicts say of which case and percentile, without their numbers.
    """
    return [(each.case.label, each.percentile, each.status, each.reason) for each in verdicts]


def told(recorded: Iterable[Recorded]) -> Said:
    """
    Return what the verdicts of records say.
    """
    return said(verdict for one in recorded for verdict in one.verdicts)
