"""
The gate on what H100s really did: recorded processes replayed, unchanged and slower by known sizes.

`cards.json` lists the cards. Each process of a card with five or more is a candidate once per
kernel, joined by the next ones where it is undecided, against others of its card: with ten
processes or more five against five, the full plan. Neighbouring candidates and their baselines
share processes. So a rate stands on as many independent draws as there are kernels times processes
at most (0 of n means at most 3/n), and its limits here are those of a binomial of that size; how
cards differ, three of them can't tell. What a few minutes of a card can't show (other days, a mode
of one process in fifty) is simulated in `analysis/test_calibration.py`; what else may befall a
candidate is in `test_recorded_harm.py`.

    python -m pytest tests/unit/test_recorded_reality.py -s -k rates     # prints them as tables
"""

from __future__ import annotations

from collections import Counter
from statistics import mean, median, stdev

import pytest
from harm import longer, slow_tail, slower, untouched
from reality import (
    FOLDER,
    baseline_size,
    by_card,
    by_kernel,
    cards,
    elsewhere,
    found_share,
    look_at,
    planned,
    regressed,
    some,
    statuses,
    told,
    turns,
    verdicts,
)

from pytest_kernelperf.analysis import LOOKS
from pytest_kernelperf.analysis.rates import Rate
from pytest_kernelperf.analysis.scatter import columns
from pytest_kernelperf.model import Status

TIMERS = ("device", "launch")
#: Its clock steps near 300 W: device times lie 1.4 to 2.1 % apart over a card's processes.
NOISY = "512x16"
#: Its revision measured the first two rounds of each process with faster graphs, by 1 to 8 %.
EARLY = "GPU-212906ca"
SIZES = (0.01, 0.02, 0.03, 0.05, 0.1)


def quiet(found):
    return [each for each in found if each.kernel != NOISY]


def noisy(found):
    return [each for each in found if each.kernel == NOISY]


def scatter(found) -> float:
    """
    Return the standard deviation of one kernel's processes on one card.
    """
    (column,) = columns([each.line[0].processes[0] for each in found], (50.0,))
    return stdev(each.mean for each in column)


# The records


def test_every_process_of_a_card_measured_the_same_cases_at_its_own_time() -> None:
    """On that card, by one plan per case."""
    for card in cards():
        measurements = [[each.measurement for each in process] for process in card.processes]
        singles = [one.processes for each in measurements for one in each]

        assert {1} == {len(each) for each in singles}
        assert {card.uuid} == {each.environment.card for (each,) in singles}
        assert len(singles) == len({each.id for (each,) in singles})
        assert 1 == len({frozenset((one.case, one.plan) for one in each) for each in measurements})
        started = [each[0].processes[0].started for each in measurements]
        assert started == sorted(started)


def test_the_records_are_small_enough_for_a_repository() -> None:
    assert sum(each.stat().st_size for each in FOLDER.rglob("*")) < 5_000_000


@pytest.mark.parametrize("timer", TIMERS)
def test_every_process_comes_first_once_and_never_meets_itself(timer: str) -> None:
    first = Counter(each.line[0].processes[0].id for each in turns(timer))

    assert set(first.values()) == {1}
    for turn in turns(timer):
        own = {process.id for each in turn.line for process in each.processes}
        assert own.isdisjoint(each.id for each in turn.entry.reference.processes)


def test_with_ten_processes_a_card_is_replayed_by_the_full_plan() -> None:
    assert [3, 3, 3, 4, 5, 5] == [baseline_size(count) for count in (5, 6, 8, 9, 10, 12)]
    for card in cards():
        if len(card.processes) >= 10:
            assert {each.is_full for each in turns("device") if each.card == card.uuid} == {True}


# Unchanged kernels


def test_unchanged_kernels_never_regress() -> None:
    """
    None of 1035 verdicts: 630 candidates by the device timer, 135 by the launch timer.
    """
    found = [v for timer in TIMERS for v in verdicts(turns(timer), untouched)]

    assert {Status.UNCHANGED, Status.INCONCLUSIVE} == {each.status for each in found}


def test_unchanged_kernels_are_rarely_undecided() -> None:
    """
    At P50, at most 5 % on each card by the full plan: 5 of 630, all but one at 512x16.

    The two cards with five processes have 7 of 135: two against three, where five are the plan.
    """
    for found in by_card([each for timer in TIMERS for each in planned(timer)]).values():
        assert statuses(found, untouched)["INCONCLUSIVE"] <= 0.05 * len(found)
    short = [each for timer in TIMERS for each in turns(timer) if not each.is_full]
    assert statuses(short, untouched)["INCONCLUSIVE"] <= 0.1 * len(short)


def test_another_cards_process_is_not_regressed() -> None:
    """
    None of 990 verdicts between nine cards, against the early revision's baseline included.
    """
    found = [(each.home[:12], v) for each in elsewhere() for v in told(each).values()]

    assert {"OTHER_CARD"} == {v.reason for _, v in found}
    assert {Status.UNCHANGED} == {v.status for home, v in found if home != EARLY}
    assert [] == regressed(v for _, v in found)


def test_another_cards_slow_process_is_neither_passed_nor_failed() -> None:
    """
    10 % slower at P50, beyond what cards differ by, but one process fails nothing.
    """
    assert {"INCONCLUSIVE"} == set(statuses(elsewhere()[::4], slower(1.1)))


@pytest.mark.parametrize("timer", TIMERS)
@pytest.mark.parametrize("look", LOOKS)
def test_the_shown_interval_holds_no_change_as_often_as_it_says(timer: str, look: int) -> None:
    """
    After 1, 3, 5 processes: 92, 94 and 94 % (device, 540 each), 93, 97 and 96 % (launch, 270).

    92 to 98 % are asked, 95, 98 and 97 % meant (the looks share an error). Candidates of several
    processes overlap, so only every third or fifth counts in the limits.
    """
    shown = [v for each in planned(timer) for v in look_at(each, look)]
    hits = sum(v.change_interval.low <= 0 <= v.change_interval.high for v in shown)
    rate = Rate(hits // look, len(shown) // look)

    assert 0.92 <= rate.at_most
    assert 0.98 >= rate.at_least
    assert hits >= 0.9 * len(shown)


# Slowdowns of known size


@pytest.mark.parametrize("timer", TIMERS)
def test_half_a_per_cent_is_not_a_regression(timer: str) -> None:
    assert [] == regressed(verdicts(some(timer), slower(1.005)))


@pytest.mark.parametrize("timer", TIMERS)
def test_what_is_just_the_margin_is_rarely_a_regression(timer: str) -> None:
    """
    1 % where the margin is 1 % or more: 15 of 630 by the device timer, none by the launch timer.
    """
    found = [v for v in verdicts(turns(timer), slower(1.01)) if v.margin >= 0.01]

    assert len(regressed(found)) <= 0.025 * len(found)


@pytest.mark.parametrize(
    ("timer", "size"), [("device", 0.02), ("device", 0.03), ("launch", 0.03), ("launch", 0.05)]
)
def test_a_slower_quiet_kernel_is_found(timer: str, size: float) -> None:
    """
    In 95 % and more of those from 10 µs on, and of all.

    +2 % by the device timer: 171 of 180, and 466 of 480. Missed are above all 5 of 20 at 512x8 on
    the card of which one process in twenty is 1.3 % off.
    """
    found = quiet(planned(timer))

    for group in (found, [each for each in found if each.time_us >= 10]):
        assert found_share(group, slower(1 + size)) >= 0.95


@pytest.mark.parametrize(("size", "found"), [(0.02, 0.1), (0.03, 0.5), (0.05, 0.95)])
def test_a_slower_noisy_kernel_is_hardly_ever_passed(size: float, found: float) -> None:
    """
    NOT AS ASKED: +2 % on kernels from 10 µs is to be found in 95 %; at 512x16 it is in 21 of 70.

    3 % is found in 57, 5 % in all. One slowed by 2 % is passed: its five processes were at the fast
    clock, the baseline's at the slow one.
    """
    slowed = noisy(turns("device"))
    passed = statuses(slowed, slower(1 + size))["UNCHANGED"]

    assert found_share(slowed, slower(1 + size)) >= found
    assert passed <= (1 if size < 0.03 else 0)


def test_what_forbids_to_find_it_is_the_scatter_of_its_processes_and_is_told() -> None:
    """
    0.8, 0.5, 0.2, 0.6 % (sd) on four cards: five and five differ by 0.5 % by chance on the first.

    The verdict says that it takes more than 2 % to be found.
    """
    spreads = {
        kernel: mean(scatter(found) for found in by_card(group).values())
        for kernel, group in by_kernel(planned("device")).items()
    }
    detectable = [told(each)[50.0].detectable for each in noisy(planned("device"))]

    assert NOISY == max(spreads, key=spreads.get)
    assert median(detectable) > 0.02


def test_what_is_told_to_be_detectable_is_found() -> None:
    """
    In 504 of 540, 93 %: 95 % are meant, which is within what draws with shared baselines tell.
    """
    slowed = planned("device")
    sizes = [told(each)[50.0].detectable for each in slowed]
    counts = Counter(
        told(each, slower(1 + size))[50.0].status.value
        for each, size in zip(slowed, sizes, strict=True)
    )

    # Every fifth at most is a baseline of its own.
    assert 0.95 <= Rate(counts["REGRESSED"] // 5, len(slowed) // 5).at_most
    assert counts["REGRESSED"] >= 0.93 * len(slowed)


@pytest.mark.parametrize(
    ("timer", "size", "percentile"),
    [
        ("device", 0.05, 50.0),
        ("device", 0.1, 50.0),
        ("launch", 0.05, 50.0),
        ("launch", 0.1, 50.0),
        ("launch", 0.1, 95.0),
    ],
)
def test_five_and_ten_per_cent_are_found_everywhere(timer, size, percentile) -> None:
    """
    In all candidates, the noisy kernel's included (95 % are asked); P95 from 10 %.
    """
    assert found_share(turns(timer), slower(1 + size), percentile) >= 0.95


@pytest.mark.parametrize("size", [0.03, 0.05])
def test_three_and_five_per_cent_of_kernels_of_two_to_five_microseconds_are_found(size) -> None:
    """
    All 85 candidates: 95 % are asked of +5 %, and they are the lower limit of what was seen.
    """
    short = [each for timer in TIMERS for each in turns(timer) if 2 <= each.time_us <= 5]
    found = statuses(short, slower(1 + size))["REGRESSED"]

    assert 0.95 <= Rate(found, len(short)).at_least


def test_found_rates_by_card_and_kernel() -> None:
    """
    +2 % is found of each kernel where the verdict says that it is detectable, +5 % of every one.
    """
    for timer in TIMERS:
        for card, found in by_card(turns(timer)).items():
            print(f"\n{card}, {timer} timer\n")
            _print_head()
            for kernel, group in {**by_kernel(found), "all": found}.items():
                _print_row(kernel, group)

    for group in by_kernel(planned("device")).values():
        promised = [each for each in group if told(each)[50.0].detectable <= 0.02]
        # 12 of 15 at 512x16, 65 of 69 at 512x8 and 512x32, all 300 others.
        assert found_share(promised, slower(1.02)) >= 0.8
        assert found_share(group, slower(1.05)) >= 0.95


def _print_head() -> None:
    names = ["kernel", "candidates", "sd of processes", "unchanged: REGRESSED, INCONCLUSIVE"]
    names += [f"+{size:.0%} REGRESSED" for size in SIZES]
    print("| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|")


def _print_row(kernel, group) -> None:
    usual = statuses(group, untouched)
    spread = f"{scatter(group):.2%}" if kernel != "all" else ""
    shares = " | ".join(f"{statuses(group, slower(1 + size))['REGRESSED']}" for size in SIZES)
    unchanged = f"{usual['REGRESSED']}, {usual['INCONCLUSIVE']}"
    print(f"| {kernel} | {len(group)} | {spread} | {unchanged} | {shares} |")


def test_a_fifth_of_a_microsecond_counts_where_it_is_a_large_part() -> None:
    """
    +0.2 µs is found in 95 % where it is 2 % or more (4 to 10 µs), never where it is less than 1 %.
    """
    shares = [(0.2 / each.time_us, each) for each in planned("device")]
    large = [each for share, each in shares if share >= 0.02]
    small = [each for share, each in shares if share < 0.01]

    assert found_share(large, longer(0.2)) >= 0.95
    assert 0 == statuses(small, longer(0.2))["REGRESSED"]
    assert min(len(large), len(small)) >= 60


@pytest.mark.parametrize("timer", TIMERS)
def test_slower_never_turns_a_failure_into_a_pass(timer: str) -> None:
    for turn in turns(timer):
        failed: set[float] = set()
        for size in SIZES:
            now = told(turn, slower(1 + size))
            failing = {q for q, each in now.items() if each.status is Status.REGRESSED}

            assert failed <= failing
            failed |= failing


# Tails


def test_a_slower_tail_is_seen_at_p99_and_not_at_p50() -> None:
    """
    The slowest 2 % of launches, +20 %: P99 is REGRESSED in 135 of 135 (90 % asked, from 10 µs).

    P50 is UNCHANGED in all. That no tail grew by itself is shown above.
    """
    found = turns("launch")
    counts = statuses(found, slow_tail(0.02, 1.2), 99.0)

    assert {"UNCHANGED"} == set(statuses(found, slow_tail(0.02, 1.2)))
    assert set(counts) <= {"REGRESSED", "INCONCLUSIVE"}
    assert counts["REGRESSED"] >= 0.9 * len(found)


def test_a_tail_too_thin_for_p99_is_not_its_news() -> None:
    """
    0.4 % of launches, twice as long.
    """
    assert [] == regressed(verdicts(some("launch"), slow_tail(0.004, 2.0)))
