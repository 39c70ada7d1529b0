"""
Two versions of one case in processes that took turns.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from measured import CASE, QUIET, a_measurement, a_process
from scipy import stats

from pytest_kernelperf.analysis.pairing import estimate_pairs, judge_pair
from pytest_kernelperf.analysis.scatter import Prior, ProcessLogs
from pytest_kernelperf.model import Limits, Measurement, Problem, Status, Verdict

JUST_P50 = Limits()


def of(*levels_us: float, **shape: object) -> Measurement:
    return a_measurement(*(a_process(level, **shape) for level in levels_us))


def verdict_of(before: Measurement, after: Measurement, limits: Limits = JUST_P50) -> Verdict:
    (verdict,) = judge_pair(before, after, limits, QUIET)
    return verdict


def logs(*means: float) -> list[ProcessLogs]:
    return [ProcessLogs("A", np.array([mean])) for mean in means]


def test_the_interval_is_students_t_over_the_pairs_with_a_moderated_variance() -> None:
    """Four pairs, differences 1, 2, 3, 2 %; the prior (sd .4 % a process, 4 df) counts twice."""
    before, after = logs(1.00, 1.10, 1.05, 1.20), logs(1.01, 1.12, 1.08, 1.22)
    differences = np.array([0.01, 0.02, 0.03, 0.02])
    variance = (4 * 2 * 0.004**2 + 3 * differences.var(ddof=1)) / 7
    width = stats.t.ppf(0.975, 7) * math.sqrt(variance / 4)

    change, error = estimate_pairs(before, after, Prior(0.004**2, 4.0))

    assert math.expm1(0.02) == pytest.approx(change.relative)
    assert math.expm1(0.02 - width) == pytest.approx(change.interval.low)
    assert math.expm1(0.02 + width) == pytest.approx(change.interval.high)
    assert math.sqrt(variance / 4) == pytest.approx(error)


@pytest.mark.parametrize(
    ("factor", "status", "reason", "words"),
    [
        (1.02, Status.REGRESSED, "SLOWER_THAN_BASELINE", "slower than before"),
        (1.0, Status.UNCHANGED, "WITHIN_MARGIN", "unchanged within the margin"),
        (0.97, Status.IMPROVED, "FASTER_THAN_BASELINE", "faster than before"),
        (1.009, Status.INCONCLUSIVE, "STRADDLES_MARGIN", "more pairs narrow it"),
    ],
)
def test_what_the_whole_interval_says(factor, status, reason, words) -> None:
    before = (20.0, 20.05, 19.95, 20.02, 19.98)

    verdict = verdict_of(of(*before), of(*(level * factor for level in before)))

    assert (status, reason) == (verdict.status, verdict.reason)
    assert words in verdict.sentence
    assert "5 pairs of processes" in verdict.sentence
    assert factor - 1 == pytest.approx(verdict.change, abs=1e-9)
    assert 20.0 == pytest.approx(verdict.baseline_us, rel=1e-3)


def test_a_drift_over_the_processes_is_no_noise() -> None:
    """Each pair 3 % slower than the one before it: unpaired, 2 % would be lost in that."""
    drift = [1.03**index for index in range(5)]

    verdict = verdict_of(of(*(20 * d for d in drift)), of(*(20.4 * d for d in drift)))

    assert Status.REGRESSED is verdict.status


def test_a_test_may_ask_for_its_own_margin() -> None:
    limits = Limits(max_regression={50.0: 0.05})

    verdict = verdict_of(of(*[20.0] * 5), of(*[20.4] * 5), limits)

    assert (Status.UNCHANGED, 0.05) == (verdict.status, verdict.margin)


def test_two_pairs_never_say_regressed() -> None:
    verdict = verdict_of(of(20.0, 20.0), of(30.0, 30.0))

    assert (Status.INCONCLUSIVE, "PROVISIONAL") == (verdict.status, verdict.reason)
    assert "it takes 3 pairs" in verdict.sentence


def test_a_pair_without_samples_on_one_side_is_left_out() -> None:
    before, after = of(20.0, 20.0, 20.0, 90.0), of(20.4, 20.4, 20.4, 20.4)
    emptied = replace(after.processes[3], rounds=())
    after = replace(after, processes=(*after.processes[:3], emptied))

    verdict = verdict_of(before, after)

    assert (Status.REGRESSED, pytest.approx(0.02)) == (verdict.status, verdict.change)
    assert "3 pairs" in verdict.sentence


def test_nothing_left_is_inconclusive() -> None:
    none = replace(a_process(20.0), rounds=())

    verdict = verdict_of(of(20.0), a_measurement(none))

    assert (Status.INCONCLUSIVE, "TOO_FEW_SAMPLES") == (verdict.status, verdict.reason)
    assert "no pair of processes brought samples of both sides" in verdict.sentence


def test_another_way_of_measuring_is_incomparable() -> None:
    after = replace(of(20.0, 20.0, 20.0), method="stream")

    verdict = verdict_of(of(20.0, 20.0, 20.0), after)

    assert (Status.INCOMPARABLE, "METHOD_DIFFERS") == (verdict.status, verdict.reason)


def test_a_lower_clock_explains_a_slowdown() -> None:
    after = of(20.8, 20.8, 20.8, clock_mhz=1900.0)

    verdict = verdict_of(of(20.0, 20.0, 20.0), after)

    assert (Status.INCONCLUSIVE, "CLOCK_MOVED") == (verdict.status, verdict.reason)


@pytest.mark.parametrize(
    ("clock_mhz", "status", "reason"),
    [(1936.0, "INCONCLUSIVE", "CLOCK_MOVED"), (1980.0, "REGRESSED", "SLOWER_THAN_BASELINE")],
)
def test_a_clock_that_fell_in_some_pairs_is_their_excuse(clock_mhz, status, reason) -> None:
    """
    2.2 % in three of five are 1.3 % in the mean: too little to tell from canaries that err.
    """
    slower, clocks = (1.022, 1.022, 1.022, 1.03, 1.022), (clock_mhz,) * 3 + (1980.0,) * 2
    after = a_measurement(
        *(a_process(20.0 * by, clock_mhz=mhz) for by, mhz in zip(slower, clocks, strict=True))
    )

    verdict = verdict_of(of(*(20.0,) * 5), after, Limits(max_regression={50.0: 0.01}))

    assert (status, reason) == (verdict.status.value, verdict.reason)
    assert ("in 3 of 5 processes so was the clock" in verdict.sentence) == (clock_mhz < 1980.0)


@pytest.mark.parametrize("before_too", [False, True])
def test_beside_a_neighbour_on_the_card_no_version_is_regressed(before_too) -> None:
    """On both sides it is no habit either: its bursts met the later version more by chance."""
    before = of(*(20.0,) * 3, foreign_processes=int(before_too))

    verdict = verdict_of(before, of(*(21.0,) * 3, foreign_processes=1))

    assert (Status.INCONCLUSIVE, "FOREIGN_PROCESS") == (verdict.status, verdict.reason)
    assert "another process computed on the card in 15 of 15 rounds" in verdict.sentence


def test_a_neighbour_of_the_version_before_alone_excuses_nothing() -> None:
    verdict = verdict_of(of(*(20.0,) * 3, foreign_processes=1), of(*(21.0,) * 3))

    assert Status.REGRESSED is verdict.status


def test_an_invalid_version_is_invalid() -> None:
    after = replace(of(20.0), problem=Problem("WRONG_OUTPUT", "why"))

    assert Status.INVALID is verdict_of(of(20.0), after).status


def test_what_does_not_pair_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 processes before and 1 after do not pair"):
        verdict_of(of(20.0, 20.0), of(20.0))
    other = replace(of(20.0), case=replace(CASE, test="test_y"))
    with pytest.raises(ValueError, match="are not one case"):
        verdict_of(of(20.0), other)


def trials(factor: float, count: int) -> list[Verdict]:
    """
    Return verdicts of five pairs of processes as noisy as recorded (sd .24 %), in a 1 % drift.
    """
    rng = np.random.default_rng(3)
    found = []
    for _ in range(count):
        drift = np.exp(rng.normal(0, 0.01, 5))
        sides = [
            of(*(level * drift * np.exp(rng.normal(0, 0.0024, 5))), rounds=2, samples=2)
            for level in (20.0, 20.0 * factor)
        ]
        found.append(verdict_of(*sides))
    return found


def test_equal_versions_never_regress_and_two_percent_is_found() -> None:
    equal = [verdict.status for verdict in trials(1.0, 300)]
    slower = [verdict.status for verdict in trials(1.02, 300)]

    assert Status.REGRESSED not in equal
    assert slower.count(Status.REGRESSED) / 300 >= 0.95


def test_pairs_that_scatter_far_more_than_the_prior_has_it_are_believed_alone() -> None:
    """Differences +10, +50, +90 %: mixed with a prior of 3 % they would show a slowdown of 10 %."""
    before, after = logs(1.0, 1.0, 1.0), logs(1.1, 1.5, 1.9)
    width = stats.t.ppf(0.975, 2) * 0.4 / math.sqrt(3)

    change, error = estimate_pairs(before, after, Prior(0.03**2, 4.0))

    assert 0.4 / math.sqrt(3) == pytest.approx(error)
    assert math.expm1(0.5 - width) == pytest.approx(change.interval.low)


def test_intervals_of_equal_versions_beside_other_load_rarely_lie_above_zero() -> None:
    """Twenty times as noisy as the prior: with that mixed in 15 % would, of 2.5 % wanted."""
    rng = np.random.default_rng(5)
    prior = Prior(0.004**2, 4.0)
    lows = []
    for _ in range(1000):
        sides = (logs(*rng.normal(1.0, 0.08, 3)) for _ in range(2))
        lows.append(estimate_pairs(*sides, prior)[0].interval.low)

    assert 0.05 > np.mean(np.array(lows) > 0.0)
