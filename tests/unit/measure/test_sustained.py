"""
A card that is never idle, simulated: a host and a device with a clock each, and a queue between.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from pytest_kernelperf.measure import sustained  # noqa: E402 - torch may be missing
from pytest_kernelperf.measure.sustained import HostTooSlowError, back_to_back  # noqa: E402

CANARY_US = 25.0


class Machine:
    """
    A host that takes `host_us` to enqueue a sample, and a device whose work takes its time.
    """

    def __init__(self, host_us: float) -> None:
        self.host_us = host_us
        self.now_us = 0.0
        self.device_us = 0.0
        self.idle_us = 0.0

    def work(self, us: float) -> None:
        start_us = max(self.device_us, self.now_us)
        self.idle_us += start_us - self.device_us
        self.device_us = start_us + us

    def canary(self, begin: Any, end: Any) -> None:
        begin.record()
        self.work(CANARY_US)
        end.record()


class Event:
    machine: Machine

    def __init__(self, **_: Any) -> None:
        self.at_us = 0.0

    def record(self) -> None:
        self.at_us = max(self.machine.device_us, self.machine.now_us)

    def query(self) -> bool:
        return self.at_us <= self.machine.now_us

    def synchronize(self) -> None:
        self.machine.now_us = max(self.machine.now_us, self.at_us)

    def elapsed_time(self, end: Event) -> float:
        return (end.at_us - self.at_us) * 1e-3


class Runner:
    """
    A lane whose sample of ten calls takes what the function says at that moment.
    """

    calls = 10

    def __init__(self, machine: Machine, name: str, sample_us: Callable[[], float]) -> None:
        self.lane = SimpleNamespace(name=name)
        self._machine = machine
        self._sample_us = sample_us

    def enqueue(self, card: Any) -> None:
        self._machine.now_us += self._machine.host_us

    def run(self) -> None:
        self._machine.work(self._sample_us())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """
    A machine whose host takes 0.2 ms per sample, and whose clock is the module's.
    """
    made = Machine(200.0)
    Event.machine = made
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(sustained, "monotonic", lambda: made.now_us * 1e-6)
    return made


def card_of(machine: Machine) -> Any:
    canary = SimpleNamespace(
        enqueue=machine.canary, read_mhz=lambda begin, end: 49.5 / begin.elapsed_time(end)
    )
    return SimpleNamespace(canary=canary)


def take(machine: Machine, samples: int = 20, **lanes: Callable[[], float]) -> dict[str, list[Any]]:
    runners = [Runner(machine, name, sample_us) for name, sample_us in lanes.items()]
    return back_to_back(runners, samples, card_of(machine))


def test_samples_are_back_to_back_and_read_without_host_time(machine):
    shots = take(machine, x=lambda: 1000.0)["x"]

    assert 20 <= len(shots) <= 20 + 3
    assert {100.0} == {round(shot.time_us, 6) for shot in shots}
    assert {0.0} == {shot.slack_us for shot in shots}
    # The very first sample found an idle device.
    assert machine.host_us == machine.idle_us


def test_each_sample_carries_the_clock_before_and_after_it(machine):
    shots = take(machine, x=lambda: 1000.0)["x"]

    assert {(1980.0, 1980.0)} == {(round(s.before_mhz), round(s.after_mhz)) for s in shots}


def test_no_sample_is_taken_before_the_card_is_steady(machine):
    """
    A power cap that takes the clock down over the first second.
    """

    def capped() -> float:
        return 1000.0 + min(machine.now_us * 1e-6, 1.2) * 300.0

    shots = take(machine, x=capped)["x"]

    assert 136.0 == pytest.approx(median(shot.time_us for shot in shots), rel=0.001)


def test_a_time_that_never_settles_is_measured_after_five_seconds(machine):
    shots = take(machine, x=lambda: 1000.0 + machine.now_us * 1e-3)["x"]

    assert 600.0 == pytest.approx(shots[0].time_us, rel=0.02)


def test_a_host_that_can_not_keep_ahead_is_found_out(machine):
    machine.host_us = 1500.0

    with pytest.raises(HostTooSlowError) as found:
        take(machine, x=lambda: 1000.0)

    assert "x" == found.value.lane


def test_a_sample_that_the_device_waited_for_is_late_and_replaced(machine):
    """
    Once in the middle of the round the host stalls for 5 ms.
    """
    taken = 0

    def stalls() -> float:
        nonlocal taken
        taken += 1
        if taken == 800:
            machine.now_us += 5000.0
        return 1000.0

    shots = take(machine, samples=100, x=stalls)["x"]

    assert 1 == sum(shot.slack_us < 0 for shot in shots)
    assert 100 <= sum(shot.slack_us >= 0 for shot in shots)


def test_lanes_take_turns_on_the_busy_card(machine):
    shots = take(machine, a=lambda: 1000.0, b=lambda: 2000.0)

    assert [100.0, 200.0] == [round(median(s.time_us for s in each), 6) for each in shots.values()]
    assert abs(len(shots["a"]) - len(shots["b"])) <= 2
