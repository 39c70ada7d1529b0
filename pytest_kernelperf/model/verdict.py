"""
What was asked of a measurement, and what is said of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from pytest_kernelperf.model.case import Case
from pytest_kernelperf.model.work import Roofline


class Status(str, Enum):
    """
    What a verdict says; see docs/verdicts.md.
    """

    UNCHANGED = "UNCHANGED"
    IMPROVED = "IMPROVED"
    REGRESSED = "REGRESSED"
    MISSED_TARGET = "MISSED_TARGET"
    INCONCLUSIVE = "INCONCLUSIVE"
    NO_BASELINE = "NO_BASELINE"
    INCOMPARABLE = "INCOMPARABLE"
    INVALID = "INVALID"
    NOT_MEASURED = "NOT_MEASURED"


#: Statuses that fail a test whatever the options say.
FAILING = frozenset({Status.REGRESSED, Status.MISSED_TARGET, Status.INVALID, Status.NOT_MEASURED})
#: Statuses that fail a test under `--kernelperf-strict` only.
FAILING_STRICT = frozenset({Status.INCONCLUSIVE, Status.NO_BASELINE, Status.INCOMPARABLE})
#: Statuses that judged nothing; the last line of a run counts them apart.
NOT_JUDGED = frozenset(
    {
        Status.INCONCLUSIVE,
        Status.NO_BASELINE,
        Status.INCOMPARABLE,
        Status.INVALID,
        Status.NOT_MEASURED,
    }
)


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What a test asks of one measurement.

    Attributes:
        percentiles: Judged against the baseline, ascending.
        targets_us: Percentile to limit, microseconds per item (see `per`).
        per: Items per call; times are divided by it before they meet a target.
        max_regression: Percentile to margin as a fraction; missing = from measured noise.
    """

    percentiles: tuple[float, ...] = (50.0,)
    targets_us: Mapping[float, float] = field(default_factory=dict)
    per: float = 1.0
    max_regression: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interval:
    """
    A two-sided 95 % interval.
    """

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    The judgement of one percentile of one measurement.

    Attributes:
        reason: Stable code in capitals (see docs/verdicts.md).
        sentence: What a person should know and do.
        time_us: The percentile, per call; None if it can't be had.
        interval_us: Its own interval from this run's samples; None if they are too few.
        baseline_us: The reference's percentile.
        change: Relative change, 0.03 = 3 % slower.
        change_interval: The interval that decides.
        margin: The change that is too much.
        detectable: The smallest true slowdown that the gate finds with 95 % probability, at this
            margin and with all looks taken.
        target_us: The limit per item; `per` as in Limits.
        target_met: True, False, or None where there is no target or the interval straddles it.
        judged: False for percentiles that are only shown.
        roofline: At P50, if the test counted its operations or bytes.
    """

    case: Case
    percentile: float
    status: Status
    reason: str
    sentence: str
    time_us: float | None = None
    interval_us: Interval | None = None
    baseline_us: float | None = None
    change: float | None = None
    change_interval: Interval | None = None
    margin: float | None = None
    detectable: float | None = None
    target_us: float | None = None
    per: float = 1.0
    target_met: bool | None = None
    judged: bool = True
    roofline: Roofline | None = None
