"""
The environment is never the kernel's fault: records of unchanged kernels on disturbed cards.

Three processes each, since one alone need not be enough to call anything slower.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from measured import a_measurement, a_process, a_reference, a_round, environment, judged

from pytest_kernelperf.analysis.noise import Noise, time_scale
from pytest_kernelperf.analysis.scatter import Prior
from pytest_kernelperf.model import Limits, Measurement, Process, Round, Status

SEEDS = range(20)
LEVEL_US = 20.0
ROUNDS, SAMPLES = 5, 20


def measured_at(
    random: np.random.Generator, clocks: np.ndarray, slope: float, **evidence: Any
) -> Process:
    """
    Return an unchanged kernel's process at one clock per sample, as a share of the full one.

    Noise as measured: processes 0.3 %, rounds 0.25 %, samples 0.2 %; canaries 0.4 % from sample to
    sample, and up to 0.6 % off for the whole process.
    """
    bias = random.uniform(-0.006, 0.006)
    level = LEVEL_US * np.exp(random.normal(0, 0.003))
    rounds: list[Round] = []
    for share in clocks.reshape(ROUNDS, SAMPLES):
        shift = random.normal(0, 0.0025) + random.normal(0, 0.002, SAMPLES)
        read = bias + random.normal(0, 0.004, SAMPLES)
        rounds.append(
            a_round(
                level * share**-slope * np.exp(shift),
                clock_mhz=tuple(1980.0 * share * np.exp(read)),
                **evidence,
            )
        )
    return Process("c", "2026-09-01T10:00:00Z", environment(), tuple(rounds))


def run_at(seed: int, clocks: np.ndarray, slope: float) -> Measurement:
    random = np.random.default_rng(seed)
    return a_measurement(*(measured_at(random, clocks, slope) for _ in range(3)))


def whole_run(share: float) -> np.ndarray:
    return np.full(ROUNDS * SAMPLES, share)


def falling(share: float) -> np.ndarray:
    """
    Return full clock in the first two rounds, and so much of it in the others.
    """
    return np.where(np.arange(ROUNDS * SAMPLES) < 2 * SAMPLES, 1.0, share)


@pytest.mark.parametrize("slope", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize(
    "clocks",
    [whole_run(0.5), whole_run(0.8), whole_run(0.977), falling(0.5), falling(0.7), falling(0.977)],
    ids=["half", "capped", "three steps down", "falls to half", "falls a lot", "falls three steps"],
)
def test_a_fallen_clock_is_never_a_regression(clocks: np.ndarray, slope: float) -> None:
    reference = a_reference(LEVEL_US)

    for seed in SEEDS:
        assert Status.REGRESSED is not judged(run_at(seed, clocks, slope), reference).status, seed


def test_the_same_records_without_their_clocks_would_be_regressions() -> None:
    seeing = run_at(0, whole_run(0.8), 1.0)
    blind = a_measurement(
        *(
            replace(one, rounds=tuple(replace(each, clock_mhz=()) for each in one.rounds))
            for one in seeing.processes
        )
    )

    assert Status.REGRESSED is judged(blind, a_reference(LEVEL_US)).status


@pytest.mark.parametrize("slope", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("clocks", [whole_run(0.8), falling(0.7)], ids=["capped", "falls a lot"])
def test_a_kernel_that_is_slower_than_the_clock_explains_is_a_regression_all_the_same(
    clocks: np.ndarray, slope: float
) -> None:
    """
    Half as fast again as the fallen clock allows for.
    """
    reference = a_reference(LEVEL_US / 1.5)

    for seed in SEEDS:
        assert Status.REGRESSED is judged(run_at(seed, clocks, slope), reference).status, seed


def test_such_a_regression_says_how_much_the_clock_explains() -> None:
    verdict = judged(run_at(0, whole_run(0.8), 1.0), a_reference(LEVEL_US / 1.5))

    assert "A lower clock explains at most 26." in verdict.sentence
    assert "MHz, baseline 1980 MHz)" in verdict.sentence


def mixed(clock_mhz: float) -> Measurement:
    """
    Return five slower processes: two of a slow mode, and three of 1.8 % at a clock of their own.
    """
    levels, clocks = [1.025] * 2 + [1.018] * 3, [1980.0] * 2 + [clock_mhz] * 3
    return a_measurement(
        *(
            a_process(LEVEL_US * level, name=f"c{index}", clock_mhz=clock)
            for index, (level, clock) in enumerate(zip(levels, clocks, strict=True))
        )
    )


def test_a_clock_that_fell_in_some_processes_is_their_excuse() -> None:
    """
    2 % in three of five are 1.2 % in the mean: too little to tell from canaries that err.
    """
    verdict = judged(mixed(1940.0), a_reference(LEVEL_US), Limits(max_regression={50.0: 0.01}))

    assert (Status.INCONCLUSIVE, "CLOCK_MOVED") == (verdict.status, verdict.reason)
    assert "in 3 of 5 processes so was the clock, by enough to explain theirs" in verdict.sentence


def test_the_same_processes_at_the_clock_of_the_baseline_are_a_regression() -> None:
    verdict = judged(mixed(1975.0), a_reference(LEVEL_US), Limits(max_regression={50.0: 0.01}))

    assert Status.REGRESSED is verdict.status


@pytest.mark.parametrize("factor", [1.03, 1.3, 3.0])
def test_a_neighbour_that_loads_the_card_is_never_a_regression(factor: float) -> None:
    crowded = three(LEVEL_US * factor, foreign_processes=1)
    alone = three(LEVEL_US * factor)

    assert Status.INCONCLUSIVE is judged(crowded, a_reference(LEVEL_US)).status
    assert Status.REGRESSED is judged(alone, a_reference(LEVEL_US)).status


def test_another_driver_or_toolchain_is_judged_not_refused() -> None:
    """
    Whether an upgrade slowed the kernel is a question to answer.
    """
    upgraded = replace(environment(), versions={"driver": "590.1", "torch": "2.12"})
    found = []
    for level_us in (LEVEL_US, 1.1 * LEVEL_US):
        processes = three(level_us).processes
        now = a_measurement(*(replace(each, environment=upgraded) for each in processes))
        found.append(judged(now, a_reference(LEVEL_US)).status)

    assert [Status.UNCHANGED, Status.REGRESSED] == found


def three(level_us: float, **evidence: Any) -> Measurement:
    return a_measurement(*(a_process(level_us, name=f"c{index}", **evidence) for index in range(3)))


@pytest.mark.parametrize("processes", [3, 5])
@pytest.mark.parametrize("slower", [1.02, 1.05, 1.1, 1.3, 2.0])
def test_one_process_in_a_slow_mode_is_never_a_regression(processes: int, slower: float) -> None:
    """
    A mode of 1 process in 50, which the baseline never met.
    """
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        levels = LEVEL_US * np.exp(random.normal(0, 0.003, processes))
        levels[0] *= slower
        run = a_measurement(*(a_process(each, name=f"c{i}") for i, each in enumerate(levels)))

        assert Status.REGRESSED is not judged(run, a_reference(LEVEL_US)).status, seed


@pytest.mark.parametrize(("odd", "processes"), [(1, 2), (2, 3), (2, 4), (2, 5)])
def test_a_few_processes_far_off_are_not_a_regression_and_the_others_are_told(odd, processes):
    """
    Twice as slow: the suite's variance outweighs their own scatter, so the whole interval moves.
    """
    levels = [LEVEL_US * (2.0 if number < odd else 1.0) for number in range(processes)]
    run = a_measurement(*(a_process(each, name=f"c{i}") for i, each in enumerate(levels)))
    quiet = Noise(priors=((("device", 50.0, time_scale(LEVEL_US)), Prior(0.002**2, 12.0)),))

    verdict = judged(run, a_reference(LEVEL_US, processes=5), noise=quiet)

    assert (Status.INCONCLUSIVE, "ONE_PROCESS") == (verdict.status, verdict.reason)
    assert f"the {odd} of {processes} processes that are beyond it can't tell" in verdict.sentence
    assert verdict.change_interval.low > verdict.margin


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_that_agree_are_a_regression(processes: int) -> None:
    """
    The most dissent that five allow.
    """
    others = max(processes - 3, 0)
    levels = [LEVEL_US * (1.0 if number < others else 2.0) for number in range(processes)]
    run = a_measurement(*(a_process(each, name=f"c{i}") for i, each in enumerate(levels)))

    assert Status.REGRESSED is judged(run, a_reference(LEVEL_US)).status


def by_rounds(*levels_us: float) -> Process:
    """
    Return a process of one round at each level.
    """
    rounds = [one for each in levels_us for one in a_process(each, rounds=1).rounds]
    return Process("c", "2026-09-01T10:00:00Z", environment(), tuple(rounds))


@pytest.mark.parametrize("factor", [2.0, 0.5], ids=["slower", "faster"])
def test_a_process_that_one_of_its_rounds_carries_off_is_no_witness(factor: float) -> None:
    """
    A round beside other load took the mean of five to +15 %; the other four are as ever.
    """
    changed, usual = LEVEL_US * factor, LEVEL_US
    one_round = by_rounds(changed, usual, usual, usual, usual)
    whole = by_rounds(*[changed] * 5)
    reference = a_reference(LEVEL_US, round_sd=0.2)

    verdict = judged(a_measurement(one_round, whole, whole), reference)
    most = judged(a_measurement(by_rounds(*[changed] * 3, usual, usual), whole, whole), reference)

    assert (Status.INCONCLUSIVE, "ONE_PROCESS") == (verdict.status, verdict.reason)
    assert "the 2 of 3 processes that are beyond it can't tell" in verdict.sentence
    assert most.status is (Status.REGRESSED if factor > 1 else Status.IMPROVED)


def test_the_record_of_a_loaded_host_is_no_regression() -> None:
    """
    Medians in µs of rounds that a loaded host took of unchanged code; the baseline's are 160.5.
    """
    loaded = a_measurement(
        by_rounds(257, 163, 164, 163, 163),
        by_rounds(256, 254, 255, 257, 254),
        by_rounds(253, 254, 251, 252, 321),
        case=replace(a_measurement().case, timer="wall"),
    )

    verdict = judged(loaded, a_reference(160.5, processes=5, sd=0.01))

    assert (Status.INCONCLUSIVE, "ONE_PROCESS") == (verdict.status, verdict.reason)


def test_processes_within_what_noise_beyond_the_margins_upper_bound_takes_are_no_witnesses():
    """
    The margin is cut to 5 %, the noise takes 13 %: +10 % in three of five is one of its moods.
    """
    reference = a_reference(LEVEL_US, processes=5, sd=0.07)
    levels = [1.1, 1.1, 1.1, 1.4, 1.4]
    run = a_measurement(*(by_rounds(*[LEVEL_US * each] * 5) for each in levels))

    verdict = judged(run, reference)

    assert verdict.change_interval.low > verdict.margin == 0.05
    assert (Status.INCONCLUSIVE, "ONE_PROCESS") == (verdict.status, verdict.reason)
    assert "the 2 of 5 processes that are beyond the 1" in verdict.sentence
    assert "that the baseline's noise takes can't tell" in verdict.sentence


def test_a_slowdown_beyond_what_such_noise_takes_is_a_regression() -> None:
    run = a_measurement(*[by_rounds(*[LEVEL_US * 1.5] * 5)] * 5)

    verdict = judged(run, a_reference(LEVEL_US, processes=5, sd=0.07))

    assert Status.REGRESSED is verdict.status
    assert 0.05 == verdict.margin


@pytest.mark.parametrize("factor", [1.6, 0.6], ids=["slower", "faster"])
def test_where_rounds_scatter_far_more_than_the_baselines_all_processes_must_agree(factor) -> None:
    """
    Four of five were beside other load, wholly or for most rounds; the fifth was left in peace.
    """
    usual, changed = LEVEL_US, LEVEL_US * factor
    loaded = by_rounds(*[changed] * 4, changed * factor)
    in_peace = by_rounds(changed, *[usual] * 4)
    slow = Status.REGRESSED if factor > 1 else Status.IMPROVED

    verdict = judged(a_measurement(in_peace, *[loaded] * 4), a_reference(LEVEL_US))
    all_agree = judged(a_measurement(*[loaded] * 5), a_reference(LEVEL_US))

    assert (Status.INCONCLUSIVE, "NOISIER_THAN_BASELINE") == (verdict.status, verdict.reason)
    assert "only the 4 of 5 processes that are beyond it say so" in verdict.sentence
    assert slow is all_agree.status
