"""
Whether one callable's time depends on its data: equivalence within a bound.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from measured import CASE, a_measurement, a_round, environment

from pytest_kernelperf.analysis import contrast_again, contrast_inputs
from pytest_kernelperf.model import (
    Discard,
    Independence,
    Measurement,
    Problem,
    Process,
    Round,
    Status,
)

P50 = {50.0: 0.01}


def rounds_of(
    *levels_us: float, clock_mhz: float = 0.0, timer: str = "device", **evidence: Any
) -> Measurement:
    rounds = tuple(
        a_round([level] if level else [], clock_mhz=(clock_mhz,) if clock_mhz else (), **evidence)
        for level in levels_us
    )
    found = a_measurement(Process("p", "", environment(), rounds))
    return replace(found, case=replace(CASE, timer=timer))


def on(bounds: dict[float, float] | None = None, **inputs: Measurement) -> Independence:
    return contrast_inputs("attention", inputs, bounds or P50)


def said(found: Independence) -> tuple[Status, str]:
    (verdict,) = (each for each in found.verdicts if each.judged)
    return verdict.status, verdict.reason


def steady(level: float, **evidence: Any) -> Measurement:
    return rounds_of(*[level] * 10, **evidence)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (20.0, (Status.UNCHANGED, "DATA_INDEPENDENT")),
        (20.04, (Status.UNCHANGED, "DATA_INDEPENDENT")),
        (20.16, (Status.INCONCLUSIVE, "BOUND_NOT_SUPPORTED")),
        (20.24, (Status.INCONCLUSIVE, "BOUND_NOT_SUPPORTED")),
        (20.60, (Status.MISSED_TARGET, "DATA_DEPENDENT")),
        (19.40, (Status.MISSED_TARGET, "DATA_DEPENDENT")),
    ],
)
def test_only_a_whole_interval_within_the_bound_is_independence(level, expected) -> None:
    assert expected == said(on(zeros=steady(20.0), random=steady(level)))


def test_every_two_inputs_are_compared_not_each_with_the_first() -> None:
    """Each is within 0.8 % of the first, but the outer two are 1.6 % apart and noise-free."""
    levels = {"low": 19.84, "middle": 20.0, "high": 20.16}

    found = on({50.0: 0.0145}, **{name: steady(level) for name, level in levels.items()})

    assert 3 == len(found.contrasts)
    worst = max(found.contrasts, key=lambda each: each.difference)
    assert ("high", "low") == (worst.slower, worst.faster)
    assert (Status.INCONCLUSIVE, "BOUND_NOT_SUPPORTED") == said(found)


def test_noise_is_no_evidence_of_independence() -> None:
    """The absence of a difference is not equivalence: the same levels, in rounds that scatter."""
    rng = np.random.default_rng(1)
    noisy = [rounds_of(*(20 * np.exp(rng.normal(0, 0.02, 10)))) for _ in range(2)]

    found = on(zeros=noisy[0], random=noisy[1])

    assert (Status.INCONCLUSIVE, "BOUND_NOT_SUPPORTED") == said(found)
    assert found.supported(50.0) > 0.01


def test_the_supported_bound_is_the_smallest_that_would_have_passed() -> None:
    inputs = {"zeros": steady(20.0), "random": steady(20.05)}
    supported = on(**inputs).supported(50.0)
    assert supported is not None

    passes, fails = (on({50.0: supported * factor}, **inputs) for factor in (1.001, 0.999))

    assert "DATA_INDEPENDENT" == said(passes)[1]
    assert "BOUND_NOT_SUPPORTED" == said(fails)[1]


def test_the_verdict_tells_the_two_inputs_that_are_most_apart() -> None:
    found = on(a=steady(20.0), b=steady(21.0), c=steady(20.1))
    (verdict,) = found.verdicts

    assert (21.0, 20.0) == pytest.approx((verdict.time_us, verdict.baseline_us))
    assert 0.05 == pytest.approx(verdict.change)
    assert verdict.change_interval.low < 0.05 < verdict.change_interval.high
    assert verdict.sentence.startswith("'b' +5.00 % over 'a' at P50, bound 1.00 %:")
    assert f"The data support a bound of {100 * found.supported(50.0):.2f} %." in verdict.sentence


def test_a_difference_that_comes_with_the_clock_is_reported_as_such() -> None:
    zeros, random = steady(20.0, clock_mhz=1980.0), steady(20.8, clock_mhz=1905.0)

    found = on(zeros=zeros, random=random)

    assert (Status.MISSED_TARGET, "DATA_CHANGES_CLOCK") == said(found)
    assert "SM clock of 'random': -3.79 %." in found.verdicts[0].sentence
    assert 1905 / 1980 - 1 == pytest.approx(found.contrasts[0].clock_difference)


def test_a_difference_at_equal_clocks_is_the_kernels() -> None:
    zeros, random = (steady(level, clock_mhz=1980.0) for level in (20.0, 20.8))

    assert "DATA_DEPENDENT" == said(on(zeros=zeros, random=random))[1]


def test_dropped_samples_are_told_because_they_may_hide_the_clock() -> None:
    fallen = steady(20.0, discarded=(Discard("CLOCK_FELL", 25.0),))

    (verdict,) = on(zeros=steady(20.0), random=fallen).verdicts

    assert "Samples dropped: zeros 0, random 10." in verdict.sentence


def test_the_tail_is_shown_where_the_timer_has_it_and_judged_where_it_is_asked() -> None:
    spread = tuple(np.linspace(20.0, 21.0, 200))
    taken = Process("p", "", environment(), tuple(Round(spread) for _ in range(10)))
    one = replace(a_measurement(taken), case=replace(CASE, timer="launch"))

    shown = on(a=one, b=one)
    asked = on({50.0: 0.01, 95.0: 0.05}, a=one, b=one)

    assert [(50.0, True), (95.0, False)] == [(v.percentile, v.judged) for v in shown.verdicts]
    assert ["NOT_JUDGED"] == [v.reason for v in shown.verdicts if not v.judged]
    assert ["DATA_INDEPENDENT"] * 2 == [v.reason for v in asked.verdicts]
    assert [50.0] == [v.percentile for v in on(a=steady(1.0), b=steady(1.0)).verdicts]


def test_rounds_that_would_tell_are_named() -> None:
    uneven = rounds_of(20.0, 20.02, 20.3, 19.9)
    (reachable,) = on(a=rounds_of(*[20.0] * 4), b=uneven).verdicts
    (near,) = on(a=steady(20.0), b=steady(20.19)).verdicts

    assert "About rounds=" in reachable.sentence
    assert "ask for a wider bound" in near.sentence


def test_a_record_is_judged_as_it_was_live() -> None:
    live = on(zeros=steady(20.0), random=steady(20.6))

    assert live == contrast_again(live)
    assert live == contrast_again(replace(live, contrasts=(), verdicts=()))


def test_an_invalid_measurement_is_invalid() -> None:
    problem = Problem("POISON_LEFT", "why")
    found = on(a=steady(20.0), b=replace(steady(20.0), problem=problem))

    assert ((), (), problem) == (found.contrasts, found.verdicts, found.problem)
    assert found.failure is not None
    assert Status.INVALID is found.failure.status
    assert found == contrast_again(found)


def test_nothing_sampled_together_is_inconclusive() -> None:
    found = on(a=rounds_of(1.0, 0.0), b=rounds_of(0.0, 1.0))

    assert (Status.INCONCLUSIVE, "TOO_FEW_SAMPLES") == said(found)
    assert found.supported(50.0) is None


def test_equal_inputs_are_shown_to_be_equal_and_a_dependence_is_not_called_independence() -> None:
    """200 trials each, noise as recorded: 0.25 % per round, 0.17 % per input and process."""
    rng = np.random.default_rng(5)

    def trial(apart: float) -> str:
        inputs = {}
        for name, level in (("a", 20.0), ("b", 20.0), ("c", 20.0 * (1 + apart))):
            stays = rng.normal(0, 0.0008)
            inputs[name] = rounds_of(*(level * np.exp(stays + rng.normal(0, 0.001, 10))))
        return said(on(**inputs))[1]

    equal = [trial(0.0) for _ in range(200)]
    at_the_bound = [trial(math.expm1(math.log1p(0.01))) for _ in range(200)]

    assert equal.count("DATA_INDEPENDENT") >= 190
    assert at_the_bound.count("DATA_INDEPENDENT") <= 10
