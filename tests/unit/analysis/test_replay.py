"""
Recorded processes replayed through the gate's rule.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from measured import CASE, PLAN, QUIET, a_measurement, a_process, environment

from pytest_kernelperf.analysis.proof import Proof, joined
from pytest_kernelperf.analysis.rates import Rate
from pytest_kernelperf.analysis.replay import (
    Series,
    Slowed,
    across,
    components,
    escalated,
    prove,
    scaled,
)
from pytest_kernelperf.errors import KernelPerfError
from pytest_kernelperf.model import Entry, Limits, Measurement, Reference


def measurements(count: int = 12, sd: float = 0.002, test: str = "test_x") -> list[Measurement]:
    """
    Return so many processes about 20 µs, scattered the same way every time.
    """
    draw = np.random.default_rng(5)
    levels = 20 * np.exp(sd * draw.standard_normal(count))
    case = replace(CASE, test=test)
    return [a_measurement(a_process(us, name=f"p{i}"), case=case) for i, us in enumerate(levels)]


def slowed(size: float, found: list[Measurement]) -> Slowed:
    return Slowed(size, "extra bytes", size, tuple(scaled(each, 1 + size) for each in found))


def test_every_process_is_a_candidate_once_and_unchanged_code_raises_no_alarm():
    (case,) = prove([Series(Limits(), tuple(measurements()))])

    assert {"UNCHANGED": 12} == case.statuses
    assert Rate(0, 12) == case.false_alarms
    assert 2 == case.disjoint
    assert 20.0 == pytest.approx(case.time_us, rel=0.01)


def test_a_large_slowdown_is_found_in_every_process_and_a_tiny_one_in_none():
    found = measurements()
    series = Series(Limits(), tuple(found), (slowed(0.0005, found), slowed(0.1, found)))

    tiny, large = prove([series])[0].injected

    assert Rate(0, 12) == tiny.found
    assert Rate(12, 12) == large.found
    assert (0.1, "extra bytes", 0.1) == (large.size, large.way, large.measured)


def test_how_large_a_slowdown_is_in_truth_is_told_by_each_process_against_itself():
    """
    Eleven differences of 4 and 6 %: their mean, and 2.2 of its standard errors to either side.
    """
    found = measurements(sd=0.05)
    logs = [0.04, 0.06] * 6
    after = [scaled(each, math.exp(by)) for each, by in zip(found, logs, strict=True)]
    one = Slowed(0.1, "extra bytes", 0.1, (*after[:6], None, *after[7:]))

    (told,) = prove([Series(Limits(), tuple(found), (one,))])[0].injected

    left = [*logs[:6], *logs[7:]]
    half = 2.228139 * np.std(left, ddof=1) / math.sqrt(11)
    assert told.real == pytest.approx(math.expm1(np.mean(left)), rel=1e-4)
    assert told.real_interval.low == pytest.approx(math.expm1(np.mean(left) - half), rel=1e-4)
    assert told.real_interval.high == pytest.approx(math.expm1(np.mean(left) + half), rel=1e-4)
    assert told.is_its_size


def test_two_processes_do_not_tell_how_large_a_slowdown_is():
    found = measurements()
    two = (*(scaled(each, 1.1) for each in found[:2]), *[None] * 10)

    (told,) = prove([Series(Limits(), tuple(found), (Slowed(0.1, "", 0.1, two),))])[0].injected

    assert (told.real, told.real_interval) == (None, None)


def test_noise_is_told_as_alarms_if_alarms_there_are():
    """
    A margin far below the noise, and a card that slowed for good after half of the processes.
    """
    found = [scaled(each, 1.05 if at >= 6 else 1.0) for at, each in enumerate(measurements())]

    (case,) = prove([Series(Limits(max_regression={50.0: 0.001}), tuple(found))])

    assert case.false_alarms.hits >= 1


def test_what_is_detectable_is_found_and_a_step_less_is_not():
    found = measurements()
    size = prove([Series(Limits(), tuple(found))])[0].detectable
    series = Series(Limits(), tuple(found), (slowed(size - 0.0025, found), slowed(size, found)))

    less, enough = prove([series])[0].injected

    assert less.found.share < 0.95
    assert enough.found.share >= 0.95


def test_more_noise_makes_less_detectable():
    quiet, noisy = (prove([Series(Limits(), tuple(measurements(sd=sd)))]) for sd in (0.001, 0.01))

    assert quiet[0].detectable < noisy[0].detectable


def test_targets_are_no_matter_of_the_baseline():
    (case,) = prove([Series(Limits(targets_us={50.0: 1.0}), tuple(measurements()))])

    assert {"UNCHANGED": 12} == case.statuses


def test_a_slowed_process_that_is_missing_is_one_trial_less():
    found = measurements()
    one = slowed(0.1, found)
    lacking = replace(one, measurements=(None, *one.measurements[1:]))

    (injected,) = prove([Series(Limits(), tuple(found), (lacking,))])[0].injected

    assert Rate(11, 11) == injected.found


def test_fewer_than_eight_processes_prove_nothing():
    assert () == prove([Series(Limits(), tuple(measurements(7)))])
    assert 1 == len(prove([Series(Limits(), tuple(measurements(8)))]))


def test_another_card_is_judged_against_this_cards_baselines():
    """
    The other card is as fast; then, 10 % slower, no card term explains it.
    """
    ours = [Series(Limits(), tuple(measurements()))]
    theirs = [_on_card("GPU-2", 1.0), _on_card("GPU-2", 1.1)]

    alike, slower = (across(ours, [each]) for each in theirs)

    assert {"UNCHANGED": 12} == alike
    assert {"REGRESSED"} == set(slower)
    assert {} == across(ours, [Series(Limits(), tuple(measurements(test="test_y")))])


def _on_card(card: str, factor: float) -> Series:
    found = [scaled(each, factor) for each in measurements()]
    moved = tuple(
        replace(each, processes=(replace(each.processes[0], environment=environment(card)),))
        for each in found
    )
    return Series(Limits(), moved)


def test_an_undecided_candidate_takes_more_processes():
    """
    The first process alone is slow; three and five are not.
    """
    found = measurements()
    reference = Reference(
        PLAN, "graph", CASE.inputs, tuple(each.processes[0] for each in found[:5])
    )
    candidates = [scaled(found[5], 1.03), *found[6:10]]

    alone = escalated(candidates[:1], Entry(reference), Limits(), QUIET)[0]
    all_five = escalated(candidates, Entry(reference), Limits(), QUIET)[0]

    assert alone.status.value != "UNCHANGED"
    assert all_five.change < alone.change / 2


def test_components_take_the_rounds_share_out_of_the_process_scatter():
    """
    Two processes, logs 0 and 2 and 4 and 6: rounds' variance 2, means 1 and 5 with variance 8.
    """
    found = [a_measurement(_process_of_logs(*logs)) for logs in ((0, 2), (4, 6))]
    from pytest_kernelperf.analysis.scatter import columns

    (column,) = columns([each.processes[0] for each in found], (50.0,))

    process_sd, round_sd = components(column)

    assert math.sqrt(2) == pytest.approx(round_sd)
    assert math.sqrt(8 - 2 / 2) == pytest.approx(process_sd)


def test_proofs_of_two_cards_add_up_and_of_two_models_are_refused():
    case = prove([Series(Limits(), tuple(measurements()))])[0]
    one = Proof("NVIDIA H100", "0.1.0", "2026-01-01", cases=(case,))
    other = replace(one, date="2026-02-01", cases=(replace(case, card="GPU-2"),))

    both = joined([one, other])

    assert Rate(0, 24) == both.false_alarms
    assert ("GPU-1", "GPU-2") == both.cards
    assert "2026-02-01" == both.date
    with pytest.raises(KernelPerfError, match="device_name is 'NVIDIA H100' in one and 'A100'"):
        joined([one, replace(one, device_name="A100")])


def test_noise_is_told_per_timing_mode():
    case = prove([Series(Limits(), tuple(measurements()))])[0]
    launch = replace(case, case=replace(CASE, timer="launch"), process_sd=0.03)
    quiet, loud = replace(case, process_sd=0.003), replace(case, process_sd=0.004)

    device, single = Proof("H100", "0", "", cases=(quiet, loud, launch)).noise

    assert ("device", 2) == (device.timer, device.cases)
    assert math.sqrt((9e-6 + 16e-6) / 2) == pytest.approx(device.process_sd)
    assert 0.03 == pytest.approx(single.process_sd)


def _process_of_logs(*logs: float):
    process = a_process(1.0, rounds=len(logs), round_sd=0.0)
    rounds = tuple(
        replace(one, times_us=(math.exp(log),) * 5, clock_mhz=())
        for one, log in zip(process.rounds, logs, strict=True)
    )
    return replace(process, rounds=rounds)


def test_a_sustained_pace_has_a_noise_and_a_margin_of_its_own():
    paced = Series(Limits(), tuple(measurements()))
    hot = [
        replace(each, case=replace(each.case, test=f"test_{name}", pace="sustained"))
        for name in "abc"
        for each in measurements(sd=0.02)
    ]
    sustained = [Series(Limits(), tuple(hot[at : at + 12])) for at in (0, 12, 24)]

    together, *others = prove([paced, *sustained])

    assert prove([paced]) == (together,)
    assert all(each.margin >= 0.05 for each in others)
