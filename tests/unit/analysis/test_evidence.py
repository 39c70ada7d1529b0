"""
What excuses a slowdown, and what does not.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from measured import a_process

from pytest_kernelperf.analysis.evidence import Circumstances, clock_drop, excuse, gather
from pytest_kernelperf.analysis.reasons import Reason

FULL = 1980.0


MARGIN = 0.015


@pytest.mark.parametrize(
    ("clock_mhz", "slower", "expected"),
    [
        (FULL * 0.98, 0.02, Reason.CLOCK_MOVED),  # all of it is the clock's
        (FULL * 0.95, 0.05, Reason.CLOCK_MOVED),
        (FULL * 0.97, 0.055, Reason.CLOCK_MOVED),  # what is left is the canaries' and the margin's
        (FULL * 0.97, 0.07, None),
        (FULL * 0.98, 0.10, None),  # what is left is far above it
        (FULL * 0.5, 1.0, Reason.CLOCK_MOVED),  # half the clock, twice the time
        (FULL * 0.5, 0.3, Reason.CLOCK_MOVED),  # half the clock, partly memory-bound
        (FULL * 0.5, 2.0, None),  # half the clock, three times the time
        (FULL * 0.99, 0.02, None),  # no more than two processes' canaries differ by
        (FULL, 0.05, None),
        (FULL * 1.05, 0.05, None),  # slower at a higher clock
        (FULL * 0.95, -0.05, None),  # nothing excuses a speed-up
        (None, 0.05, None),
    ],
)
def test_only_the_part_of_a_slowdown_that_the_clock_explains_is_excused(
    clock_mhz: float | None, slower: float, expected: Reason | None
) -> None:
    seen = Circumstances(clock_mhz=clock_mhz, baseline_clock_mhz=FULL)

    assert expected is excuse(seen, slower, MARGIN)


@pytest.mark.parametrize(
    ("follows", "expected"), [(1.0, Reason.CLOCK_MOVED), (0.5, Reason.CLOCK_MOVED), (0.1, None)]
)
def test_a_kernel_that_was_seen_not_to_follow_its_clock_is_not_excused_by_it(
    follows: float, expected: Reason | None
) -> None:
    seen = Circumstances(FULL * 0.9, FULL, follows=follows)

    assert expected is excuse(seen, 0.05, MARGIN)


@pytest.mark.parametrize(
    ("memory_mhz", "slower", "expected"),
    [
        (2619.0 * 0.9, 0.08, Reason.CLOCK_MOVED),
        (2619.0 * 0.9, 0.30, None),
        (2619.0, 0.08, None),
        (None, 0.08, None),
    ],
)
def test_a_changed_memory_clock_excuses_what_it_explains(
    memory_mhz: float | None, slower: float, expected: Reason | None
) -> None:
    seen = Circumstances(FULL, FULL, memory_mhz, 2619.0)

    assert expected is excuse(seen, slower, MARGIN)


@pytest.mark.parametrize(
    ("share", "before", "slower", "expected"),
    [
        (0.4, 0.0, 0.05, Reason.THROTTLED),
        (0.2, 0.0, 0.05, None),  # 28 of 252 quiet rounds had it
        (1.0, 0.9, 0.05, None),  # the baseline's rounds had it too
        (1.0, 0.0, 0.40, Reason.THROTTLED),
        (1.0, 0.0, 0.50, None),  # more than the cap can explain
    ],
)
def test_throttling_that_the_baseline_did_not_have_excuses_a_slowdown(
    share: float, before: float, slower: float, expected: Reason | None
) -> None:
    seen = Circumstances(throttled=share, baseline_throttled=before)

    assert expected is excuse(seen, slower, MARGIN)


@pytest.mark.parametrize(
    ("clock_mhz", "slower", "expected"),
    [
        (FULL * 0.99, 0.035, Reason.THROTTLED),
        (FULL * 0.99, 0.10, None),
        (FULL, 0.05, None),  # a limit that the clock did not feel
    ],
)
def test_throttling_explains_no_more_than_the_clock_that_was_read(
    clock_mhz: float, slower: float, expected: Reason | None
) -> None:
    seen = Circumstances(clock_mhz, FULL, throttled=1.0)

    assert expected is excuse(seen, slower, MARGIN)


def test_a_foreign_process_excuses_a_slowdown_only() -> None:
    seen = Circumstances(foreign_rounds=1)

    assert Reason.FOREIGN_PROCESS is excuse(seen, 0.05, MARGIN)
    assert excuse(seen, MARGIN, MARGIN) is None


def test_circumstances_are_gathered_from_the_rounds() -> None:
    now = a_process(
        20.0,
        clock_mhz=1900.0,
        throttle=("sw_power_cap",),
        foreign_processes=1,
        memory_clock_mhz=1593.0,
    )
    before = [a_process(20.0, clock_mhz=mhz, memory_clock_mhz=2619.0) for mhz in (1970.0, 1990.0)]

    seen = gather([now], before)

    assert (
        Circumstances(
            clock_mhz=pytest.approx(1900.0),
            baseline_clock_mhz=pytest.approx(1980.0, abs=0.1),
            memory_mhz=pytest.approx(1593.0),
            baseline_memory_mhz=pytest.approx(2619.0),
            throttled=1.0,
            throttle_names=("sw_power_cap",),
            foreign_rounds=5,
            rounds=5,
        )
        == seen
    )


def test_the_clock_of_half_of_the_rounds_counts_half() -> None:
    """
    Times are averaged over rounds, so a median of clocks would miss what moved them.
    """
    fast, slow = a_process(20.0), a_process(20.0, clock_mhz=1782.0)
    mixed = replace(fast, rounds=(*fast.rounds[:3], *slow.rounds[:2]))

    assert 0.4 * math.log(1980.0 / 1782.0) == pytest.approx(clock_drop(gather([mixed], [fast])))


def test_without_canaries_the_drivers_clocks_are_compared_and_never_one_with_the_other() -> None:
    canary = a_process(20.0, nvml_clock_mhz=1500.0)
    driver = a_process(20.0, clock_mhz=0.0, nvml_clock_mhz=1500.0)
    faster = a_process(20.0, clock_mhz=0.0, nvml_clock_mhz=1980.0)

    assert math.log(1980 / 1500) == pytest.approx(clock_drop(gather([driver], [faster])))
    assert 0.0 == clock_drop(gather([driver], [canary]))


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("sw_power_cap", True),
        ("SW_POWER_CAP", True),
        ("hw_thermal_slowdown", True),
        ("hw_power_brake", True),
        ("sw_thermal_slowdown", True),
        ("applications_clocks", False),
        ("sync_boost", False),
    ],
)
def test_only_reasons_that_take_the_clock_down_count(name: str, counts: bool) -> None:
    seen = gather([a_process(20.0, throttle=(name,))], [])

    assert (1.0 if counts else 0.0) == seen.throttled


def test_a_foreign_process_that_the_baseline_lived_with_is_no_news() -> None:
    crowded = a_process(20.0, foreign_processes=1)

    assert 0 == gather([crowded], [crowded]).foreign_rounds
    assert 5 == gather([crowded], [a_process(20.0)]).foreign_rounds


def test_one_disturbed_round_in_the_baseline_does_not_end_the_excuse() -> None:
    crowded, alone = a_process(20.0, foreign_processes=1), a_process(20.0)
    baseline = replace(alone, rounds=(crowded.rounds[0], *alone.rounds[1:]))

    assert 5 == gather([crowded], [baseline]).foreign_rounds


def test_a_clock_unknown_on_one_side_says_nothing() -> None:
    assert 0.0 == clock_drop(gather([a_process(20.0, clock_mhz=0.0)], [a_process(20.0)]))
    assert 0.0 == clock_drop(gather([a_process(20.0)], []))
