"""
The JSON document: complete, stable, and of one mind with the terminal.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from made_up import BARE, CASE, EVERY, REGRESSED, SHOWN, UNCHANGED, UNMEASURED

from pytest_kernelperf import report
from pytest_kernelperf.model import (
    Comparison,
    Discard,
    Environment,
    Gpu,
    Interval,
    Kernel,
    Limits,
    Measurement,
    Plan,
    Problem,
    Process,
    Ratio,
    Recorded,
    Round,
    Verdict,
)

HERE = Environment(Gpu("H100", "GPU-1", 132, "9.0", 1, 1), "Xeon", {"torch": "2.11"}, 0.032)
ROUND = Round(
    (3.0, 3.1),
    (Discard("CLOCK_FELL", 4.0, 1500.0),),
    throttle=("sw_power_cap",),
    foreign_processes=1,
)


def recorded(*verdicts: Verdict, problem: Problem | None = None) -> Recorded:
    process = Process("p", "2026-09-01T10:00:00Z", HERE, (ROUND, ROUND), "abc")
    measurement = Measurement(
        CASE, Plan(300, 300, 2000.0, 2, 2, 4), "graph", (process,), (Kernel("k"),), problem=problem
    )
    return Recorded(measurement, Limits(), verdicts)


def document(*records: Recorded, failed: bool = False, **rest: Any) -> dict[str, Any]:
    loaded = json.loads(report.run_json(records, rest.pop("comparisons", ()), failed, **rest))
    assert isinstance(loaded, dict)
    return loaded


def test_the_schema_version_comes_first() -> None:
    text = report.run_json([], [], False)

    assert text.startswith('{\n "schema_version": 1,\n')
    assert text.endswith("}\n")


def test_a_verdict_has_all_its_numbers() -> None:
    (measurement,) = document(recorded(REGRESSED))["measurements"]

    assert [
        {
            "percentile": 50.0,
            "status": "REGRESSED",
            "judged": True,
            "reason": "SLOWER_THAN_BASELINE",
            "sentence": "P50 is slower.",
            "time_us": 3.168,
            "interval_us": [3.16, 3.176],
            "baseline_us": 3.17,
            "change": 0.05,
            "change_interval": [0.04, 0.06],
            "margin": 0.015,
            "detectable": 0.0231,
            "target_us": 5.0,
            "per": 1.0,
            "target_met": False,
            "roofline": None,
        }
    ] == measurement["verdicts"]


def test_a_measurement_says_what_was_measured_and_how() -> None:
    (measurement,) = document(recorded(UNCHANGED))["measurements"]

    assert "test_forward[8-128] | device cold paced" == measurement["key"]
    assert ("graph", 300) == (measurement["method"], measurement["plan"]["calls_per_sample"])
    assert [
        {
            "id": "p",
            "started": "2026-09-01T10:00:00Z",
            "commit": "abc",
            "environment": 0,
            "rounds": 2,
            "samples": 4,
            "first_launches": None,
            "discarded": {"CLOCK_FELL": 2},
            "throttle": ["sw_power_cap"],
            "foreign_processes": 1,
        }
    ] == measurement["processes"]


def test_environments_are_listed_once() -> None:
    found = document(recorded(UNCHANGED), recorded(BARE))["environments"]

    assert ["GPU-1"] == [each["gpu"]["uuid"] for each in found]
    assert "2.11" == found[0]["versions"]["torch"]


def test_a_problem_is_told() -> None:
    (measurement,) = document(recorded(problem=Problem("WRONG_OUTPUT", "wrong")))["measurements"]

    assert {"code": "WRONG_OUTPUT", "message": "wrong"} == measurement["problem"]


def test_counts_agree_with_the_last_line() -> None:
    found = document(recorded(UNCHANGED, SHOWN, REGRESSED, BARE), unmeasured=[UNMEASURED])

    assert {
        "judged": 2,
        "not_judged": 2,
        "statuses": {"NOT_MEASURED": 1, "NO_BASELINE": 1, "REGRESSED": 1, "UNCHANGED": 1},
    } == found["counts"]
    assert report.last_line([UNCHANGED, SHOWN, REGRESSED, BARE, UNMEASURED]).startswith(
        "kernelperf: 2 judged, 2 NOT judged"
    )
    assert ["NOT_MEASURED"] == [each["status"] for each in found["unmeasured"]]


def test_the_terminal_shows_the_same_statuses() -> None:
    (measurement,) = document(recorded(*EVERY))["measurements"]
    table = report.table(EVERY, width=200, color=False).splitlines()[3:]

    statuses = [each["status"] for each in measurement["verdicts"]]

    assert len(EVERY) == len(table)
    assert all(status in row for status, row in zip(statuses, table, strict=True))


def test_whether_the_run_failed_is_told() -> None:
    assert [False, True] == [document(failed=failed)["exit_failed"] for failed in (False, True)]


def test_comparisons_are_listed() -> None:
    comparison = Comparison("x", "a", (Ratio("b", 4.0, 1.25, Interval(1.2, 1.3), 0.002),))

    assert [
        {
            "label": "x",
            "reference": "a",
            "timer": None,
            "plan": None,
            "problem": None,
            "ratios": [
                {
                    "name": "b",
                    "time_us": 4.0,
                    "speedup": 1.25,
                    "speedup_interval": [1.2, 1.3],
                    "max_abs_difference": 0.002,
                    "standing": "unsure",
                    "min_speedup": None,
                    "verdict": None,
                }
            ],
        }
    ] == document(comparisons=[comparison])["comparisons"]


def test_the_same_run_gives_the_same_text() -> None:
    first, second = (report.run_json([recorded(*EVERY)], [], True) for _ in range(2))

    assert first == second


def test_first_launches_are_counted_and_told_apart(make) -> None:
    launched = make.recorded(case=make.case(timer="launch"), level_us=4.0)

    (measurement,) = json.loads(report.run_json([launched], [], False))["measurements"]

    assert {"bursts": 5, "p50_us": pytest.approx(4.2, rel=0.01)} == measurement["processes"][0][
        "first_launches"
    ]
    assert 100 == measurement["plan"]["burst"]
