"""
A round that the machine disturbed is taken again, and what it measured stays in the record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pytest_kernelperf.measure import rounds
from pytest_kernelperf.measure.rounds import (
    ROUND_SHARED,
    ROUND_THROTTLED,
    disturbances,
    run_rounds,
)
from pytest_kernelperf.measure.subject import Job
from pytest_kernelperf.model import Case, Discard, Problem, Round

JOB = Job(Case("t.py", "test_x", "", "device", "cold", "paced"))
QUIET = Round((1.0, 1.1), clock_mhz=(1980.0, 1970.0))
CAPPED = Round((2.0, 2.1), clock_mhz=(1500.0, 1510.0), throttle=("sw_power_cap",))
SHARED = Round((3.0,), foreign_processes=1)


@pytest.fixture(autouse=True)
def rested(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """
    Note rests instead of taking them.
    """
    found: list[float] = []
    monkeypatch.setattr(rounds, "sleep", found.append)
    return found


def run(
    sequence: list[Round], count: int = 3, job: Job = JOB
) -> tuple[tuple[Round, ...], Iterator[Round]]:
    """
    Run so many rounds from a sequence; return what was kept, and what was not taken.
    """
    rest = iter(sequence)
    found = run_rounds([""], count, lambda: {"": (next(rest), None)}, job, lambda _: None)
    return found[""][0], rest


def test_quiet_rounds_are_taken_once(rested):
    kept, rest = run([QUIET] * 3 + [SHARED])

    assert ((QUIET,) * 3, [SHARED], []) == (kept, list(rest), rested)


@pytest.mark.parametrize(
    ("disturbed", "reason"), [(CAPPED, ROUND_THROTTLED), (SHARED, ROUND_SHARED)]
)
def test_a_disturbed_round_is_taken_again_and_its_samples_are_dropped_as_that(
    disturbed, reason, rested
):
    kept, _ = run([QUIET, disturbed, QUIET, QUIET])

    clocks = disturbed.clock_mhz or (None,)
    pairs = zip(disturbed.times_us, clocks, strict=True)
    dropped = tuple(Discard(reason, time_us, mhz) for time_us, mhz in pairs)
    assert (QUIET, replace(QUIET, discarded=dropped), QUIET) == kept
    assert [0.1] == rested


def test_what_stays_disturbed_is_taken_again_a_few_times_and_stays_marked():
    kept, rest = run([CAPPED] * 20)

    assert (3, 20 - 3 - 2) == (len(kept), len(list(rest)))
    assert all(one.throttle for one in kept)
    assert 4 == len(kept[0].discarded)


def test_a_setting_that_limits_the_clock_is_no_disturbance():
    settled = replace(QUIET, throttle=("applications_clocks",))

    assert (settled,) * 3 == run([settled] * 4)[0]


def test_at_a_sustained_pace_the_power_cap_is_what_is_measured():
    sustained = replace(JOB, case=replace(JOB.case, pace="sustained"))
    hot = replace(CAPPED, throttle=("hw_thermal_slowdown",))

    assert (CAPPED,) * 3 == run([CAPPED] * 4, job=sustained)[0]
    assert 1 == len(list(run([hot] + [QUIET] * 4, job=sustained)[1]))


def test_nothing_is_taken_again_when_the_time_is_over():
    assert (CAPPED,) * 3 == run([CAPPED] * 4, job=replace(JOB, max_time_s=1e-9))[0]


def test_single_launches_have_no_clock_of_their_own():
    burst = replace(CAPPED, times_us=(1.0, 2.0, 3.0))

    kept, _ = run([burst, QUIET], count=1)

    assert {None} == {each.clock_mhz for each in kept[0].discarded}


def test_a_problem_found_when_a_round_is_taken_again_ends_all():
    problem = Problem("WRONG_OUTPUT", "")
    answers = iter([(CAPPED, None), (QUIET, None), (QUIET, problem)])

    found = run_rounds([""], 2, lambda: {"": next(answers)}, JOB, lambda _: None)

    assert problem == found[""][1]


def test_all_lanes_are_taken_again_together():
    answers = iter(
        [{"a": (CAPPED, None), "b": (QUIET, None)}, {"a": (QUIET, None), "b": (QUIET, None)}]
    )

    found = run_rounds(["a", "b"], 1, lambda: next(answers), JOB, lambda _: None)

    assert [2, 2] == [len(kept[0].discarded) for kept, _ in found.values()]


def test_the_notes_say_what_was_taken_again_and_what_stays():
    again = replace(QUIET, discarded=(Discard(ROUND_THROTTLED, 2.0),))

    assert () == disturbances([QUIET] * 5, JOB)
    assert (
        "the driver reported a power, thermal or hardware limit: 1 of 3 rounds were taken again, "
        "0 stay disturbed",
        "another process computed on the card: 0 of 3 rounds were taken again, 1 stay disturbed",
    ) == disturbances([again, SHARED, QUIET], JOB)
