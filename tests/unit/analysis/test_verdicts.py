"""
Verdicts end to end: one measurement, one baseline, targets and margins.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from measured import (
    BASE_US,
    LAUNCH,
    QUIET,
    a_measurement,
    a_process,
    a_reference,
    a_round,
    judged,
    same,
    slower,
)

from pytest_kernelperf.analysis import judge
from pytest_kernelperf.model import Entry, Limits, Problem, Status


def test_slower_unchanged_and_faster() -> None:
    changes = (-0.05, -0.005, 0.0, 0.005, 0.017, 0.05)
    statuses = [judged(slower(by, 3), a_reference()).status for by in changes]

    assert [
        Status.IMPROVED,
        Status.UNCHANGED,
        Status.UNCHANGED,
        Status.UNCHANGED,
        Status.INCONCLUSIVE,
        Status.REGRESSED,
    ] == statuses


def test_the_verdict_carries_its_numbers() -> None:
    limits = Limits(targets_us={50.0: 3.0}, per=8.0)

    verdict = judged(slower(0.05), a_reference(), limits)

    assert 21.0 == pytest.approx(verdict.time_us)
    assert 20.0 == pytest.approx(verdict.baseline_us)
    assert 0.05 == pytest.approx(verdict.change)
    assert verdict.change_interval is not None
    assert 0.04 < verdict.change_interval.low < 0.05 < verdict.change_interval.high < 0.06
    assert verdict.detectable == pytest.approx(0.0233, rel=1e-3)
    assert verdict.interval_us is not None
    assert verdict.interval_us.low < 21.0 < verdict.interval_us.high
    assert (pytest.approx(0.01216, rel=1e-3), 3.0, 8.0, True) == (
        verdict.margin,
        verdict.target_us,
        verdict.per,
        verdict.target_met,
    )


def test_targets_are_per_item() -> None:
    missed = judged(same(), a_reference(), Limits(targets_us={50.0: 2.4}, per=8.0))

    assert (Status.MISSED_TARGET, False) == (missed.status, missed.target_met)
    assert "2.500 µs per item (8 items a call)" in missed.sentence


def test_a_regression_that_also_misses_its_target_says_both() -> None:
    verdict = judged(slower(0.05, 3), a_reference(), Limits(targets_us={50.0: 20.0}))

    assert (Status.REGRESSED, False) == (verdict.status, verdict.target_met)
    assert "It also misses its target: 21.00 µs" in verdict.sentence


def test_without_a_baseline_a_target_is_still_judged() -> None:
    missed = judged(same(), None, Limits(targets_us={50.0: 19.0}))
    met = judged(same(), None, Limits(targets_us={50.0: 21.0}))

    assert (Status.MISSED_TARGET, False) == (missed.status, missed.target_met)
    assert (Status.NO_BASELINE, True) == (met.status, met.target_met)


def test_an_invalid_measurement_fails_every_judged_percentile_with_its_problem() -> None:
    problem = Problem("WRONG_OUTPUT", "output 0 differs by 3.0")
    measurement = replace(same(), case=LAUNCH, problem=problem, processes=())

    verdicts = judge(measurement, Entry(a_reference()), Limits((50.0, 99.0)), QUIET)

    assert [
        (50.0, Status.INVALID, "WRONG_OUTPUT", "output 0 differs by 3.0"),
        (99.0, Status.INVALID, "WRONG_OUTPUT", "output 0 differs by 3.0"),
    ] == [(v.percentile, v.status, v.reason, v.sentence) for v in verdicts]


def test_an_invalid_measurement_fails_even_where_no_percentile_is_judged() -> None:
    measurement = replace(same(), problem=Problem("WRONG_OUTPUT", "wrong"), processes=())

    verdicts = judge(measurement, None, Limits((99.0,)), QUIET)

    assert [(50.0, Status.INVALID)] == [(v.percentile, v.status) for v in verdicts]


def test_percentiles_are_judged_if_any_limit_names_them_and_shown_if_not() -> None:
    limits = Limits((50.0,), targets_us={90.0: 30.0}, max_regression={95.0: 0.2})
    process = a_process(BASE_US, samples=100)

    verdicts = judge(
        a_measurement(process, case=LAUNCH), Entry(a_reference(samples=100)), limits, QUIET
    )

    assert [(50.0, True), (90.0, True), (95.0, True), (99.0, False)] == [
        (v.percentile, v.judged) for v in verdicts
    ]


def test_the_device_timer_has_a_median_only() -> None:
    limits = Limits((50.0, 99.0), targets_us={95.0: 1.0})

    verdicts = judge(same(), Entry(a_reference()), limits, QUIET)

    assert [50.0] == [v.percentile for v in verdicts]


def test_a_shown_percentile_never_fails_whatever_it_did() -> None:
    measurement = replace(slower(1.0, 3, samples=100), case=LAUNCH)

    verdicts = judge(measurement, Entry(a_reference(samples=100)), Limits((50.0,)), QUIET)

    assert [(Status.REGRESSED, True), (Status.UNCHANGED, False), (Status.UNCHANGED, False)] == [
        (v.status, v.judged) for v in verdicts
    ]
    assert 1.0 == pytest.approx(verdicts[1].change, rel=0.01)


def test_the_tests_own_margin_is_used_as_it_is() -> None:
    limits = Limits(max_regression={50.0: 0.10})

    assert Status.UNCHANGED is judged(slower(0.05), a_reference(), limits).status
    assert Status.REGRESSED is judged(slower(0.12, 3), a_reference(), limits).status


def test_a_margin_below_the_noise_is_said_at_once_and_judged_by_the_interval() -> None:
    limits = Limits(max_regression={50.0: 0.004})

    unsure = judged(slower(0.003), a_reference(), limits)
    proven = judged(slower(0.02, 3), a_reference(), limits)

    assert "MARGIN_BELOW_NOISE: the asked margin of 0.40 % is smaller than" in unsure.sentence
    assert (Status.INCONCLUSIVE, 0.004) == (unsure.status, unsure.margin)
    assert Status.REGRESSED is proven.status


def test_undecided_says_what_noise_forbids_or_that_it_lies_on_the_margin() -> None:
    hopeless = judged(slower(0.0045), a_reference(), Limits(max_regression={50.0: 0.004}))
    on_margin = judged(slower(0.012), a_reference())

    assert (
        "More processes can't settle it: the baseline's noise allows no margin below 0.7"
        in hopeless.sentence
    )
    assert "It lies on the margin" in on_margin.sentence


def test_a_provisional_baseline_never_uses_a_margin_below_the_provisional_one() -> None:
    verdict = judged(slower(0.03), a_reference(processes=2), Limits(max_regression={50.0: 0.01}))

    assert (0.05, Status.UNCHANGED) == (verdict.margin, verdict.status)
    assert "run --kernelperf-update once more" in verdict.sentence


def test_a_missed_target_beside_a_foreign_process_says_so() -> None:
    measurement = slower(0.0, foreign_processes=2)

    verdict = judged(measurement, a_reference(), Limits(targets_us={50.0: 10.0}))

    assert Status.MISSED_TARGET is verdict.status
    assert "Beware: another process computed" in verdict.sentence


def test_a_measurement_without_a_kept_sample_is_inconclusive() -> None:
    empty = a_measurement(replace(a_process(BASE_US), rounds=(a_round([]),)))

    verdict = judged(empty, a_reference())

    assert (Status.INCONCLUSIVE, "TOO_FEW_SAMPLES", None) == (
        verdict.status,
        verdict.reason,
        verdict.time_us,
    )


def test_without_a_sample_and_without_a_baseline_it_is_no_baseline() -> None:
    empty = a_measurement(replace(a_process(BASE_US), rounds=()))

    assert Status.NO_BASELINE is judged(empty, None).status
