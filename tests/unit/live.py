"""
What a recorded run was told on its card, to be compared with what it is told now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import pytest

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


def flat(verdict: Verdict) -> dict[str, object]:
    """
    Return a verdict's fields, with those of its intervals and its roofline as fields of their own.
    """
    found = asdict(verdict)
    for name in ("interval_us", "change_interval", "roofline"):
        ends = found.pop(name) or {}
        found |= {f"{name}.{end}": value for end, value in ends.items()}
    return found


def to_six_digits(fields: dict[str, object]) -> dict[str, object]:
    """
    Return the fields with numbers that equal all that agree with them to six digits.
    """
    return {
        key: pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value
        for key, value in fields.items()
    }
