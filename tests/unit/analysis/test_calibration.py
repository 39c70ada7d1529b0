"""
Whether the gate keeps its promises on the noise that was measured on H100s.

False alarms, slowdowns found, coverage: simulated with seeds, held to docs/verdicts.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from pytest_kernelperf.analysis.change import estimate_change
from pytest_kernelperf.analysis.decision import Findings, decide
from pytest_kernelperf.analysis.margins import default_margin
from pytest_kernelperf.analysis.noise import (
    Noise,
    ProcessLogs,
    fit_prior,
    fixed_prior,
    within_card_df,
    within_card_variance,
)

# Standard deviations in percent of nine kernels' device P50, between processes and between rounds.
COMPONENTS = (
    (0.24, 0.28),
    (0.47, 0.49),
    (0.25, 0.22),
    (0.24, 0.39),
    (0.10, 0.20),
    (0.00, 0.13),
    (0.00, 0.34),
    (0.00, 0.28),
    (0.21, 0.52),
)
ROUNDS = 5
LEVEL = math.log(20.0)


@dataclass(frozen=True)
class Outcome:
    """
    One simulated comparison.
    """

    status: str
    covered: bool


def draw(rng: np.random.Generator, kernel: tuple[float, float], slower: float = 0.0) -> ProcessLogs:
    process, within = (percent / 100 for percent in kernel)
    mean = LEVEL + math.log1p(slower) + rng.normal(0, process)
    return ProcessLogs("A", mean + rng.normal(0, within, ROUNDS))


def learn(suite: Sequence[Sequence[ProcessLogs]]) -> Noise:
    prior = fit_prior([(within_card_variance(each), within_card_df(each)) for each in suite])
    assert prior is not None
    return Noise(((("device", 50.0, 1), prior),))


@cache
def simulate(slower: float, processes: int, repeats: int, margin: float = 0.0) -> list[Outcome]:
    """
    Judge one candidate process of every kernel, each time against a suite drawn anew.
    """
    rng = np.random.default_rng(20)
    outcomes = []
    for _ in range(repeats):
        suite = [[draw(rng, kernel) for _ in range(processes)] for kernel in COMPONENTS]
        noise = learn(suite) if processes > 2 else Noise()
        prior = noise.prior("device", 50.0, 20.0)
        for kernel, baseline in zip(COMPONENTS, suite, strict=True):
            change = estimate_change([draw(rng, kernel, slower)], baseline, prior)
            limit = margin or default_margin("device", 50.0, baseline, prior)
            found = Findings(change=change.interval, margin=limit, noisier=change.noisier)
            covered = change.interval.low <= slower <= change.interval.high
            outcomes.append(Outcome(decide(found)[0].value, covered))
    return outcomes


def rates(outcomes: Sequence[Outcome]) -> dict[str, float]:
    counts = Counter(each.status for each in outcomes)
    return {status: count / len(outcomes) for status, count in counts.items()}


@pytest.mark.parametrize("processes", [5, 7])
def test_unchanged_kernels_hardly_ever_alarm_and_seldom_stay_undecided(processes: int) -> None:
    found = rates(simulate(0.0, processes, 200))

    assert found.get("REGRESSED", 0.0) <= 0.001
    assert found.get("INCONCLUSIVE", 0.0) <= 0.05


def test_a_slowdown_of_three_percent_is_found() -> None:
    """With seven baseline processes and the margin of 1.5 %: in at least nine of ten."""
    assert rates(simulate(0.03, 7, 150, 0.015))["REGRESSED"] >= 0.90


def test_a_slowdown_of_five_percent_is_always_found() -> None:
    assert rates(simulate(0.05, 5, 100))["REGRESSED"] >= 0.99


@pytest.mark.parametrize("processes", [3, 5, 7])
def test_the_change_interval_covers_the_truth_as_often_as_it_says(processes: int) -> None:
    covered = np.mean([each.covered for each in simulate(0.0, processes, 200)])

    assert 0.92 <= covered <= 0.98


def test_at_the_margin_itself_alarms_stay_at_their_level() -> None:
    """A kernel slower by exactly the margin is called REGRESSED in 2.5 % of runs at most, or so."""
    found = rates(simulate(0.015, 7, 200, 0.015))

    assert found["REGRESSED"] <= 0.04


def test_a_provisional_baseline_hardly_ever_alarms() -> None:
    """One process on either side, and only the documented prior to go by."""
    found = rates(simulate(0.0, 1, 200))

    assert found.get("REGRESSED", 0.0) <= 0.001
    assert found.get("INCONCLUSIVE", 0.0) <= 0.05


def test_the_suites_prior_finds_more_than_a_baseline_alone() -> None:
    """Why variances are moderated: at the same level, three baseline processes find more."""
    rng = np.random.default_rng(4)
    kernel = COMPONENTS[0]
    moderated = alone = 0
    for _ in range(300):
        suite = [[draw(rng, kernel) for _ in range(3)] for _ in range(6)]
        candidate = draw(rng, kernel, 0.03)
        prior = learn(suite).prior("device", 50.0, 20.0)
        nothing = type(prior)(1e-9, 1e-9)
        moderated += estimate_change([candidate], suite[0], prior).interval.low > 0.015
        alone += estimate_change([candidate], suite[0], nothing).interval.low > 0.015

    assert moderated > 1.3 * alone


def test_the_fixed_prior_is_wide_enough_for_what_was_measured() -> None:
    """Its standard deviation is above that of eight of the nine kernels."""
    measured = [math.hypot(process, within / math.sqrt(ROUNDS)) for process, within in COMPONENTS]
    sd = 100 * math.sqrt(fixed_prior("device", 50.0).variance)

    assert 8 == sum(each < sd for each in measured)
