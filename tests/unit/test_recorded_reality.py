"""
The gate on what H100s really did: recorded processes replayed, and harmed in known ways.

Today one card has five recorded processes and three cards have one each (`cards.json`). Each of the
five is a candidate once per kernel, against three others; the fifth joins it where it is undecided.
So a rate stands on 45 candidates per timer (nine kernels), whose baselines share processes: none of
45 means at most 7 % if candidates are taken as independent, and no more is claimed. What five
processes of two minutes can't show (other days, a mode of one process in fifty) is simulated in
`analysis/test_calibration.py`; with ten files a card the same tests run the full plan of five and
five, and their claims grow.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from reality import (
    FOLDER,
    also_in_baseline,
    baseline_size,
    befallen,
    both,
    cards,
    drifting,
    elsewhere,
    last_look,
    leaking,
    longer,
    now_and_then,
    slow_mode,
    slow_tail,
    slower,
    statuses,
    throttled,
    turns,
    untouched,
)

from pytest_kernelperf.model import Status, Verdict

TIMERS = ("device", "launch")
#: Its device times lie 1.4 % apart over the five processes, those of the others 0.1 to 0.5 %.
NOISY = "test_attention[512-16]"


def quiet(timer):
    return [each for each in turns(timer) if each.line[0].case.test != NOISY]


def noisy(timer):
    return [each for each in turns(timer) if each.line[0].case.test == NOISY]


def found_share(found, change, percentile: float = 50.0) -> float:
    """
    Return how many of the changed candidates are REGRESSED, as a share.
    """
    told = statuses(found, change, percentile)
    return told["REGRESSED"] / told.total()


def verdicts(found, change) -> list[Verdict]:
    """
    Return the verdicts at all judged percentiles of the changed candidates.
    """
    return [v for each in found for v in last_look(befallen(each, change)).values()]


def regressed(found) -> list[str]:
    """
    Return the cases and percentiles of those verdicts that are REGRESSED.
    """
    return [f"{v.case.key} P{v.percentile:g}" for v in found if v.status is Status.REGRESSED]


# The records


def test_every_file_holds_one_process_of_the_card_that_lists_it() -> None:
    """Measured at different times, by one plan per case, without a failed check."""
    for card in cards():
        for process in card.processes:
            measurements = [each.measurement for each in process]

            assert [1] * len(measurements) == [len(each.processes) for each in measurements]
            assert {card.uuid} == {each.processes[0].environment.card for each in measurements}
        started = [each[0].measurement.processes[0].started for each in card.processes]
        assert started == sorted(set(started))

    plans = {
        (r.measurement.case, r.measurement.plan) for c in cards() for p in c.processes for r in p
    }
    assert len({case.key for case, _ in plans}) == len(plans)


def test_the_records_are_small_enough_for_a_repository() -> None:
    assert sum(each.stat().st_size for each in FOLDER.iterdir()) < 5_000_000


@pytest.mark.parametrize("timer", TIMERS)
def test_every_process_comes_first_once_and_never_meets_itself(timer: str) -> None:
    first = Counter(each.line[0].processes[0].id for each in turns(timer))

    assert set(first.values()) == {1}
    for turn in turns(timer):
        own = {process.id for each in turn.line for process in each.processes}
        assert own.isdisjoint(each.id for each in turn.entry.reference.processes)


def test_with_ten_processes_a_card_is_replayed_by_the_full_plan() -> None:
    assert [3, 3, 3, 4, 5, 5] == [baseline_size(count) for count in (5, 6, 8, 9, 10, 12)]


# Unchanged kernels


def test_unchanged_kernels_never_regress_and_are_rarely_undecided() -> None:
    """
    None of 180 verdicts; 3 of 90 at P50 are INCONCLUSIVE (at most 5 % asked), all of one kernel.

    Of the device timer alone these are 3 of 45, 7 %: with two processes, where five are the plan.
    """
    found = [v for timer in TIMERS for v in verdicts(turns(timer), untouched)]
    centers = [v for v in found if v.percentile == 50]
    undecided = [v for v in centers if v.status is Status.INCONCLUSIVE]

    assert {Status.UNCHANGED, Status.INCONCLUSIVE} == {each.status for each in found}
    assert len(undecided) <= 0.05 * len(centers)


def test_another_cards_process_is_unchanged() -> None:
    """
    None of 108 verdicts of three cards is anything else.
    """
    found = verdicts(elsewhere(), untouched)

    assert {(Status.UNCHANGED, "OTHER_CARD")} == {(v.status, v.reason) for v in found}


def test_another_cards_slow_process_is_neither_passed_nor_failed() -> None:
    """
    10 % slower at P50, beyond what cards differ by, but one process fails nothing.
    """
    found = [v for v in verdicts(elsewhere(), slower(1.1)) if v.percentile == 50]

    assert {Status.INCONCLUSIVE} == {each.status for each in found}


# Slowdowns of known size


@pytest.mark.parametrize("timer", TIMERS)
@pytest.mark.parametrize(("size", "allowed"), [(0.005, 0.0), (0.01, 0.025)])
def test_what_is_within_the_margin_is_not_a_regression(timer, size, allowed) -> None:
    """
    None of 180 verdicts a size.

    The device's margins are 1 % here: what is just that may be called REGRESSED in 2.5 %.
    """
    found = [v for v in verdicts(turns(timer), slower(1 + size)) if v.margin >= size]

    assert found
    assert len(regressed(found)) <= allowed * len(found)


@pytest.mark.parametrize(
    ("timer", "size"), [("device", 0.02), ("device", 0.03), ("launch", 0.03), ("launch", 0.05)]
)
def test_a_slower_kernel_is_regressed_in_every_process(timer: str, size: float) -> None:
    """
    At P50, all 40 candidates of the eight quiet kernels, which take 4 to 45 µs; 95 % are asked.

    The noisy kernel is found by the launch timer, not by the device's: see the next test.
    """
    assert found_share(quiet(timer), slower(1 + size)) >= 0.95


@pytest.mark.parametrize(("size", "found"), [(0.02, 0.0), (0.03, 0.2), (0.05, 0.95)])
def test_a_slower_noisy_kernel_is_at_least_not_passed(size: float, found: float) -> None:
    """
    NOT AS ASKED: +2 % on kernels from 10 µs is to be found in 95 %; this one of four is not.

    2 % is found in 0 of its 5 candidates, 3 % in 1, 5 % in 5, with two processes against three. Its
    processes' scatter of 0.6 % (sd) forbids more: the two means differ by 0.6 % by chance alone.
    """
    slowed = noisy("device")

    assert found_share(slowed, slower(1 + size)) >= found
    assert 0 == statuses(slowed, slower(1 + size))["UNCHANGED"]


@pytest.mark.parametrize(("size", "percentiles"), [(0.05, (50.0,)), (0.1, (50.0, 95.0))])
@pytest.mark.parametrize("timer", TIMERS)
def test_five_and_ten_per_cent_are_found_everywhere(timer, size, percentiles) -> None:
    """
    45 of 45, the noisy kernel included; P95 from 10 %.
    """
    found = [v for v in verdicts(turns(timer), slower(1 + size)) if v.percentile in percentiles]

    assert {Status.REGRESSED} == {each.status for each in found}


def test_a_fifth_of_a_microsecond_counts_where_it_is_a_large_part() -> None:
    """
    +0.2 µs is regressed where it is 2 % or more (all 25 of 4 to 10 µs), within 1 % never (10).
    """
    shares = [(0.2 / each.time_us, each) for each in turns("device")]
    large = [each for share, each in shares if share >= 0.02]
    small = [each for share, each in shares if share < 0.01]

    assert found_share(large, longer(0.2)) >= 0.95
    assert 0 == statuses(small, longer(0.2))["REGRESSED"]
    assert min(len(large), len(small)) >= 10


@pytest.mark.parametrize("timer", TIMERS)
def test_slower_never_turns_a_failure_into_a_pass(timer: str) -> None:
    for turn in turns(timer):
        failed: set[float] = set()
        for size in (0.02, 0.05, 1.0):
            now = last_look(befallen(turn, slower(1 + size)))
            failing = {q for q, each in now.items() if each.status is Status.REGRESSED}

            assert failed <= failing
            failed |= failing


# Tails


def test_a_slower_tail_is_seen_at_p99_and_not_at_p50() -> None:
    """
    The slowest 2 % of launches, +20 %: P99 is REGRESSED in 45 of 45 (90 % asked, from 10 µs).

    P50 is UNCHANGED in 45. That no tail grew by itself in 45 is shown above.
    """
    told = {q: Counter[Status]() for q in (50.0, 99.0)}
    for turn in turns("launch"):
        found = last_look(befallen(turn, slow_tail(0.02, 1.2)))
        for q, counts in told.items():
            counts[found[q].status] += 1

    assert {Status.UNCHANGED} == set(told[50.0])
    assert set(told[99.0]) <= {Status.REGRESSED, Status.INCONCLUSIVE}
    assert told[99.0][Status.REGRESSED] >= 0.9 * len(turns("launch"))


def test_a_tail_too_thin_for_p99_is_not_its_news() -> None:
    """
    0.4 % of launches, twice as long.
    """
    assert [] == regressed(verdicts(turns("launch"), slow_tail(0.004, 2.0)))


# Modes, drifts


@pytest.mark.parametrize("timer", TIMERS)
@pytest.mark.parametrize("factor", [1.02, 1.05])
def test_one_process_in_a_slow_mode_is_not_a_regression(timer, factor) -> None:
    """
    None of 45 candidates: the first look sees the mode, the next one a process without it.
    """
    assert [] == regressed(verdicts(turns(timer), slow_mode(factor, 0)))


@pytest.mark.parametrize("timer", TIMERS)
def test_one_of_two_processes_far_off_is_not_a_regression(timer: str) -> None:
    """
    Two candidate processes are what is left of three when a worker dies.

    Their own variance has one degree of freedom and is outweighed by the suite's, so a process
    beyond all noise moves the whole interval over the margin. It takes two that say so.
    """
    pairs = [replace(each, line=each.line[:2]) for each in turns(timer)]

    assert [] == regressed(verdicts(pairs, slow_mode(2.0, 0)))


@pytest.mark.parametrize("factor", [1.02, 1.1, 2.0])
def test_a_baseline_with_one_slow_process_fails_nobody(factor) -> None:
    """
    Neither the usual candidate nor one that has a slow process too.
    """
    mixed = [also_in_baseline(each, slow_mode(factor, 0)) for each in turns("device")]

    for change in (untouched, slow_mode(factor, 0), slow_mode(factor, 1)):
        assert [] == regressed(verdicts(mixed, change))


@pytest.mark.parametrize("timer", TIMERS)
@pytest.mark.parametrize("course", [(1.0, 1.05), (1.02, 0.98)])
def test_a_drift_that_the_baseline_has_too_changes_no_verdict(timer, course) -> None:
    drift = drifting(*course)
    for turn in turns(timer):
        plain = last_look(turn)
        drifted = last_look(befallen(also_in_baseline(turn, drift), drift))

        assert {q: v.status for q, v in plain.items()} == {q: v.status for q, v in drifted.items()}


@pytest.mark.parametrize("timer", TIMERS)
@pytest.mark.parametrize("course", [(1.0, 1.01), (0.95, 1.05)])
def test_a_drift_about_the_same_level_is_not_a_regression(timer, course) -> None:
    """
    Nor is one by half a percent in the mean.
    """
    assert [] == regressed(verdicts(turns(timer), drifting(*course)))


@pytest.mark.parametrize("timer", TIMERS)
def test_a_drift_to_a_tenth_more_does_not_pass(timer: str) -> None:
    """
    5 % in the mean: REGRESSED in 41 (device) and 36 (launch) of 45, the others INCONCLUSIVE.
    """
    told = statuses(turns(timer), drifting(1.0, 1.1))

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
    None of 45 at any percentile, of 8 kinds; nor does one pass at P50 if all rounds fell.
    """
    found = verdicts(turns(timer), throttled(clock, share))

    assert [] == regressed(found)
    if share == 1.0:
        assert {Status.INCONCLUSIVE} == {v.status for v in found if v.percentile == 50}


def test_the_same_times_without_their_clocks_would_be_regressions() -> None:
    assert 1 == found_share(turns("device"), throttled(0.8, 1.0, seen=False))


def test_what_the_clock_does_not_explain_is_a_regression_all_the_same() -> None:
    """
    Half as slow again as the fallen clock allows for.
    """
    change = both(throttled(0.8, 1.0), slower(1.5))

    assert found_share(turns("device"), change) >= 0.95


@pytest.mark.parametrize("timer", TIMERS)
def test_host_time_that_its_slack_gives_away_is_left_out(timer: str) -> None:
    """
    5 µs in a quarter of the samples, a third of the bursts: status by status as without.
    """
    every = {"device": 4, "launch": 3}[timer]
    harmed = [befallen(each, leaking(5.0, every)) for each in turns(timer)]
    rounds = [one for each in harmed for m in each.line for p in m.processes for one in p.rounds]

    assert all(one.discarded and min(one.slack_us) < 0 for one in rounds)
    assert [v.status for v in verdicts(turns(timer), untouched)] == [
        v.status for v in verdicts(harmed, untouched)
    ]


def test_the_same_host_time_unseen_would_be_a_regression() -> None:
    """
    At P99 in every kernel of which 5 µs are more than the margin of 10 %.
    """
    short = [each for each in turns("launch") if each.time_us < 40]

    assert found_share(short, leaking(5.0, 3, seen=False), 99.0) >= 0.95


@pytest.mark.parametrize(("timer", "every"), [("device", 20), ("launch", 500)])
def test_a_few_samples_with_unseen_host_time_are_not_a_regression(timer, every) -> None:
    """
    One in 20 (device; it has a P50 only), one launch in 500 (P99 included).
    """
    assert [] == regressed(verdicts(turns(timer), now_and_then(every, 5.0)))
