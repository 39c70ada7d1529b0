"""
Kernel records are given to calls only where they repeat exactly.
"""

from __future__ import annotations

import pytest

from pytest_kernelperf.measure.canary import CLOCK_FELL, LATE_ENQUEUE, Shot
from pytest_kernelperf.measure.nvml import Reading
from pytest_kernelperf.measure.records import (
    Burst,
    BurstPattern,
    KernelRecord,
    NotRepeatingError,
    burst_round_of,
    launches_of,
    learn_pattern,
    round_of,
)
from pytest_kernelperf.model import Discard

SDPA = BurstPattern(("spin",), ("memset", "attention"), ("spin",))
TIMELY = Shot(0.0, 1980.0, 1980.0, slack_us=0.7)


def records(names, start_ns=0, length_ns=1000, step_ns=1500):
    """
    Return records one after the other, each 1 µs long, starting every 1.5 µs.
    """
    starts = [start_ns + index * step_ns for index in range(len(names))]
    return [KernelRecord(name, at, at + length_ns) for name, at in zip(names, starts, strict=True)]


def test_the_pattern_of_one_burst_is_learned():
    found = learn_pattern(records(["fill", "spin", *["memset", "attention"] * 3, "spin"]), 3, 2, 1)

    assert BurstPattern(("fill", "spin"), ("memset", "attention"), ("spin",)) == found


@pytest.mark.parametrize(
    "names",
    [
        ["spin", "a", "b", "a", "spin"],
        ["spin", "a", "b", "a", "c", "spin"],
        ["spin", "spin"],
        [],
    ],
    ids=["half a call", "another kernel", "no kernel", "no record"],
)
def test_records_that_do_not_repeat_are_refused(names):
    with pytest.raises(NotRepeatingError):
        learn_pattern(records(names), 2, 1, 1)


def test_a_call_spans_its_first_start_to_its_last_end():
    """
    Two records of 1 µs that start 1.5 µs apart span 2.5 µs.
    """
    found = launches_of(records(SDPA.names(4)), [(SDPA, 4)])

    assert [(2.5, 2.5, 2.5, 2.5)] == found


def test_records_that_overlap_are_spanned_by_their_last_end():
    long, short = KernelRecord("memset", 0, 9000), KernelRecord("attention", 1000, 2000)
    spins = KernelRecord("spin", -10, -5), KernelRecord("spin", 9500, 9600)

    assert [(9.0,)] == launches_of([spins[0], long, short, spins[1]], [(SDPA, 1)])


def test_what_runs_between_bursts_is_skipped():
    """
    Poison, restored inputs and the session's unblocked first call belong to no burst.
    """
    warm_up = ["memset", "attention", "spin"]
    between = ["poison", "copy"]
    names = [*warm_up, *between, *SDPA.names(2), *between, *SDPA.names(2)]

    assert [(2.5, 2.5), (2.5, 2.5)] == launches_of(records(names), [(SDPA, 2), (SDPA, 2)])


def test_the_unblocked_call_before_a_burst_of_one_is_not_the_burst():
    names = ["memset", "attention", "spin", *SDPA.names(1)]
    found = records(names)
    slow_first = [KernelRecord("memset", -9000, -100), *found[1:]]

    assert [(2.5,)] == launches_of(slow_first, [(SDPA, 1)])


def test_bursts_of_different_callables_are_told_apart_by_their_order():
    other = BurstPattern(("spin",), ("add",), ("spin",))
    names = [*SDPA.names(2), *other.names(3), *SDPA.names(2)]

    found = launches_of(records(names), [(SDPA, 2), (other, 3), (SDPA, 2)])

    assert [2, 3, 2] == [len(times_us) for times_us in found]
    assert (1.0, 1.0, 1.0) == found[1]


def test_a_callable_that_spins_like_the_canary_is_not_shifted_by_the_unblocked_call():
    """
    All names are equal then; only the end of the records says where the burst is.
    """
    spinning = BurstPattern(("spin",), ("spin",), ("spin",))
    warm_up = [KernelRecord("spin", -200_000, -100_000), KernelRecord("spin", -90_000, -80_000)]
    lead, *calls, tail = records(["spin"] * 5)

    assert launches_of([*warm_up, lead, *calls, tail], [(spinning, 3)]) == [(1.0, 1.0, 1.0)]


def test_a_burst_that_is_not_there_is_an_error_not_a_guess():
    with pytest.raises(NotRepeatingError, match="burst 1 of 2"):
        launches_of(records([*SDPA.names(2), *SDPA.names(1)]), [(SDPA, 2), (SDPA, 2)])


def test_the_first_launch_of_a_burst_is_kept_apart():
    bursts = [Burst(TIMELY, (4.0, 3.0, 3.1)), Burst(TIMELY, (4.2, 3.2, 3.3))]

    found = burst_round_of(bursts, 4, Reading())

    assert (3.0, 3.1, 3.2, 3.3) == found.times_us
    assert (4.0, 4.2) == found.first_us
    assert (1980.0, 1980.0) == found.clock_mhz
    assert (0.7, 0.7) == found.slack_us


def test_a_burst_of_one_launch_keeps_it():
    found = burst_round_of([Burst(TIMELY, (4.0,)), Burst(TIMELY, (4.1,))], 2, Reading())

    assert ((4.0, 4.1), ()) == (found.times_us, found.first_us)


def test_launches_beyond_the_wanted_number_are_left_out_from_the_end():
    found = burst_round_of([Burst(TIMELY, (4.0, 3.0, 3.1, 2.9))], 2, Reading())

    assert (3.0, 3.1) == found.times_us


def test_a_late_burst_is_dropped_whole():
    late = Burst(Shot(0.0, 1980.0, 1980.0, slack_us=-5.0), (4.0, 8.0, 9.0))

    found = burst_round_of([Burst(TIMELY, (4.0, 3.0)), late], 5, Reading())

    assert (3.0,) == found.times_us
    assert (4.0,) == found.first_us
    assert (Discard(LATE_ENQUEUE, 8.5, 1980.0),) == found.discarded
    assert (0.7, -5.0) == found.slack_us


def test_equal_bursts_are_not_confused_when_one_of_them_is_dropped():
    """
    A fallen clock drops the bursts that it slowed, and only those.
    """
    good = Burst(TIMELY, (4.0, 3.0))
    slow = Burst(Shot(0.0, 1700.0, 1700.0, slack_us=0.7), (4.0, 3.5))

    found = burst_round_of([good, slow, good, good], 9, Reading())

    assert (3.0, 3.0, 3.0) == found.times_us
    assert (Discard(CLOCK_FELL, 3.5, 1700.0),) == found.discarded


def test_a_round_carries_what_the_driver_said():
    reading = Reading(1980.0, 210.5, 41.0, ("sw_power_cap",), 1, 2619.0)

    found = round_of([Shot(3.0, 1980.0, 1990.0, slack_us=0.5)], reading)

    assert (1980.0, 210.5, 41.0) == (found.nvml_clock_mhz, found.power_w, found.temperature_c)
    assert (("sw_power_cap",), 1) == (found.throttle, found.foreign_processes)
    assert 2619.0 == found.memory_clock_mhz
    assert ((3.0,), (1985.0,), (0.5,)) == (found.times_us, found.clock_mhz, found.slack_us)


def test_a_clock_that_may_fall_drops_nothing():
    """
    At a sustained pace the fallen clock is part of what is measured.
    """
    shots = [Shot(10.0, 1980.0, 1980.0, slack_us=0.0)] * 9 + [Shot(13.0, 1500.0, 1500.0)]

    assert (10, 9) == tuple(
        len(round_of(shots, Reading(), clock_may_fall=may).times_us) for may in (True, False)
    )


def test_unblocked_samples_have_neither_slack_nor_clock():
    found = round_of([Shot(3.0)], Reading())

    assert ((3.0,), (), ()) == (found.times_us, found.clock_mhz, found.slack_us)
