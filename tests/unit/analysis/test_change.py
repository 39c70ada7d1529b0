"""
The change and its interval: textbook twins, the prior, what widens it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from pytest_kernelperf.analysis.change import (
    estimate_change,
    expected_error,
    half_width,
    is_noisier,
)
from pytest_kernelperf.analysis.scatter import (
    UNKNOWN,
    Components,
    Prior,
    ProcessLogs,
    mixed,
    process_df,
    process_variance,
)

WEAK = Prior(1e-6, 1e-9)


def known(baseline: Sequence[ProcessLogs], prior: Prior = WEAK, **others: Prior) -> Components:
    """
    Return what a baseline and a prior say together.
    """
    own = Prior(process_variance(baseline), process_df(baseline))
    return Components(mixed(prior, own), **others)


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

    change = estimate_change(flat(0.05), flat(*old), known(flat(*old)))

    assert math.expm1(0.05 - np.mean(old)) == pytest.approx(change.relative)
    assert math.expm1(0.05 - np.mean(old) - width) == pytest.approx(change.interval.low)
    assert math.expm1(0.05 - np.mean(old) + width) == pytest.approx(change.interval.high)


def test_several_candidate_processes_average_at_the_error_of_their_look() -> None:
    """Their own scatter joins the baseline's: 5 and 2 degrees of freedom."""
    old, new = [0.0, 0.004, 0.001, -0.002, 0.003, 0.0], [0.05, 0.053, 0.047]
    variance = (5 * np.var(old, ddof=1) + 2 * np.var(new, ddof=1)) / 7
    width = stats.t.ppf(0.99, 7) * math.sqrt(variance * (1 / 3 + 1 / 6))

    change = estimate_change(flat(*new), flat(*old), known(flat(*old)))

    assert math.expm1(0.05 - np.mean(old) + width) == pytest.approx(change.interval.high)


def test_prior_and_sample_variance_mix_by_their_degrees_of_freedom() -> None:
    """By hand: (4 * 9e-6 + 2 * 1e-6) / 6, with 6 degrees of freedom."""
    baseline = flat(-0.001, 0.0, 0.001)

    found = known(baseline, Prior(9e-6, 4.0)).process

    assert (38e-6 / 6, 6.0) == pytest.approx((found.variance, found.df))


def test_one_baseline_process_leaves_only_the_prior() -> None:
    prior = Prior(9e-6, 4.0)

    parts = known(flat(0.0), prior)

    assert prior == parts.process
    assert 18e-6 == pytest.approx(expected_error(flat(0.0), parts, 1).variance)


def test_variance_between_cards_is_not_taken_for_noise() -> None:
    """Two cards 10 % apart, each repeating to 0.1 %: the noise is 0.1 %."""
    baseline = [*flat(-0.001, 0.001, card="A"), *flat(0.099, 0.101, card="B")]

    assert 2e-6 == pytest.approx(process_variance(baseline), rel=1e-6)


def test_fewer_rounds_than_the_baseline_widen_the_interval_by_the_rounds_part() -> None:
    """By hand: the rounds' variance s² counts s² / 2 instead of s² / 4."""
    rng = np.random.default_rng(3)
    noisy = [logs(*rng.normal(mean, 0.01, 4)) for mean in (0.0, 0.001, -0.001, 0.002)]
    between = np.var([each.mean for each in noisy], ddof=1)
    within = np.mean([each.rounds.var(ddof=1) for each in noisy])
    se = math.sqrt(between + within / 2 - within / 4 + between / 4)
    width = stats.t.ppf(0.975, 3) * se

    change = estimate_change([logs(-0.001, 0.001)], noisy, known(noisy))

    center = -np.mean([each.mean for each in noisy])
    assert math.expm1(center + width) == pytest.approx(change.interval.high)


def test_more_rounds_than_the_baseline_never_shrink_it_below_their_ratio() -> None:
    """All noise in the rounds, by the numbers more than all: the part left can't be negative."""
    noisy = [logs(-0.01, 0.01), logs(-0.0101, 0.0101), logs(-0.01, 0.0101)]

    change = estimate_change([logs(*[0.0] * 4)], noisy, known(noisy, Prior(4e-6, 1000.0)))

    width = stats.t.ppf(0.975, 1002) * math.sqrt(4e-6 * (2 / 4 + 1 / 3))
    mean = np.mean([each.mean for each in noisy])
    assert math.expm1(width - mean) == pytest.approx(change.interval.high, rel=2e-3)


def test_much_noisier_rounds_widen_the_interval() -> None:
    baseline = [logs(m - 0.001, m, m + 0.001) for m in (0.0, 0.001, -0.001, 0.0)]
    steady, wild = logs(0.049, 0.05, 0.051), logs(0.0, 0.05, 0.1)
    parts = known(baseline, Prior(1e-6, 6.0))

    calm = estimate_change([steady], baseline, parts)
    noisy = estimate_change([wild], baseline, parts)

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

    parts = known(baseline, card=Prior(card / 2, 10.0))
    change = estimate_change(flat(0.0, card="B"), baseline, parts)

    assert math.expm1(width) == pytest.approx(change.interval.high)


def test_a_session_adds_its_variance_once_however_many_processes_it_has() -> None:
    """Three candidate processes of one session against a baseline of two sessions."""
    baseline = [ProcessLogs("A", np.full(2, mean), session) for session, mean in enumerate((0, 0))]
    parts = Components(Prior(1e-6, 1000.0), Prior(9e-6, 1e9))
    candidate = flat(0.0, 0.001, -0.001)
    variance = 1e-6 * (1 / 3 + 1 / 2) + 9e-6 * (1 + 1 / 2)

    error = expected_error(baseline, parts, 3)
    change = estimate_change(candidate, baseline, parts)

    assert variance == pytest.approx(error.variance)
    assert math.expm1(half_width(error, 3)) == pytest.approx(change.interval.high, rel=1e-3)


def test_candidates_in_two_modes_widen_their_own_interval() -> None:
    """The baseline met one mode only: its scatter says nothing of the other."""
    baseline = flat(-0.001, 0.0, 0.001)
    parts = known(baseline, Prior(1e-6, 4.0))

    alike = estimate_change(flat(0.01, 0.01, 0.01), baseline, parts).interval
    modes = estimate_change(flat(0.0, 0.015, 0.015), baseline, parts).interval

    assert alike.low > 0.007
    assert modes.low < 0.0


def test_the_error_expected_of_more_processes_shrinks_to_the_baselines_own() -> None:
    baseline = flat(-0.001, 0.0, 0.001)
    parts = known(baseline)
    errors = [expected_error(baseline, parts, processes).variance for processes in (1, 3, 5, 1000)]

    assert [1e-6 * (1 / k + 1 / 3) for k in (1, 3, 5, 1000)] == pytest.approx(errors)


def test_what_is_not_known_to_add_adds_nothing() -> None:
    error = expected_error(flat(0.0), Components(Prior(1e-6, 3.0), UNKNOWN, UNKNOWN), 1)

    assert (2e-6, 3.0) == pytest.approx((error.variance, error.df))
