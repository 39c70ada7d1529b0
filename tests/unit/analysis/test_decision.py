"""
The decision's table, row by row, and what must hold for every row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kernelperf.analysis.decision import Findings, TargetResult, decide
from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.model import FAILING, Interval, Status

SLOWER = Interval(0.02, 0.03)
FASTER = Interval(-0.03, -0.02)
SAME = Interval(-0.005, 0.005)
UNSURE = Interval(0.01, 0.02)
MARGIN = 0.015


def found(change: Interval | None = SAME, **rest: Any) -> Findings:
    return Findings(change=change, margin=MARGIN, **rest)


@pytest.mark.parametrize(
    ("findings", "status", "reason"),
    [
        # The change alone.
        (found(SAME), Status.UNCHANGED, "WITHIN_MARGIN"),
        (found(SLOWER), Status.REGRESSED, "SLOWER_THAN_BASELINE"),
        (found(FASTER), Status.IMPROVED, "FASTER_THAN_BASELINE"),
        (found(UNSURE), Status.INCONCLUSIVE, "STRADDLES_MARGIN"),
        (found(Interval(-0.02, 0.0149)), Status.UNCHANGED, "WITHIN_MARGIN"),
        (found(Interval(0.005, 0.0149)), Status.UNCHANGED, "WITHIN_MARGIN"),
        (found(Interval(0.015, 0.03)), Status.INCONCLUSIVE, "STRADDLES_MARGIN"),
        (found(Interval(0.0, 0.015)), Status.INCONCLUSIVE, "STRADDLES_MARGIN"),
        (found(Interval(-0.03, -0.015)), Status.UNCHANGED, "WITHIN_MARGIN"),
        (found(Interval(-0.03, 0.03)), Status.INCONCLUSIVE, "STRADDLES_MARGIN"),
        (found(UNSURE, noisier=True), Status.INCONCLUSIVE, "NOISIER_THAN_BASELINE"),
        (found(SAME, noisier=True), Status.UNCHANGED, "WITHIN_MARGIN"),
        (found(SLOWER, noisier=True), Status.REGRESSED, "SLOWER_THAN_BASELINE"),
        # Reservations.
        (found(SAME, reservation=Reason.OTHER_CARD), Status.UNCHANGED, "OTHER_CARD"),
        (found(SLOWER, reservation=Reason.OTHER_CARD), Status.REGRESSED, "OTHER_CARD"),
        (found(FASTER, reservation=Reason.PROVISIONAL), Status.IMPROVED, "PROVISIONAL"),
        (found(UNSURE, reservation=Reason.PROVISIONAL), Status.INCONCLUSIVE, "PROVISIONAL"),
        # Excuses.
        (found(SLOWER, excuse=Reason.CLOCK_MOVED), Status.INCONCLUSIVE, "CLOCK_MOVED"),
        (found(SLOWER, excuse=Reason.THROTTLED), Status.INCONCLUSIVE, "THROTTLED"),
        (found(SLOWER, excuse=Reason.FOREIGN_PROCESS), Status.INCONCLUSIVE, "FOREIGN_PROCESS"),
        (found(SAME, excuse=Reason.FOREIGN_PROCESS), Status.UNCHANGED, "WITHIN_MARGIN"),
        (found(UNSURE, excuse=Reason.CLOCK_MOVED), Status.INCONCLUSIVE, "STRADDLES_MARGIN"),
        # One process.
        (found(SLOWER, too_few_agree=True), Status.INCONCLUSIVE, "ONE_PROCESS"),
        (found(FASTER, too_few_agree=True), Status.INCONCLUSIVE, "ONE_PROCESS"),
        (found(SAME, too_few_agree=True), Status.UNCHANGED, "WITHIN_MARGIN"),
        (found(UNSURE, too_few_agree=True), Status.INCONCLUSIVE, "STRADDLES_MARGIN"),
        (
            found(SLOWER, too_few_agree=True, reservation=Reason.PROVISIONAL),
            Status.INCONCLUSIVE,
            "ONE_PROCESS",
        ),
        (
            found(SLOWER, too_few_agree=True, excuse=Reason.CLOCK_MOVED),
            Status.INCONCLUSIVE,
            "CLOCK_MOVED",
        ),
        (
            found(SLOWER, too_few_agree=True, target=TargetResult.MISSED),
            Status.MISSED_TARGET,
            "ABOVE_TARGET",
        ),
        # Too little.
        (found(SLOWER, enough_samples=False), Status.INCONCLUSIVE, "TOO_FEW_SAMPLES"),
        (found(SAME, enough_samples=False), Status.INCONCLUSIVE, "TOO_FEW_SAMPLES"),
        (found(None), Status.INCONCLUSIVE, "TOO_FEW_SAMPLES"),
        # Targets.
        (found(SAME, target=TargetResult.MET), Status.UNCHANGED, "WITHIN_MARGIN"),
        (found(SAME, target=TargetResult.MISSED), Status.MISSED_TARGET, "ABOVE_TARGET"),
        (found(FASTER, target=TargetResult.MISSED), Status.MISSED_TARGET, "ABOVE_TARGET"),
        (found(SLOWER, target=TargetResult.MISSED), Status.REGRESSED, "SLOWER_THAN_BASELINE"),
        (
            found(None, target=TargetResult.MISSED, difference=Reason.ECC_DIFFERS),
            Status.MISSED_TARGET,
            "ABOVE_TARGET",
        ),
        (
            found(SLOWER, target=TargetResult.MISSED, excuse=Reason.CLOCK_MOVED),
            Status.MISSED_TARGET,
            "ABOVE_TARGET",
        ),
        (found(SAME, target=TargetResult.INSIDE), Status.INCONCLUSIVE, "TARGET_IN_INTERVAL"),
        (found(FASTER, target=TargetResult.INSIDE), Status.INCONCLUSIVE, "TARGET_IN_INTERVAL"),
        (found(UNSURE, target=TargetResult.INSIDE), Status.INCONCLUSIVE, "STRADDLES_MARGIN"),
        (found(SAME, target=TargetResult.UNKNOWN), Status.INCONCLUSIVE, "TOO_FEW_SAMPLES"),
        # Nothing to compare with.
        (found(None, has_baseline=False), Status.NO_BASELINE, "NO_BASELINE"),
        (
            found(None, has_baseline=False, target=TargetResult.MET),
            Status.NO_BASELINE,
            "NO_BASELINE",
        ),
        (
            found(None, has_baseline=False, target=TargetResult.MISSED),
            Status.MISSED_TARGET,
            "ABOVE_TARGET",
        ),
        (
            found(None, has_baseline=False, target=TargetResult.INSIDE),
            Status.INCONCLUSIVE,
            "TARGET_IN_INTERVAL",
        ),
        *(
            (found(None, difference=reason), Status.INCOMPARABLE, reason.value)
            for reason in (
                Reason.MIG_DIFFERS,
                Reason.ECC_DIFFERS,
                Reason.POWER_LIMIT_DIFFERS,
                Reason.INPUTS_DIFFER,
                Reason.METHOD_DIFFERS,
                Reason.PLAN_DIFFERS,
            )
        ),
        # An invalid measurement says nothing, not even that it differs.
        (
            found(SLOWER, problem="WRONG_OUTPUT", difference=Reason.MIG_DIFFERS),
            Status.INVALID,
            "WRONG_OUTPUT",
        ),
    ],
)
def test_the_table(findings: Findings, status: Status, reason: str) -> None:
    assert (status, reason) == decide(findings)


bounds = st.floats(-0.1, 0.1)
changes = st.none() | st.tuples(bounds, bounds).map(lambda pair: Interval(*sorted(pair)))
excuses = st.sampled_from([None, Reason.CLOCK_MOVED, Reason.THROTTLED, Reason.FOREIGN_PROCESS])
anything = st.builds(
    Findings,
    has_baseline=st.just(True),
    change=changes,
    margin=st.floats(0.005, 0.05),
    target=st.sampled_from(TargetResult),
    excuse=excuses,
    noisier=st.booleans(),
    enough_samples=st.booleans(),
    too_few_agree=st.booleans(),
    reservation=st.sampled_from([None, Reason.OTHER_CARD, Reason.PROVISIONAL]),
)


@given(anything, st.floats(0.0, 0.1))
def test_a_larger_change_never_turns_a_failure_into_a_pass(findings: Findings, more: float) -> None:
    if findings.change is None:
        return
    moved = Interval(findings.change.low + more, findings.change.high + more)

    before, after = decide(findings)[0], decide(replace(findings, change=moved))[0]

    assert not (before in FAILING and after not in FAILING)


@given(anything, excuses)
def test_an_excuse_never_makes_a_failure(findings: Findings, excuse: Reason | None) -> None:
    plain = decide(replace(findings, excuse=None))[0]

    excused = decide(replace(findings, excuse=excuse))[0]

    assert excused is not Status.REGRESSED or plain is Status.REGRESSED


@given(anything)
def test_nothing_regresses_unless_its_whole_interval_is_above_the_margin(
    findings: Findings,
) -> None:
    if decide(findings)[0] is Status.REGRESSED:
        assert findings.change is not None
        assert findings.change.low > findings.margin
