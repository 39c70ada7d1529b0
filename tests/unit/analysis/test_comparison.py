"""
Ratios of interleaved callables: paired round by round.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from measured import CASE, a_measurement, a_process, a_round, environment
from scipy import stats

from pytest_kernelperf.analysis import compare, judge_again
from pytest_kernelperf.model import (
    Comparison,
    Interval,
    Measurement,
    Problem,
    Process,
    Ratio,
    Standing,
    Status,
)


def rounds_of(*levels_us: float) -> Measurement:
    rounds = tuple(a_round([level] if level else []) for level in levels_us)
    return a_measurement(Process("p", "", environment(), rounds))


def ratio_of(numerator: Measurement, denominator: Measurement) -> Ratio:
    found = compare("label", {"ref": numerator, "mine": denominator}, "ref")
    return found.ratios[1]


def test_it_is_the_paired_t_interval_with_a_moderated_variance_and_a_process_term() -> None:
    """The obvious slow twin, from the formulas in docs/verdicts.md."""
    theirs, ours = [30.0, 31.0, 29.0, 33.0], [20.0, 20.5, 19.5, 21.0]
    differences = np.log(theirs) - np.log(ours)
    variance = (3 * 0.0036**2 + 3 * differences.var(ddof=1)) / 6
    own, fixed = variance / 4, 0.0025**2
    df = (own + fixed) ** 2 / (own**2 / 6 + fixed**2 / 10)
    low, high = stats.t.interval(0.95, df, loc=differences.mean(), scale=math.sqrt(own + fixed))

    ratio = ratio_of(rounds_of(*theirs), rounds_of(*ours))

    assert math.exp(differences.mean()) == pytest.approx(ratio.speedup)
    assert math.exp(low) == pytest.approx(ratio.speedup_interval.low)
    assert math.exp(high) == pytest.approx(ratio.speedup_interval.high)


def test_a_drift_that_both_share_does_not_widen_the_interval() -> None:
    """Each round 20 % slower than the one before, for both: the ratio stays 1.5."""
    drift = [1.2**i for i in range(5)]

    ratio = ratio_of(rounds_of(*(30 * d for d in drift)), rounds_of(*(20 * d for d in drift)))

    assert 1.5 == pytest.approx(ratio.speedup)
    assert ratio.speedup_interval.high - ratio.speedup_interval.low < 0.02


def pairs(slowdown: float, count: int, seed: int = 8) -> list[Ratio]:
    """
    Return ratios of kernels as noisy as recorded: .35 % per round, .24 % per callable and process.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        stays = rng.normal(0, 0.0017, 2)
        sides = [
            rounds_of(*(level * np.exp(stay + rng.normal(0, 0.0025, 10))))
            for level, stay in zip((20.0, 20.0 * (1 + slowdown)), stays, strict=True)
        ]
        found.append(ratio_of(*sides))
    return found


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    found = [ratio.speedup_interval for ratio in pairs(0.0, 400)]

    covered = sum(interval.low <= 1.0 <= interval.high for interval in found)

    assert 0.92 <= covered / 400 <= 0.985


def test_equal_kernels_are_never_called_faster_or_slower() -> None:
    standings = {ratio.standing for ratio in pairs(0.0, 400)}

    assert standings <= {Standing.ALIKE, Standing.UNSURE}


def test_two_percent_are_found_by_one_comparison() -> None:
    slower = sum(ratio.standing is Standing.SLOWER for ratio in pairs(0.02, 400))

    assert slower / 400 >= 0.99


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
    own, fixed = 0.0036**2, 0.0025**2
    df = (own + fixed) ** 2 / (own**2 / 3 + fixed**2 / 10)

    assert 1.5 * math.exp(stats.t.ppf(0.975, df) * math.sqrt(own + fixed)) == pytest.approx(
        ratio.speedup_interval.high
    )


def test_an_unknown_reference_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"reference 'c' is not among .* expected one of a, b"):
        compare("x", {"b": rounds_of(1.0), "a": rounds_of(1.0)}, "c")


def test_rounds_that_do_not_pair_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"'mine' against 'ref': \[1\] and \[2\] rounds"):
        ratio_of(rounds_of(1.0), rounds_of(1.0, 2.0))
    with pytest.raises(ValueError, match="shares no sampled round"):
        ratio_of(rounds_of(1.0, 0.0), rounds_of(0.0, 1.0))


def test_several_processes_pair_one_by_one() -> None:
    theirs = a_measurement(a_process(30.0), a_process(60.0))
    ours = a_measurement(a_process(20.0), a_process(40.0))

    assert 1.5 == pytest.approx(ratio_of(theirs, ours).speedup)


def asked(speedup: float, least: float, *, rounds: int = 10) -> Comparison:
    """
    Return a comparison of two callables with little noise, of which something is asked.
    """
    levels = [1 + 0.0005 * (-1) ** index for index in range(rounds)]
    theirs = rounds_of(*(20.0 * speedup * level for level in levels))
    ours = rounds_of(*(20.0 for _ in levels))
    return compare("x", {"ref": theirs, "mine": ours}, "ref", {"mine": least})


@pytest.mark.parametrize(
    ("speedup", "status", "reason"),
    [
        (1.25, Status.UNCHANGED, "FAST_ENOUGH"),
        (1.101, Status.INCONCLUSIVE, "SPEEDUP_IN_INTERVAL"),
        (1.099, Status.INCONCLUSIVE, "SPEEDUP_IN_INTERVAL"),
        (1.05, Status.MISSED_TARGET, "BELOW_SPEEDUP"),
    ],
)
def test_the_whole_interval_decides_about_an_asked_speedup(speedup, status, reason) -> None:
    found = asked(speedup, 1.1)
    (verdict,) = found.verdicts

    assert (status, reason) == (verdict.status, verdict.reason)
    assert verdict.sentence.startswith(f"{speedup:.3f}x (")
    assert "over 'ref', at least 1.1x asked" in verdict.sentence
    assert "mine" == verdict.case.name
    assert (1.1, verdict) == (found.ratios[1].min_speedup, found.ratios[1].verdict)


def test_the_numbers_of_a_verdict_are_those_of_the_times() -> None:
    (verdict,) = asked(1.25, 1.1).verdicts

    assert (20.0, 25.0) == pytest.approx((verdict.time_us, verdict.baseline_us), rel=1e-6)
    assert -0.2 == pytest.approx(verdict.change)
    assert verdict.change_interval.low < -0.2 < verdict.change_interval.high


def test_what_nothing_is_asked_of_has_no_verdict() -> None:
    found = compare("x", {"a": rounds_of(1.0), "b": rounds_of(1.0)}, "a")

    assert ((), {}) == (found.verdicts, dict(found.min_speedup))


def test_what_would_tell_is_said_or_that_nothing_would() -> None:
    (near,) = asked(1.101, 1.1).verdicts
    (reachable,) = asked(1.1065, 1.1, rounds=2).verdicts

    assert "however many rounds" in near.sentence
    assert "About rounds=" in reachable.sentence


@pytest.mark.parametrize(
    ("level", "standing"),
    [
        (18.0, Standing.FASTER),
        (22.0, Standing.SLOWER),
        (20.0, Standing.ALIKE),
        (20.2, Standing.UNSURE),
    ],
)
def test_a_callable_stands_where_its_whole_interval_lies(level: float, standing) -> None:
    theirs, ours = (rounds_of(*[each] * 10) for each in (20.0, level))

    assert standing is ratio_of(theirs, ours).standing


def test_a_record_is_judged_as_it_was_live() -> None:
    live = asked(1.05, 1.1)
    told = replace(live, ratios=tuple(replace(r, max_abs_difference=0.5) for r in live.ratios))

    assert told == judge_again(told)
    assert told == judge_again(
        replace(
            told,
            ratios=tuple(
                replace(r, speedup=9.0, verdict=None, standing=Standing.FASTER) for r in told.ratios
            ),
        )
    )


def test_an_invalid_measurement_makes_the_comparison_invalid() -> None:
    problem = Problem("POISON_LEFT", "why")
    found = compare(
        "x", {"a": rounds_of(1.0), "b": replace(rounds_of(1.0), problem=problem)}, "a", {"b": 2.0}
    )

    assert ((), problem) == (found.ratios, found.problem)
    assert [Status.INVALID] == [verdict.status for verdict in found.verdicts]
    assert found == judge_again(found)
