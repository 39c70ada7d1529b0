"""
What excuses a slowdown, and what does not.
"""

from __future__ import annotations

import pytest
from measured import a_process

from pytest_kernelperf.analysis.evidence import Circumstances, clock_drop, excuse, gather
from pytest_kernelperf.analysis.reasons import Reason

FULL = 1980.0


@pytest.mark.parametrize(
    ("clock_mhz", "slower", "expected"),
    [
        (FULL * 0.95, 0.05, Reason.CLOCK_MOVED),  # all of it is the clock's
        (FULL * 0.97, 0.05, Reason.CLOCK_MOVED),  # more than half
        (FULL * 0.98, 0.05, None),  # less than half: the kernel's own
        (FULL, 0.05, None),
        (FULL * 1.05, 0.05, None),  # slower at a higher clock
        (FULL * 0.95, -0.05, None),  # nothing excuses a speed-up
        (None, 0.05, None),
    ],
)
def test_a_clock_that_fell_by_half_of_the_slowdown_excuses_it(
    clock_mhz: float | None, slower: float, expected: Reason | None
) -> None:
    seen = Circumstances(clock_mhz=clock_mhz, baseline_clock_mhz=FULL)

    assert expected is excuse(seen, slower)


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

    assert expected is excuse(seen, slower)


def test_a_foreign_process_excuses_a_slowdown_only() -> None:
    seen = Circumstances(foreign_rounds=1)

    assert Reason.FOREIGN_PROCESS is excuse(seen, 0.05)
    assert excuse(seen, 0.0) is None


def test_circumstances_are_gathered_from_the_rounds() -> None:
    now = a_process(20.0, clock_mhz=1900.0, throttle=("sw_power_cap",), foreign_processes=1)
    before = [a_process(20.0, clock_mhz=mhz) for mhz in (1970.0, 1980.0, 1990.0)]

    expected = Circumstances(1900.0, 1980.0, 1.0, 0.0, ("sw_power_cap",), 5, 5)

    assert expected == gather([now], before)


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


def test_a_clock_unknown_on_one_side_says_nothing() -> None:
    assert 0.0 == clock_drop(gather([a_process(20.0, clock_mhz=0.0)], [a_process(20.0)]))
    assert 0.0 == clock_drop(gather([a_process(20.0)], []))
