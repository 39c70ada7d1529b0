"""
The change and its interval: textbook twins, the prior, what widens it.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pytest_kernelperf.analysis.change import (
    card_variance,
    estimate_change,
    is_noisier,
    moderated_variance,
    standard_error,
)
from pytest_kernelperf.analysis.noise import Prior, ProcessLogs

WEAK = Prior(1e-6, 1e-9)


def logs(*rounds: float, card: str = "A") -> ProcessLogs:
    return ProcessLogs(card, np.array(rounds))


def flat(*means: float, card: str = "A") -> list[ProcessLogs]:
    """
    Processes whose rounds all equal their mean.
    """
    return [logs(mean, mean, card=card) for mean in means]


def test_without_a_prior_it_is_the_textbook_prediction_interval() -> None:
    """A new observation against n old ones: t with n - 1 df, s * sqrt(1 + 1 / n)."""
    old = [0.0, 0.004, 0.001, -0.002, 0.003, 0.0]
    width = stats.t.ppf(0.975, 5) * np.std(old, ddof=1) * math.sqrt(1 + 1 / 6)

    change = estimate_change(flat(0.05), flat(*old), WEAK)

    assert math.expm1(0.05 - np.mean(old)) == pytest.approx(change.relative)
    assert math.expm1(0.05 - np.mean(old) - width) == pytest.approx(change.interval.low)
    assert math.expm1(0.05 - np.mean(old) + width) == pytest.approx(change.interval.high)


def test_several_candidate_processes_average_at_the_error_of_their_look() -> None:
    old = [0.0, 0.004, 0.001, -0.002, 0.003, 0.0]
    width = stats.t.ppf(0.99, 5) * np.std(old, ddof=1) * math.sqrt(1 / 3 + 1 / 6)

    change = estimate_change(flat(0.05, 0.06, 0.04), flat(*old), WEAK)

    assert math.expm1(0.05 - np.mean(old) + width) == pytest.approx(change.interval.high)


def test_prior_and_sample_variance_mix_by_their_degrees_of_freedom() -> None:
    """By hand: (4 * 9e-6 + 2 * 1e-6) / 6, with 6 degrees of freedom."""
    baseline = flat(-0.001, 0.0, 0.001)

    mixed = moderated_variance(baseline, Prior(9e-6, 4.0))

    assert (38e-6 / 6, 6.0) == pytest.approx((mixed.variance, mixed.df))


def test_one_baseline_process_leaves_only_the_prior() -> None:
    prior = Prior(9e-6, 4.0)

    assert prior == moderated_variance(flat(0.0), prior)
    assert math.sqrt(18e-6) == pytest.approx(standard_error(flat(0.0), prior))


def test_variance_between_cards_is_not_taken_for_noise() -> None:
    """Two cards 10 % apart, each repeating to 0.1 %: the noise is 0.1 %."""
    baseline = [*flat(-0.001, 0.001, card="A"), *flat(0.099, 0.101, card="B")]

    mixed = moderated_variance(baseline, WEAK)

    assert 2e-6 == pytest.approx(mixed.variance, rel=1e-6)


def test_fewer_rounds_than_the_baseline_widen_the_interval_by_the_rounds_part() -> None:
    """By hand: the rounds' variance s² counts s² / 2 instead of s² / 4."""
    rng = np.random.default_rng(3)
    noisy = [logs(*rng.normal(mean, 0.01, 4)) for mean in (0.0, 0.001, -0.001, 0.002)]
    between = np.var([each.mean for each in noisy], ddof=1)
    within = np.mean([each.rounds.var(ddof=1) for each in noisy])
    se = math.sqrt(between + within / 2 - within / 4 + between / 4)
    width = stats.t.ppf(0.975, 3) * se

    change = estimate_change([logs(-0.001, 0.001)], noisy, WEAK)

    center = -np.mean([each.mean for each in noisy])
    assert math.expm1(center + width) == pytest.approx(change.interval.high)


def test_more_rounds_than_the_baseline_never_shrink_it_below_their_ratio() -> None:
    """All noise in the rounds, by the numbers more than all: the part left can't be negative."""
    noisy = [logs(-0.01, 0.01), logs(-0.0101, 0.0101), logs(-0.01, 0.0101)]

    change = estimate_change([logs(*[0.0] * 4)], noisy, Prior(4e-6, 1000.0))

    width = stats.t.ppf(0.975, 1002) * math.sqrt(4e-6 * (2 / 4 + 1 / 3))
    mean = np.mean([each.mean for each in noisy])
    assert math.expm1(width - mean) == pytest.approx(change.interval.high, rel=2e-3)


def test_much_noisier_rounds_widen_the_interval() -> None:
    baseline = [logs(m - 0.001, m, m + 0.001) for m in (0.0, 0.001, -0.001, 0.0)]
    steady, wild = logs(0.049, 0.05, 0.051), logs(0.0, 0.05, 0.1)
    prior = Prior(1e-6, 6.0)

    calm = estimate_change([steady], baseline, prior)
    noisy = estimate_change([wild], baseline, prior)

    assert (False, True) == (calm.noisier, noisy.noisier)
    assert calm.relative == pytest.approx(noisy.relative)
    # Its own rounds' variance 0.05² / 3, its own 2 degrees of freedom.
    assert noisy.interval.high > math.expm1(0.05 + 4.3 * math.sqrt(0.05**2 / 3))
    assert calm.interval.high < 0.06


def test_noisier_is_the_f_test_at_one_in_a_thousand() -> None:
    baseline = [logs(0.0, 0.01, 0.02), logs(0.0, 0.01, 0.02)]
    critical = math.sqrt(stats.f.isf(0.001, 2, 4) * 1e-4)

    below = [logs(0.0, 0.99 * critical, 2 * 0.99 * critical)]
    above = [logs(0.0, 1.01 * critical, 2 * 1.01 * critical)]

    assert (False, True) == (is_noisier(below, baseline), is_noisier(above, baseline))


def test_a_single_round_has_no_scatter_to_test() -> None:
    assert not is_noisier([logs(0.5)], [logs(0.0, 0.001)])
    assert not is_noisier([logs(0.5, 0.6)], [logs(0.0)])


def test_another_card_adds_its_variance_and_satterthwaites_degrees_of_freedom() -> None:
    baseline = flat(-0.001, 0.0, 0.001)
    within, card = 1e-6 * (1 + 1 / 3), 0.012**2
    df = (within + card) ** 2 / (within**2 / 2 + card**2 / 10)
    width = stats.t.ppf(0.975, df) * math.sqrt(within + card)

    change = estimate_change(flat(0.0, card="B"), baseline, WEAK, card)

    assert math.expm1(width) == pytest.approx(change.interval.high)


def test_more_baseline_cards_average_their_part_of_the_card_term() -> None:
    """1.2 % is the difference of two cards: half of its variance is the candidate's own."""
    assert 0.012**2 == pytest.approx(card_variance("device", 50, 1))
    assert 0.012**2 * 0.75 == pytest.approx(card_variance("launch", 50, 2))
    assert (1.5 * 0.012) ** 2 == pytest.approx(card_variance("launch", 99, 1))
    assert 0.05**2 == pytest.approx(card_variance("wall", 50, 1))
