"""
The suite's prior: Smyth's fit, its limits, and which baselines it is learned from.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from measured import a_process, a_reference
from scipy import special

from pytest_kernelperf.analysis import Noise, noise_from
from pytest_kernelperf.analysis.noise import fit_prior, fixed_prior, inverse_trigamma, time_scale
from pytest_kernelperf.analysis.scatter import VARIANCE_FLOOR, Prior, process_variance
from pytest_kernelperf.model import Reference


@pytest.mark.parametrize("value", [1e-3, 0.1, 1.0, math.pi**2 / 6, 25.0])
def test_inverse_trigamma_inverts_trigamma(value: float) -> None:
    """trigamma(1) is pi² / 6."""
    assert value == pytest.approx(float(special.polygamma(1, inverse_trigamma(value))), rel=1e-8)


@pytest.mark.parametrize(("df", "variance"), [(3.0, 9e-6), (8.0, 1.6e-5)])
def test_the_fit_finds_the_prior_that_variances_were_drawn_from(df: float, variance: float) -> None:
    """5000 baselines of seven processes each."""
    rng = np.random.default_rng(5)
    true = df * variance / rng.chisquare(df, 5000)
    samples = [(float(v * rng.chisquare(6) / 6), 6) for v in true]

    prior = fit_prior(samples)

    assert prior is not None
    assert df == pytest.approx(prior.df, rel=0.15)
    assert variance == pytest.approx(prior.variance, rel=0.1)


def test_alike_baselines_never_weigh_more_than_the_cap() -> None:
    """Less scatter than chance gives would mean an infinite weight."""
    prior = fit_prior([(1e-5, 4), (1e-5, 4), (1e-5, 4)])

    assert prior is not None
    assert 12.0 == prior.df


def test_wildly_different_baselines_hardly_weigh() -> None:
    prior = fit_prior([(1e-8, 6), (1e-5, 6), (1e-2, 6)])

    assert prior is not None
    assert 1.0 == prior.df


def test_two_baselines_are_too_few_to_learn_from() -> None:
    assert fit_prior([(1e-5, 6), (1e-5, 6)]) is None


def test_the_suites_prior_holds_for_its_own_timer_percentile_and_time_scale() -> None:
    noise = noise_from([("launch", a_reference(20.0 + i, sd=0.002)) for i in range(3)])

    assert noise.prior("launch", 50.0, 25.0).variance == pytest.approx(4e-6, rel=0.3)
    assert fixed_prior("launch", 50.0) == noise.prior("launch", 50.0, 5.0)
    assert fixed_prior("launch", 90.0) == noise.prior("launch", 90.0, 25.0)
    assert fixed_prior("device", 50.0) == noise.prior("device", 50.0, 25.0)


def test_percentiles_that_a_timer_can_not_give_teach_nothing() -> None:
    noise = noise_from([("device", a_reference(20.0 + i)) for i in range(3)])

    assert [("device", 50.0, 1)] == [key for key, _ in noise.priors]


def test_provisional_baselines_teach_nothing() -> None:
    references = [("device", a_reference(20.0 + i, processes=2)) for i in range(5)]

    assert Noise() == noise_from(references)


def test_the_order_of_baselines_changes_nothing() -> None:
    references = [("wall", a_reference(5.0 * (i + 1), sd=0.001 * (i + 1))) for i in range(8)]

    forward, backward = noise_from(references), noise_from(references[::-1])

    assert [key for key, _ in forward.priors] == [key for key, _ in backward.priors]
    assert forward.prior("wall", 50.0, 20.0).variance == pytest.approx(
        backward.prior("wall", 50.0, 20.0).variance, rel=1e-12
    )


def test_noise_is_a_value() -> None:
    references = [("wall", a_reference(20.0 + i)) for i in range(3)]

    assert noise_from(references) == noise_from(references)
    assert hash(noise_from(references)) == hash(noise_from(references))


def test_identical_processes_do_not_promise_perfect_repetition() -> None:
    same = Reference(
        a_reference().plan, "graph", (), tuple(a_process(20.0, name=str(i)) for i in range(3))
    )
    noise = noise_from([("device", same)] * 3)

    assert noise.prior("device", 50.0, 20.0).variance >= VARIANCE_FLOOR / 10
    assert VARIANCE_FLOOR == process_variance([])


@pytest.mark.parametrize(
    ("timer", "percentile", "sd"),
    [
        ("device", 50.0, 0.004),
        ("launch", 75.0, 0.006),
        ("launch", 95.0, 0.010),
        ("launch", 99.0, 0.015),
        ("wall", 50.0, 0.03),
        ("device", 99.0, 0.12),
    ],
)
def test_the_fixed_priors_are_the_documented_ones(timer: str, percentile: float, sd: float) -> None:
    """A timer without figures of its own gets the widest."""
    assert Prior(sd**2, 4.0) == fixed_prior(timer, percentile)


@pytest.mark.parametrize(("time_us", "scale"), [(9.99, 0), (10.0, 1), (99.9, 1), (100.0, 2)])
def test_time_scales_are_decades(time_us: float, scale: int) -> None:
    assert scale == time_scale(time_us)
