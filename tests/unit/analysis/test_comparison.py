"""
Ratios of interleaved callables: paired round by round.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from measured import CASE, a_measurement, a_process, a_round, environment
from scipy import stats

from pytest_kernelperf.analysis import compare
from pytest_kernelperf.model import Interval, Measurement, Process, Ratio


def rounds_of(*levels_us: float) -> Measurement:
    rounds = tuple(a_round([level] if level else []) for level in levels_us)
    return a_measurement(Process("p", "", environment(), rounds))


def ratio_of(numerator: Measurement, denominator: Measurement) -> Ratio:
    found = compare("label", {"ref": numerator, "mine": denominator}, "ref")
    return found.ratios[1]


def test_it_is_the_textbook_paired_t_interval() -> None:
    theirs, ours = [30.0, 31.0, 29.0, 33.0], [20.0, 20.5, 19.5, 21.0]
    differences = np.log(theirs) - np.log(ours)
    low, high = stats.t.interval(
        0.95, 3, loc=differences.mean(), scale=differences.std(ddof=1) / math.sqrt(4)
    )

    ratio = ratio_of(rounds_of(*theirs), rounds_of(*ours))

    assert math.exp(differences.mean()) == pytest.approx(ratio.speedup)
    assert math.exp(low) == pytest.approx(ratio.speedup_interval.low)
    assert math.exp(high) == pytest.approx(ratio.speedup_interval.high)


def test_a_drift_that_both_share_does_not_widen_the_interval() -> None:
    """Each round 20 % slower than the one before, for both: the ratio stays 1.5."""
    drift = [1.2**i for i in range(5)]

    ratio = ratio_of(rounds_of(*(30 * d for d in drift)), rounds_of(*(20 * d for d in drift)))

    assert 1.5 == pytest.approx(ratio.speedup)
    assert ratio.speedup_interval.high - ratio.speedup_interval.low < 0.002


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(8)
    hits = 0
    for _ in range(400):
        theirs, ours = (
            rounds_of(*(level * np.exp(rng.normal(0, 0.01, 5)))) for level in (30.0, 20.0)
        )
        interval = ratio_of(theirs, ours).speedup_interval
        hits += interval.low <= 1.5 <= interval.high

    assert 0.92 <= hits / 400 <= 0.98


def test_the_reference_is_one_exactly_and_order_and_records_are_kept() -> None:
    measurements = {"b": rounds_of(20.0, 21.0), "a": rounds_of(30.0, 31.0)}

    found = compare("forward", measurements, "a")

    assert ("forward", "a", CASE) == (found.label, found.reference, found.case)
    assert ["b", "a"] == [ratio.name for ratio in found.ratios]
    assert (1.0, Interval(1.0, 1.0)) == (found.ratios[1].speedup, found.ratios[1].speedup_interval)
    assert measurements == found.measurements


def test_rounds_in_which_one_side_kept_nothing_are_left_out() -> None:
    """Pairs by position: the third round still meets the third."""
    ratio = ratio_of(rounds_of(30.0, 99.0, 33.0), rounds_of(20.0, 0.0, 22.0))

    assert 1.5 == pytest.approx(ratio.speedup)


def test_one_round_gets_the_interval_that_the_documented_noise_gives() -> None:
    ratio = ratio_of(rounds_of(30.0), rounds_of(20.0))
    width = stats.t.ppf(0.975, 4) * math.sqrt(2) * 0.004

    assert 1.5 * math.exp(width) == pytest.approx(ratio.speedup_interval.high)


def test_an_unknown_reference_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"reference 'c' is not among .* expected one of a, b"):
        compare("x", {"b": rounds_of(1.0), "a": rounds_of(1.0)}, "c")


def test_rounds_that_do_not_pair_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"'mine' has \[2\] rounds per process, the reference"):
        ratio_of(rounds_of(1.0), rounds_of(1.0, 2.0))
    with pytest.raises(ValueError, match="shares no sampled round"):
        ratio_of(rounds_of(1.0, 0.0), rounds_of(0.0, 1.0))


def test_several_processes_pair_one_by_one() -> None:
    theirs = a_measurement(a_process(30.0), a_process(60.0))
    ours = a_measurement(a_process(20.0), a_process(40.0))

    assert 1.5 == pytest.approx(ratio_of(theirs, ours).speedup)
