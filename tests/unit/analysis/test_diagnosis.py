"""
What doctor makes of a machine's facts: levels and cures, from the facts of an H100 and changes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from measured import environment

from pytest_kernelperf.analysis.diagnosis import diagnose, is_usable
from pytest_kernelperf.model import Answer, Finding, Level

HERE = replace(
    environment(), tick_us=0.032, empty_interval_us=1.53, blocker="wait-value", versions={}
)
#: Of a quiet machine with an H100.
FACTS: dict[str, dict[str, Any]] = {
    "software": {"versions": {"python": "3.12", "torch": "2.11", "triton": "3.6"}, "plugins": {}},
    "host": {
        "cpu": "Xeon",
        "cores": 16,
        "load": 0.4,
        "governor": "",
        "tick_us": 0.001,
        "empty_us": 0.05,
        "p95_over_p50": 1.04,
    },
    "cards": {"torch": True, "hip": "", "cuda": "13.0", "mps": False, "cards": ["NVIDIA H100"]},
    "card": {"environment": HERE},
    "graphs": {"ran": True, "nodes": 10},
    "profiler": {"records": 1},
    "state": {
        "nvml": True,
        "canary_mhz": 1979.0,
        "nvml_mhz": 1980.0,
        "max_mhz": 1980.0,
        "power_w": 120.0,
        "power_limit_w": 700.0,
        "usual_power_limit_w": 700.0,
        "temperature_c": 35.0,
        "throttle": [],
        "foreign_processes": 0,
        "stays_loaded": True,
        "free_bytes": 78 << 30,
        "all_bytes": 80 << 30,
    },
}


def findings(probe: str = "", **changes: Any) -> tuple[Finding, ...]:
    """
    Return what is said of the quiet machine with some facts of one probe changed.
    """
    facts = {**FACTS, probe: {**FACTS.get(probe, {}), **changes}}
    return diagnose({name: Answer(each) for name, each in facts.items()})


def odd(found: tuple[Finding, ...]) -> list[tuple[str, Level]]:
    return [(each.topic, each.level) for each in found if each.level is not Level.OK]


def test_a_quiet_machine_has_nothing_to_cure() -> None:
    found = findings()

    assert [] == odd(found)
    assert is_usable(found)
    assert all(not each.cure for each in found)
    assert [
        *("software", "host", "gpu", "card", "timer", "blocker"),
        *("graphs", "profiler", "clock", "power", "neighbours", "memory"),
    ] == [each.topic for each in found]


@pytest.mark.parametrize(
    ("probe", "changes", "topic", "level", "said"),
    [
        ("software", {"versions": {"python": "3"}}, "triton", "NOTE", "not installed"),
        ("software", {"plugins": {"flaky": "1"}}, "plugins", "NOTE", "one lucky rerun"),
        ("host", {"p95_over_p50": 1.5}, "host", "NOTE", "1.50 times its P50"),
        ("cards", {"torch": False}, "gpu", "NOTE", "torch is not installed"),
        ("cards", {"cards": []}, "gpu", "NOTE", "judging recorded runs"),
        ("cards", {"hip": "6.2"}, "gpu", "BAD", "ROCm 6.2"),
        ("cards", {"cards": [], "mps": True}, "gpu", "BAD", "MPS"),
        ("card", {"environment": replace(HERE, tick_us=0.0)}, "timer", "BAD", "too coarse"),
        ("card", {"environment": replace(HERE, tick_us=1.5)}, "timer", "BAD", "too coarse"),
        ("card", {"environment": replace(HERE, blocker="none")}, "blocker", "BAD", "host time"),
        ("graphs", {"ran": False}, "graphs", "BAD", "wrong result"),
        ("graphs", {"nodes": 0}, "graphs", "NOTE", "nobody counts"),
        ("profiler", {"records": 0}, "profiler", "NOTE", "falls back to events"),
        ("state", {"canary_mhz": None}, "clock", "NOTE", "can't be read"),
        ("state", {"canary_mhz": 1900.0}, "clock", "NOTE", "they disagree"),
        ("state", {"canary_mhz": 1500.0, "nvml_mhz": 1500.0}, "clock", "NOTE", "even when paced"),
        ("state", {"throttle": ["sw_power_cap"]}, "power", "NOTE", "sw_power_cap"),
        ("state", {"throttle": ["hw_slowdown"]}, "power", "BAD", "hw_slowdown"),
        ("state", {"power_limit_w": 500.0}, "power", "NOTE", "below the usual 700 W"),
        ("state", {"foreign_processes": 2}, "neighbours", "BAD", "card: 2"),
        ("state", {"stays_loaded": False}, "persistence", "NOTE", "wakes it"),
        ("state", {"free_bytes": 4 << 30}, "memory", "BAD", "4.0 of 80.0 GiB free"),
    ],
)
def test_what_is_odd_is_said_with_its_cure(probe, changes, topic, level, said) -> None:
    found = findings(probe, **changes)

    assert [(topic, Level(level))] == odd(found)
    (finding,) = [each for each in found if (each.topic, each.level) == (topic, Level(level))]
    assert said in finding.text
    assert finding.cure
    assert (level != "BAD") == is_usable(found)


def test_without_nvml_the_unknown_is_not_called_good() -> None:
    found = findings("state", nvml=False, nvml_mhz=None, max_mhz=None, stays_loaded=None)

    assert [("driver data", Level.NOTE)] == odd(found)
    assert not {"power", "neighbours"} & {each.topic for each in found}


def test_what_the_driver_does_not_tell_is_unknown() -> None:
    found = findings("state", power_w=None, power_limit_w=None, temperature_c=None)

    assert "unknown; nothing limits the clocks" in [each.text for each in found]


def test_a_probe_that_failed_makes_a_machine_suspect() -> None:
    found = diagnose({"graphs": Answer(failure="no answer within 60 s")})

    assert [("graphs", Level.BAD)] == odd(found)
    assert "no answer within 60 s" in found[0].text


def test_a_probe_that_does_not_apply_says_nothing() -> None:
    assert () == diagnose({"card": Answer(), "state": Answer()})


def test_other_plugins_are_told_with_what_they_allow() -> None:
    found = findings("software", plugins={"pytest-xdist": "3.6"})

    assert [] == odd(found)
    assert any("one worker (-n 1)" in each.text for each in found)
