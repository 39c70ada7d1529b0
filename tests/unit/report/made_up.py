"""
Verdicts of every status, for reports to show.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_kernelperf.model import Case, Interval, Status, Verdict

CASE = Case("tests/test_a.py", "test_forward[8-128]", "", "device", "cold", "paced", ("f16[8]",))
LAUNCH = replace(CASE, timer="launch")
OTHER = replace(CASE, test="test_backward")

UNCHANGED = Verdict(
    case=CASE,
    percentile=50.0,
    status=Status.UNCHANGED,
    reason="WITHIN_MARGIN",
    sentence="P50 is unchanged.",
    time_us=3.168,
    interval_us=Interval(3.160, 3.176),
    baseline_us=3.170,
    change=-0.0006,
    change_interval=Interval(-0.005, 0.0041),
    margin=0.015,
    detectable=0.0231,
)
PROVISIONAL = replace(UNCHANGED, case=LAUNCH, reason="PROVISIONAL", sentence="Provisional.")
SHOWN = replace(
    PROVISIONAL,
    percentile=99.0,
    reason="NOT_JUDGED",
    sentence="P99 is shown.",
    time_us=1234.5,
    interval_us=Interval(990.0, 1300.0),
    judged=False,
)
REGRESSED = replace(
    UNCHANGED,
    case=OTHER,
    status=Status.REGRESSED,
    reason="SLOWER_THAN_BASELINE",
    sentence="P50 is slower.",
    change=0.05,
    change_interval=Interval(0.04, 0.06),
    target_us=5.0,
    target_met=False,
)
UNSURE = replace(
    UNCHANGED, case=OTHER, status=Status.INCONCLUSIVE, reason="CLOCK_MOVED", sentence="Clock."
)
BARE = Verdict(OTHER, 50.0, Status.NO_BASELINE, "NO_BASELINE", "P50 has no baseline.", time_us=12.0)
INVALID = Verdict(OTHER, 50.0, Status.INVALID, "WRONG_OUTPUT", "Output 0 is wrong.", target_us=5.0)
UNMEASURED = Verdict(OTHER, 50.0, Status.NOT_MEASURED, "NOT_MEASURED", "Nothing was measured.")
IMPROVED = replace(UNCHANGED, status=Status.IMPROVED, reason="FASTER_THAN_BASELINE")
MISSED = replace(
    UNCHANGED,
    status=Status.MISSED_TARGET,
    reason="ABOVE_TARGET",
    sentence="Above.",
    target_us=3.0,
    target_met=False,
)
INCOMPARABLE = replace(
    BARE, status=Status.INCOMPARABLE, reason="ECC_DIFFERS", sentence="ECC was on, is off."
)
VERDICTS = (UNCHANGED, PROVISIONAL, SHOWN, REGRESSED, UNSURE, BARE, INVALID, UNMEASURED)
EVERY = (*VERDICTS, IMPROVED, MISSED, INCOMPARABLE)
