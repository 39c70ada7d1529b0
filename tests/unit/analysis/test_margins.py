"""
Default margins: floors, noise, caps.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from measured import QUIET, a_reference
from scipy import special

from pytest_kernelperf.analysis import margins
from pytest_kernelperf.analysis.change import expected_error, half_width
from pytest_kernelperf.analysis.margins import (
    default_margin,
    detectable_slowdown,
    settled_by,
    supported_margin,
)
from pytest_kernelperf.analysis.scatter import Components, Prior, ProcessLogs, columns


@pytest.mark.parametrize(
    ("timer", "percentile", "floor"),
    [
        ("device", 50.0, 0.005),
        ("launch", 50.0, 0.01),
        ("launch", 95.0, 0.05),
        ("launch", 99.0, 0.10),
        ("launch", 99.9, 0.10),
        ("launch", 75.0, 0.01),
    ],
)
def test_a_quiet_baseline_gets_its_kinds_floor(timer: str, percentile: float, floor: float) -> None:
    made = a_reference(sd=0.0005, processes=60).processes
    # Every other one was measured on another day, so that days are known to add nothing.
    days = [
        replace(each, started=f"2026-11-{1 + i % 2:02}T10:00:00") for i, each in enumerate(made)
    ]
    reference = replace(a_reference(), processes=tuple(days))

    assert {percentile: floor} == margins(timer, reference, [percentile], QUIET)


def parts_of(sd: float, df: float = 1e6) -> Components:
    """
    Return a process's standard deviation, known without doubt unless said otherwise.
    """
    return Components(Prior(sd**2, df))


FIVE = [ProcessLogs("A", np.zeros(5), session) for session in (0, 0, 0, 1, 1)]


@pytest.mark.parametrize(("timer", "floor"), [("device", 0.010), ("launch", 0.015)])
def test_a_baseline_of_one_session_gets_a_higher_floor(timer: str, floor: float) -> None:
    """What another day adds is not known before there was one."""
    baseline = [replace(each, session=0) for each in FIVE]

    assert floor == default_margin(timer, 50.0, baseline, parts_of(0.0005))
    assert floor > default_margin(timer, 50.0, FIVE, parts_of(0.0005))


@pytest.mark.parametrize(
    ("sd", "margin"),
    [
        (0.0010, 0.005),  # the floor
        (0.0020, 3.9 * 0.0020 * math.sqrt(1 + 1 / 5)),  # what one process supports
        (0.0035, 0.02 - 3.9 * 0.0035 * math.sqrt(1 / 5 + 1 / 5)),  # what still finds 2 %
        (0.0080, 3.9 * 0.0080 * math.sqrt(1 / 5 + 1 / 5)),  # what five processes support
        (0.0300, 0.05),  # the cap
    ],
)
def test_the_margin_grows_with_the_noise_but_leaves_room_to_find_two_per_cent(
    sd: float, margin: float
) -> None:
    assert margin == pytest.approx(default_margin("device", 50.0, FIVE, parts_of(sd)))


@pytest.mark.parametrize("sd", [0.0005, 0.001, 0.002, 0.003, 0.004])
def test_two_per_cent_is_detectable_up_to_a_noise_of_four_per_mille(sd: float) -> None:
    margin = default_margin("device", 50.0, FIVE, parts_of(sd))

    assert detectable_slowdown(FIVE, parts_of(sd), margin) < 0.0205


def test_the_detectable_slowdown_is_margin_plus_half_an_interval_plus_luck() -> None:
    """By hand: t is normal here; 2.17 leaves 1.5 % on its side, 1.645 leaves 5 %."""
    error = 0.003 * math.sqrt(1 / 5 + 1 / 5)
    expected = 1.01 * math.exp((2.1701 + 1.645) * error) - 1

    assert expected == pytest.approx(detectable_slowdown(FIVE, parts_of(0.003), 0.01), rel=1e-3)


def test_what_is_detectable_allows_for_a_noise_that_was_estimated_too_small() -> None:
    """By hand: with nine degrees of freedom a variance may lie 2.16 times above its estimate."""
    few = Components(Prior(0.003**2, 5.0))
    error = 0.003 * math.sqrt(2.159 * (1 / 5 + 1 / 5))
    quantile = float(special.stdtrit(9.0, 0.985))
    expected = 1.01 * math.exp((quantile + 1.645) * error) - 1

    assert expected == pytest.approx(detectable_slowdown(FIVE, few, 0.01), rel=1e-3)


def test_the_supported_margin_is_three_point_nine_errors_of_five_processes() -> None:
    error = expected_error(FIVE, parts_of(0.003), 5).variance

    assert 3.9 * math.sqrt(error) == pytest.approx(supported_margin(FIVE, parts_of(0.003)))


def test_a_change_far_from_the_margin_is_settled_by_few_processes_one_near_it_by_none() -> None:
    found = [settled_by(c, 0.01, 1, FIVE, parts_of(0.003)) for c in (0.02, 0.015, 0.011, 0.01)]

    assert [2, 4, None, None] == found
    assert 2 == settled_by(0.0, 0.01, 1, FIVE, parts_of(0.003))


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("sd", [0.001, 0.003, 0.01])
def test_no_fewer_processes_would_settle_it(sd: float, processes: int) -> None:
    """
    By trying one after the other.
    """
    parts = parts_of(sd)
    widths = {n: half_width(expected_error(FIVE, parts, n), n) for n in range(processes + 1, 31)}

    for change in np.linspace(0.0, 0.03, 31):
        distance = abs(math.log1p(change) - math.log1p(0.01))
        expected = next((n for n, width in widths.items() if width < distance), None)

        assert expected == settled_by(change, 0.01, processes, FIVE, parts)


def test_what_settles_it_is_found_although_still_more_processes_would_widen_the_interval() -> None:
    """
    What a session adds is known by two degrees of freedom: the less else there is, the fewer count.
    """
    parts = Components(Prior(1e-6, 4), session=Prior(1e-6, 2))
    widths = [half_width(expected_error(FIVE, parts, n), n) for n in (3, 4, 30)]
    change = math.expm1(math.log1p(0.01) + 0.0054)

    assert widths[1] < 0.0054 < min(widths[0], widths[2])
    assert 4 == settled_by(change, 0.01, 1, FIVE, parts)


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

    margin = default_margin("device", 50.0, column, parts_of(0.01, df=2.0))

    assert margin == pytest.approx(expected, rel=1e-4)


def test_another_cards_margin_holds_the_card_term_and_has_no_cap() -> None:
    (column,) = columns(a_reference(sd=0.001).processes, [50.0])
    parts = replace(parts_of(0.004), card=Prior(0.02**2, 10.0))

    assert default_margin("device", 50.0, column, parts) > 3.9 * 0.02


def test_a_baseline_without_samples_has_no_margin() -> None:
    assert {} == margins("device", a_reference(samples=0), [50.0], QUIET)
