"""
The evidence that work is hidden where no timer sees it.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from pytest_kernelperf.measure.canary import Shot
from pytest_kernelperf.measure.rounds import in_turn
from pytest_kernelperf.measure.trial import hides_work


def busy(busy_us, device_us=100.0):
    return Shot(1.0, busy_us=busy_us, device_us=device_us)


@pytest.mark.parametrize(
    ("shots", "hides"),
    [
        ([], False),
        ([busy(3.0)] * 3, False),
        ([busy(60.0)] * 3, True),
        ([busy(40.0, device_us=10.0)] * 3, False),
        ([busy(150.0, device_us=1000.0)] * 3, False),
        ([busy(250.0, device_us=1000.0)] * 3, True),
        ([busy(3.0), busy(5000.0), busy(3.0)], False),
    ],
    ids=[
        "nothing",
        "idle",
        "busy",
        "a host hiccup of 40 µs",
        "15 % of a long sample",
        "25 % of a long sample",
        "one stall of the host",
    ],
)
def test_work_is_hidden_if_the_device_typically_stays_busy_after_the_last_event(shots, hides):
    assert hides_work(shots) is hides


def test_callables_take_turns_in_going_first():
    firsts = dict.fromkeys("abc", 0)
    for turn in range(6):
        firsts[next(in_turn("abc", turn))] += 1

    assert firsts == {"a": 2, "b": 2, "c": 2}


def test_two_callables_go_there_and_back():
    assert "abbabaab" == "".join(name for turn in range(4) for name in in_turn("ab", turn))


@pytest.mark.parametrize("items", ["abc", "abcd", "abcde"])
def test_no_callable_always_follows_the_same_other(items):
    order = [name for turn in range(2 * len(items)) for name in in_turn(items, turn)]
    before = {name: set() for name in items}
    for earlier, later in pairwise(order):
        before[later].add(earlier)

    assert all(len(found) > 1 for found in before.values())
