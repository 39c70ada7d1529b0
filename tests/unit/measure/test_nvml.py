"""
What the driver won't say is empty, never an error, and nobody is falsely accused of being there.
"""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest

from pytest_kernelperf.measure import nvml as nvml_module
from pytest_kernelperf.measure.neighbours import FAMILY
from pytest_kernelperf.measure.nvml import (
    Facts,
    NvmlCard,
    Reading,
    reason_names,
)

#: No process of this machine: above the largest number that Linux gives.
STRANGER = 2**23
UUID = "8f3c2a10-0000-1111-2222-333344445555"


class Nvml:
    """
    A driver that knows one whole card; `answers` add or replace.
    """

    class NVMLError(Exception):
        pass

    def __init__(self, known=f"GPU-{UUID}", **answers):
        self._known = known
        self._answers = {
            "nvmlDeviceIsMigDeviceHandle": 0,
            "nvmlDeviceGetUUID": known,
            "nvmlDeviceGetMigMode": [0, 0],
            "nvmlDeviceGetEccMode": [1, 1],
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlDeviceGetClockInfo": 1965,
            "nvmlDeviceGetPowerUsage": 123_456,
            "nvmlDeviceGetTemperature": 35,
            "nvmlDeviceGetCurrentClocksEventReasons": 0x5,
            "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=os.getpid())],
            **answers,
        }

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802 - the driver's name
        if uuid != self._known:
            raise self.NVMLError("not found")
        return "handle"

    def __getattr__(self, name):
        if name not in self._answers:
            raise AttributeError(name)

        def answer(*_):
            if self._answers[name] is None:
                raise self.NVMLError("not supported")
            return self._answers[name]

        return answer


def test_a_whole_card_is_read():
    card = NvmlCard(Nvml(), UUID)

    assert Facts(f"GPU-{UUID}", False, True, 700.0, 1980.0) == card.facts()
    assert Reading(1965.0, 123.456, 35.0, ("sw_power_cap",), 0, 1965.0) == card.read()


def test_a_machine_without_nvml_gives_empty_answers():
    card = NvmlCard(None, UUID)

    assert (Facts(), Reading()) == (card.facts(), card.read())


def test_a_card_that_nvml_does_not_know_gives_empty_answers():
    assert Reading() == NvmlCard(Nvml(known="GPU-another"), UUID).read()


def test_a_question_that_the_driver_refuses_is_none_and_the_others_are_answered():
    reading = NvmlCard(Nvml(nvmlDeviceGetPowerUsage=None), UUID).read()

    assert (1965.0, None) == (reading.clock_mhz, reading.power_w)


def test_drivers_before_535_are_asked_under_the_old_name():
    old = Nvml(
        nvmlDeviceGetCurrentClocksEventReasons=None,
        nvmlDeviceGetCurrentClocksThrottleReasons=0x40,
    )

    assert ("hw_thermal_slowdown",) == NvmlCard(old, UUID).throttle()


def test_a_slice_reads_its_card_and_counts_its_own_processes():
    slices = Nvml(
        known=f"MIG-{UUID}",
        nvmlDeviceIsMigDeviceHandle=1,
        nvmlDeviceGetDeviceHandleFromMigDeviceHandle="parent",
        nvmlDeviceGetMigMode=[1, 1],
        nvmlDeviceGetComputeRunningProcesses=[
            SimpleNamespace(pid=os.getpid()),
            SimpleNamespace(pid=1),
        ],
    )

    card = NvmlCard(slices, UUID)

    assert (True, 1) == (card.facts().mig, card.foreign_processes())


def test_the_processes_of_other_slices_are_not_foreign():
    """
    Where torch gives the whole card's UUID under MIG, its list has everybody.
    """
    sliced = Nvml(
        nvmlDeviceGetMigMode=[1, 1],
        nvmlDeviceGetComputeRunningProcesses=[SimpleNamespace(pid=pid) for pid in (1, 2, 3)],
    )

    assert 0 == NvmlCard(sliced, UUID).foreign_processes()


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0x0, ()),
        (0x1, ()),
        (0x4, ("sw_power_cap",)),
        (0x8 | 0x80, ("hw_slowdown", "hw_power_brake")),
        (0x20 | 0x1, ("sw_thermal_slowdown",)),
    ],
)
def test_idleness_limits_nothing(bits, names):
    assert names == reason_names(bits)


def busy(*shares: tuple[int, int]) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid, smUtil=percent) for pid, percent in shares]


@pytest.mark.parametrize(
    ("used", "foreign"),
    [
        (busy((STRANGER, 40)), 1),
        (busy((STRANGER, 40), (STRANGER, 60)), 1),
        (busy((STRANGER, 4)), 0),
        (busy((os.getpid(), 90)), 0),
        ([], 0),
        (None, 1),
    ],
    ids=["computes", "twice", "hardly", "only we do", "nobody", "the driver does not tell"],
)
def test_a_process_that_is_there_is_foreign_if_it_computes_or_nobody_knows(used, foreign):
    there = [SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=STRANGER)]
    card = NvmlCard(
        Nvml(
            nvmlDeviceGetComputeRunningProcesses=there,
            nvmlDeviceGetProcessUtilization=used,
        ),
        UUID,
    )

    assert foreign == card.foreign_processes()


def unnamed(*shares: tuple[int, int], waiting: int = 0) -> Nvml:
    """
    A driver that shows a container's processes by the host's numbers, some of them waiting.
    """
    numbers = [*(pid for pid, _ in shares), *(STRANGER + 100 + one for one in range(waiting))]
    return Nvml(
        nvmlDeviceGetComputeRunningProcesses=[SimpleNamespace(pid=pid) for pid in numbers],
        nvmlDeviceGetProcessUtilization=busy(*shares),
    )


def test_a_stranger_that_computes_does_not_pass_for_a_sibling_that_waits(monkeypatch):
    """
    Also where the siblings are not on the card yet.
    """
    monkeypatch.setenv(FAMILY, "1,2,3,4,5,6")
    both = (STRANGER, 40), (STRANGER + 1, 60)

    assert 1 == NvmlCard(unnamed(*both, waiting=5), UUID).foreign_processes()
    assert 1 == NvmlCard(unnamed(*both), UUID).foreign_processes()
    assert 0 == NvmlCard(unnamed(both[0], waiting=5), UUID).foreign_processes()


@pytest.mark.parametrize(
    ("driver", "age_s", "fade_s"),
    [
        (unnamed((STRANGER, 40), waiting=5), 0.5, 1.5),
        (unnamed((STRANGER, 40), waiting=5), 3.0, 0.0),
        (unnamed((STRANGER, 40)), 0.5, 0.0),
        (unnamed((STRANGER, 40), (os.getpid(), 50)), 0.5, 0.0),
        (None, 0.5, 0.0),
    ],
    ids=["just now", "long ago", "we are alone", "all are named", "no driver"],
)
def test_what_siblings_did_before_fades_where_they_cannot_be_told_from_strangers(
    monkeypatch, driver, age_s, fade_s
):
    monkeypatch.setattr(nvml_module, "turn_age_s", lambda: age_s)

    assert fade_s == NvmlCard(driver, UUID).siblings_fade_s()


@pytest.mark.parametrize(("tells", "foreign"), [(True, 0), (False, 1)])
def test_a_driver_that_tells_who_computed_says_by_an_error_that_nobody_did(tells, foreign):
    driver = Nvml(
        nvmlDeviceGetComputeRunningProcesses=[
            SimpleNamespace(pid=os.getpid()),
            SimpleNamespace(pid=STRANGER),
        ]
    )

    def used(_, since_us):
        if tells and not since_us:
            return busy((STRANGER, 90))
        raise Nvml.NVMLError("not found")

    driver.nvmlDeviceGetProcessUtilization = used

    assert foreign == NvmlCard(driver, UUID).foreign_processes(since_us=1)


def test_a_watch_joins_what_limited_the_clock_before_and_after_a_round():
    driver = Nvml(nvmlDeviceGetCurrentClocksEventReasons=0x4)
    watch = NvmlCard(driver, UUID).watch()
    driver._answers["nvmlDeviceGetCurrentClocksEventReasons"] = 0x8

    assert ("hw_slowdown", "sw_power_cap") == watch.read().throttle


def test_a_watch_asks_for_work_of_the_round_and_the_second_before_it():
    asked = []
    driver = Nvml(
        nvmlDeviceGetComputeRunningProcesses=[
            SimpleNamespace(pid=os.getpid()),
            SimpleNamespace(pid=STRANGER),
        ]
    )
    driver.nvmlDeviceGetProcessUtilization = lambda _, since_us: asked.append(since_us) or []

    before_us = time.time() * 1e6
    NvmlCard(driver, UUID).watch().read()

    assert before_us - 1e6 == pytest.approx(asked[0], abs=1e5)
