"""
The gate on what H100s really did, harmed: modes, drifts, fallen clocks, host time, by replay.

The recorded candidates of `test_recorded_reality.py`, which says what such rates stand on; about a
hundred of them per timer and test.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from harm import (
    both,
    drifting,
    leaking,
    now_and_then,
    slow_mode,
    slower,
    throttled,
    two_modes,
    untouched,
)
from reality import (
    also_in_baseline,
    befallen,
    found_share,
    last_look,
    regressed,
    some,
    statuses,
    turns,
    verdicts,
)

from pytest_kernelperf.model import Status

TIMERS = ("device", "launch")


# Modes, drifts


@pytest.mark.parametrize("timer", TIMERS)
@pytest.mark.parametrize("factor", [1.02, 1.05])
def test_one_process_in_a_slow_mode_is_not_a_regression(timer, factor) -> None:
    """
    The first look sees the mode, the next one a process without it.

    At 512x16 some of the others are slow, too, but at a clock that explains it.
    """
    found = {*some(timer), *(each for each in turns(timer) if each.kernel == "512x16")}

    assert [] == regressed(verdicts(found, slow_mode(factor, 0)))


def test_two_of_five_processes_in_a_slow_mode_are_rarely_a_regression() -> None:
    """
    None of all 540: a third process that lies beyond the margin by itself has a clock to blame.
    """
    found = [each for each in turns("device") if each.is_full]

    assert len(regressed(verdicts(found, slow_mode(1.05, 0, 2)))) <= 0.01 * len(found)


def test_three_of_five_processes_in_a_slow_mode_are_a_regression() -> None:
    assert (
        found_share([each for each in some("device") if each.is_full], slow_mode(1.05, 0, 1, 2))
        >= 0.95
    )


@pytest.mark.parametrize("timer", TIMERS)
def test_the_median_is_that_of_the_mode_which_most_samples_are_in(timer: str) -> None:
    """
    5 % slower in three samples of ten, evenly spread: no regression; in seven of ten: one in all.
    """
    found = some(timer)

    assert 0 == statuses(found, two_modes(0.3, 1.05))["REGRESSED"]
    assert found_share(found, two_modes(0.7, 1.05)) >= 0.95


@pytest.mark.parametrize("timer", TIMERS)
def test_one_of_two_processes_far_off_is_not_a_regression(timer: str) -> None:
    """
    Two candidate processes are what is left of three when a worker dies.

    Their own variance has one degree of freedom and is outweighed by the suite's, so a process
    beyond all noise moves the whole interval over the margin. It takes two that say so.
    """
    pairs = [replace(each, line=each.line[:2]) for each in some(timer)]

    assert [] == regressed(verdicts(pairs, slow_mode(2.0, 0)))


@pytest.mark.parametrize("factor", [1.02, 2.0])
def test_a_baseline_with_one_slow_process_fails_nobody(factor) -> None:
    """
    Neither the usual candidate nor one that has a slow process too.
    """
    mixed = [also_in_baseline(each, slow_mode(factor, 0)) for each in some("device")]

    for change in (untouched, slow_mode(factor, 0), slow_mode(factor, 1)):
        assert [] == regressed(verdicts(mixed, change))


@pytest.mark.parametrize("timer", TIMERS)
@pytest.mark.parametrize("course", [(1.0, 1.05), (1.02, 0.98)])
def test_a_drift_that_the_baseline_has_too_changes_no_verdict(timer, course) -> None:
    """
    But for those on the border between UNCHANGED and INCONCLUSIVE: 5 of 1530 candidates and drifts.
    """
    drift = drifting(*course)
    found = some(timer)
    pairs = [
        (plain.status, drifted[percentile].status)
        for turn in found
        for drifted in [last_look(befallen(also_in_baseline(turn, drift), drift))]
        for percentile, plain in last_look(turn).items()
    ]

    assert Status.REGRESSED not in {status for pair in pairs for status in pair}
    assert sum(before != after for before, after in pairs) <= 0.02 * len(pairs)


@pytest.mark.parametrize("timer", TIMERS)
@pytest.mark.parametrize("course", [(1.0, 1.01), (0.95, 1.05)])
def test_a_drift_about_the_same_level_is_not_a_regression(timer, course) -> None:
    """
    Nor is one by half a percent in the mean.
    """
    assert [] == regressed(verdicts(some(timer), drifting(*course)))


@pytest.mark.parametrize("timer", TIMERS)
def test_a_drift_to_a_tenth_more_does_not_pass(timer: str) -> None:
    """
    5 % in the mean. All but a few are REGRESSED, the others INCONCLUSIVE: noisier than before.
    """
    told = statuses(some(timer), drifting(1.0, 1.1))

    assert 0 == told["UNCHANGED"]
    assert told["REGRESSED"] >= 0.75 * told.total()


# The environment


@pytest.mark.parametrize("timer", TIMERS)
@pytest.mark.parametrize("share", [0.6, 1.0])
@pytest.mark.parametrize("clock", [0.5, 0.95])
def test_rounds_whose_clock_and_time_fell_together_are_not_a_regression(
    timer, share, clock
) -> None:
    """
    None at any percentile, of 8 kinds; nor does one pass at P50 if all rounds fell.
    """
    found = verdicts(some(timer), throttled(clock, share))

    assert [] == regressed(found)
    if share == 1.0:
        assert {Status.INCONCLUSIVE} == {v.status for v in found if v.percentile == 50}


def test_the_same_times_without_their_clocks_would_be_regressions() -> None:
    assert 1 == found_share(some("device"), throttled(0.8, 1.0, seen=False))


def test_what_the_clock_does_not_explain_is_a_regression_all_the_same() -> None:
    """
    Half as slow again as the fallen clock allows for.
    """
    change = both(throttled(0.8, 1.0), slower(1.5))

    assert found_share(some("device"), change) >= 0.95


@pytest.mark.parametrize("timer", TIMERS)
def test_host_time_that_its_slack_gives_away_is_left_out(timer: str) -> None:
    """
    5 µs in a quarter of the samples, a third of the bursts: status by status as without.
    """
    every = {"device": 4, "launch": 3}[timer]
    harmed = [befallen(each, leaking(5.0, every)) for each in some(timer)]
    rounds = [one for each in harmed for m in each.line for p in m.processes for one in p.rounds]

    assert all(one.discarded and min(one.slack_us) < 0 for one in rounds)
    assert [v.status for v in verdicts(some(timer), untouched)] == [
        v.status for v in verdicts(harmed, untouched)
    ]


def test_the_same_host_time_unseen_would_be_a_regression() -> None:
    """
    At P99 in every kernel of which 5 µs are more than the margin of 10 %.
    """
    short = [each for each in some("launch") if each.time_us < 40]

    assert found_share(short, leaking(5.0, 3, seen=False), 99.0) >= 0.95


@pytest.mark.parametrize(("timer", "every"), [("device", 20), ("launch", 500)])
def test_a_few_samples_with_unseen_host_time_are_not_a_regression(timer, every) -> None:
    """
    One in 20 (device; it has a P50 only), one launch in 500 (P99 included).
    """
    assert [] == regressed(verdicts(some(timer), now_and_then(every, 5.0)))
