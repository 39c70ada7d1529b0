"""
Default margins: floors, noise, caps.
"""

from __future__ import annotations

import math

import pytest
from measured import QUIET, a_reference

from pytest_kernelperf.analysis import margins
from pytest_kernelperf.analysis.change import moderated_variance
from pytest_kernelperf.analysis.margins import default_margin
from pytest_kernelperf.analysis.noise import Prior, columns, fixed_prior


@pytest.mark.parametrize(
    ("timer", "percentile", "floor"),
    [
        ("device", 50.0, 0.015),
        ("launch", 50.0, 0.02),
        ("launch", 95.0, 0.05),
        ("launch", 99.0, 0.10),
        ("launch", 99.9, 0.10),
        ("launch", 75.0, 0.02),
    ],
)
def test_a_quiet_baseline_gets_its_kinds_floor(timer: str, percentile: float, floor: float) -> None:
    reference = a_reference(sd=0.0005, processes=30)

    assert {percentile: floor} == margins(timer, reference, [percentile], QUIET)


def test_a_noisier_baseline_gets_three_point_nine_standard_errors() -> None:
    reference = a_reference(sd=0.006)
    (column,) = columns(reference.processes, [50.0])
    variance = moderated_variance(column, fixed_prior("device", 50.0)).variance
    expected = 3.9 * math.sqrt(variance * (1 + 1 / 7))

    assert 0.015 < expected < 0.05
    assert {50.0: pytest.approx(expected)} == margins("device", reference, [50.0], QUIET)


@pytest.mark.parametrize(
    ("timer", "percentile", "cap"),
    [("device", 50.0, 0.05), ("launch", 50.0, 0.05), ("launch", 99.0, 0.30), ("wall", 50.0, 0.15)],
)
def test_noise_beyond_the_cap_does_not_widen_the_margin(
    timer: str, percentile: float, cap: float
) -> None:
    margin = margins(timer, a_reference(sd=0.2), [percentile], QUIET)

    assert {percentile: pytest.approx(cap)} == margin


@pytest.mark.parametrize(("percentile", "least"), [(50.0, 0.05), (99.0, 0.10)])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_provisional_baseline_gets_a_wide_margin(
    processes: int, percentile: float, least: float
) -> None:
    margin = margins("launch", a_reference(processes=processes), [percentile], QUIET)

    assert {percentile: pytest.approx(least, rel=0.01)} == margin


def test_a_provisional_margin_makes_room_for_the_interval_of_few_degrees_of_freedom() -> None:
    """t(2) is 4.30; else an unchanged kernel stays INCONCLUSIVE and its baseline incomplete."""
    (column,) = columns(a_reference(processes=1).processes, [50.0])
    expected = (4.3027 + 1.95) * math.sqrt(2) * 0.01

    margin = default_margin("device", 50.0, column, Prior(0.01**2, 2.0))

    assert margin == pytest.approx(expected, rel=1e-4)


def test_another_cards_margin_holds_the_card_term_and_has_no_cap() -> None:
    (column,) = columns(a_reference(sd=0.001).processes, [50.0])

    margin = default_margin("device", 50.0, column, fixed_prior("device", 50.0), 0.02**2)

    assert margin > 3.9 * 0.02


def test_a_baseline_without_samples_has_no_margin() -> None:
    assert {} == margins("device", a_reference(samples=0), [50.0], QUIET)
