"""
Rates and their exact confidence limits.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kernelperf.analysis.rates import Rate, total


def at_most_by_search(hits: int, trials: int) -> float:
    """
    The obvious slow twin: the largest true share under which so few hits still have 5 %.
    """

    def at_most_so_many(share: float) -> float:
        terms = (
            math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(hits + 1)
        )
        return sum(terms)

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most_so_many(middle) > 0.05 else (low, middle)
    return low


def test_none_of_300_means_at_most_one_in_100():
    """
    The rule of three: 3 / n, from 1 - 0.05 ** (1 / n).
    """
    assert 1 - 0.05 ** (1 / 300) == pytest.approx(Rate(0, 300).at_most, rel=1e-12)
    assert Rate(0, 300).at_most < 3 / 300


def test_59_of_60_means_at_least_92_percent():
    assert 0.9234 == pytest.approx(Rate(59, 60).at_least, abs=5e-5)


def test_limits_without_evidence_say_nothing():
    assert (0.0, 1.0, None) == (Rate().at_least, Rate().at_most, Rate().share)
    assert 1.0 == Rate(5, 5).at_most
    assert 0.0 == Rate(0, 5).at_least


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
def test_the_upper_limit_is_what_a_search_finds(counts):
    assert at_most_by_search(*counts) == pytest.approx(Rate(*counts).at_most, abs=1e-9)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_share_lies_between_its_limits_and_misses_mirror_hits(counts):
    hits, trials = counts
    rate, mirrored = Rate(hits, trials), Rate(trials - hits, trials)

    assert rate.at_least <= hits / trials <= rate.at_most
    assert 1 - mirrored.at_most == pytest.approx(rate.at_least, abs=1e-9)


def test_rates_add_up():
    assert Rate(3, 30) == total([Rate(1, 10), Rate(2, 20)])
    assert Rate() == total([])
