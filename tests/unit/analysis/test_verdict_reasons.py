"""
Every reason code end to end, at least once: one measurement, one baseline.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from measured import (
    BASE_US,
    CASE,
    LAUNCH,
    PLAN,
    a_measurement,
    a_process,
    a_reference,
    judged,
    on_card,
    same,
    slower,
)

from pytest_kernelperf.analysis import Reason
from pytest_kernelperf.analysis.reasons import BESIDE_BASELINES
from pytest_kernelperf.model import Limits, Status, Verdict

ROWS: list[tuple[Reason, Status, Callable[[], Verdict], str]] = [
    (
        Reason.WITHIN_MARGIN,
        Status.UNCHANGED,
        lambda: judged(same(), a_reference()),
        r"P50 \(20\.00 µs\) is unchanged within the margin: \+0\.00 % against 20\.00 µs, 95 % "
        r"interval -0\.\d+ % to \+0\.\d+ %, margin 1\.22 %\.$",
    ),
    (
        Reason.SLOWER_THAN_BASELINE,
        Status.REGRESSED,
        lambda: judged(slower(0.05, 3), a_reference()),
        r"is slower than the baseline by more than the margin: \+5\.00 % against 20\.00 µs",
    ),
    (
        Reason.FASTER_THAN_BASELINE,
        Status.IMPROVED,
        lambda: judged(slower(-0.05, 3), a_reference()),
        r"is faster than the baseline by more than the margin: -5\.00 %",
    ),
    (
        Reason.ONE_PROCESS,
        Status.INCONCLUSIVE,
        lambda: judged(slower(0.05), a_reference()),
        r"looks slower than the baseline by more than the margin \(\+5\.00 % against .*\), "
        r"but one process can't tell .*: 2 more fresh processes decide\.$",
    ),
    (
        Reason.STRADDLES_MARGIN,
        Status.INCONCLUSIVE,
        lambda: judged(slower(0.016), a_reference()),
        "is not decided: the interval reaches the margin: .* To settle it takes about 12 more pro",
    ),
    (
        Reason.NOISIER_THAN_BASELINE,
        Status.INCONCLUSIVE,
        lambda: judged(a_measurement(a_process(BASE_US * 1.03, round_sd=0.05)), a_reference()),
        "rounds scatter far more than the baseline's, so the interval was widened",
    ),
    (
        Reason.OTHER_CARD,
        Status.UNCHANGED,
        lambda: judged(on_card(card="GPU-2"), a_reference()),
        "no rounds of this card, .* the interval allows for that. Update on this card",
    ),
    (
        Reason.PROVISIONAL,
        Status.UNCHANGED,
        lambda: judged(same(), a_reference(processes=1)),
        r"provisional \(1 of at least 3 processes\).* run --kernelperf-update 2 times more",
    ),
    (
        Reason.ABOVE_TARGET,
        Status.MISSED_TARGET,
        lambda: judged(same(), a_reference(), Limits(targets_us={50.0: 19.0})),
        r"misses its target: 20\.00 µs, 95 % interval .* limit 19\.00 µs\.$",
    ),
    (
        Reason.TARGET_IN_INTERVAL,
        Status.INCONCLUSIVE,
        lambda: judged(same(), a_reference(), Limits(targets_us={50.0: 20.001})),
        "can't be told from its target: .* More samples",
    ),
    (
        Reason.TOO_FEW_SAMPLES,
        Status.INCONCLUSIVE,
        lambda: judged(
            replace(same(), case=LAUNCH), a_reference(), Limits((99.0,)), percentile=99.0
        ),
        r"P99 .* can't be judged from 100 samples: an interval for it takes at least 368\.",
    ),
    (
        Reason.CLOCK_MOVED,
        Status.INCONCLUSIVE,
        lambda: judged(slower(0.05, clock_mhz=1900.0), a_reference()),
        r"but so was the clock: SM clock 1900 MHz, baseline 1980 MHz, which explains up to 5\.79 %",
    ),
    (
        Reason.THROTTLED,
        Status.INCONCLUSIVE,
        lambda: judged(slower(0.03, clock_mhz=1960.0, throttle=("sw_power_cap",)), a_reference()),
        r"limited \(sw_power_cap\) in 100\.00 % of the rounds, the baseline's in 0\.00 %; SM clock",
    ),
    (
        Reason.FOREIGN_PROCESS,
        Status.INCONCLUSIVE,
        lambda: judged(slower(0.05, foreign_processes=1), a_reference()),
        "another process computed on the card in 5 of 5 rounds",
    ),
    (
        Reason.NO_BASELINE,
        Status.NO_BASELINE,
        lambda: judged(same(), None, elsewhere=("nvidia-h200", "test_y")),
        r"--kernelperf-processes 5\. Found elsewhere: nvidia-h200, test_y\.",
    ),
    (
        Reason.MIG_DIFFERS,
        Status.INCOMPARABLE,
        lambda: judged(on_card(mig="1g.10gb"), a_reference()),
        r"MIG profile was none, is 1g\.10gb\. Put the card back",
    ),
    (
        Reason.ECC_DIFFERS,
        Status.INCOMPARABLE,
        lambda: judged(on_card(ecc=False), a_reference()),
        "ECC was on, is off",
    ),
    (
        Reason.POWER_LIMIT_DIFFERS,
        Status.INCOMPARABLE,
        lambda: judged(on_card(power_limit_w=500.0), a_reference()),
        r"power limit \(W\) was 700, is 500",
    ),
    (
        Reason.INPUTS_DIFFER,
        Status.INCOMPARABLE,
        lambda: judged(replace(same(), case=replace(CASE, inputs=("f16[9]",))), a_reference()),
        r"input 0 was f16\[8\], is f16\[9\]\. Restore the inputs",
    ),
    (
        Reason.METHOD_DIFFERS,
        Status.INCOMPARABLE,
        lambda: judged(replace(same(), method="stream"), a_reference()),
        "method was graph, is stream. See the measurement's notes",
    ),
    (
        Reason.PLAN_DIFFERS,
        Status.INCOMPARABLE,
        lambda: judged(replace(same(), plan=replace(PLAN, calls_per_sample=4)), a_reference()),
        "calls_per_sample was 300, is 4. Leave the plan",
    ),
    (
        Reason.NOT_JUDGED,
        Status.UNCHANGED,
        lambda: judged(replace(same(), case=LAUNCH), a_reference(), percentile=95.0),
        "is shown, not judged; name it in percentiles= to judge it",
    ),
]


@pytest.mark.parametrize(
    ("reason", "status", "verdict", "sentence"), ROWS, ids=[row[0].value for row in ROWS]
)
def test_every_reason(
    reason: Reason, status: Status, verdict: Callable[[], Verdict], sentence: str
) -> None:
    given_verdict = verdict()

    assert (status, reason.value) == (given_verdict.status, given_verdict.reason)
    assert re.search(sentence, given_verdict.sentence), given_verdict.sentence


def test_no_reason_is_missing_from_the_table() -> None:
    """But those that no baseline is asked for: `compare` and a revision give them."""
    elsewhere = BESIDE_BASELINES | {Reason.NOT_IN_REVISION}

    assert set(Reason) - elsewhere == {row[0] for row in ROWS}
