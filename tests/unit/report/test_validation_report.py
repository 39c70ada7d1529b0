"""
The validation report: its times are those of the records, and what is missing is said.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from validation_text import cells, run, section

from pytest_kernelperf.model import Checks, Problem, Recorded
from pytest_kernelperf.report.validation import render


def test_it_has_the_seed_reports_sections(record, contest) -> None:
    wall = record(range(1, 1001), timer="wall", target_us=5.0)
    text = render([run(wall, contest()), run(record((8.0,) * 9, timer="wall", process="p2"))])

    assert [
        "Summary",
        "Environment",
        "Performance",
        "Correctness",
        "Stability",
        "Comparison",
        "Speed against target",
        "Repeatability",
        "Method",
        "What was not measured",
    ] == re.findall(r"^## (.*)$", text, re.MULTILINE)


def test_times_are_per_item_and_per_call(record) -> None:
    text = render([run(record((16.0,) * 10, per=8.0))])

    assert "2.000 µs" == cells(text, "Performance")[0]["device P50"]
    assert "16.00 µs (16.00…16.00)" == cells(text, "Per call, with 95 % intervals")[0]["P50"]


def test_every_timer_has_its_percentiles(record) -> None:
    launches = [float(time_us) for time_us in range(1, 1001)]
    row = cells(render([run(record(), record(launches, timer="launch"))]), "Performance")[0]

    assert ["8.000 µs", "500.5 µs", "950.5 µs", "990.5 µs"] == [
        row[title] for title in ("device P50", "launch P50", "launch P95", "launch P99")
    ]
    assert "device P95" not in row


def test_stability_is_the_tail_over_the_median(record) -> None:
    launches = [float(time_us) for time_us in range(1, 1001)]
    row = cells(render([run(record(launches, timer="launch"))]), "Stability")[0]

    assert ("1.899", "1.979") == (row["launch P95/P50"], row["launch P99/P50"])


def test_a_percentile_without_enough_samples_is_not_shown_but_said(record) -> None:
    text = render([run(record((8.0,) * 100, timer="launch"))])

    row = cells(text, "Per call, with 95 % intervals")[0]
    assert ("8.000 µs (8.000…8.000)", "-") == (row["P95"], row["P99"])
    assert "launch P99" not in cells(text, "Performance")[0]
    missing = "P99, launch, of `test_attention[128-8]`: 100 samples, and an interval takes 368."
    assert missing in section(text, "What was not measured")


def test_a_timer_that_was_not_asked_for_is_named(record) -> None:
    other = record(test="test_attention[512-8]", timer="wall")
    text = section(render([run(record(), other)]), "What was not measured")

    assert "Timer launch: not asked for in any test." in text
    assert "Timer device: not asked for in `test_attention[512-8]`." in text


@pytest.mark.parametrize(("target_us", "result"), [(9.1, "met"), (5.0, "unsure"), (0.5, "missed")])
def test_targets_are_judged_by_the_interval_per_item(record, target_us: float, result: str) -> None:
    times_us = [8.0 * time_us for time_us in range(1, 10)]
    text = render([run(record(times_us, per=8.0, target_us=target_us))])

    assert result == cells(text, "Targets")[0]["result"]
    assert f"Targets: 1 {result}, of 1." in section(text, "Summary")


def test_speed_against_target_is_target_over_time(record) -> None:
    asked = record((8.0,) * 10, per=8.0, target_us=5.0)
    other = record((80.0,) * 10, timer="wall", per=8.0)
    text = render([run(asked, other)])

    row = cells(text, "Speed against target")[0]
    assert ("P50 5.000 µs", "5.00x", "0.50x") == (
        row["target per item"],
        row["device"],
        row["wall"],
    )
    assert "become 5.0 times as slow" in section(text, "Speed against target")


def test_a_tight_target_is_not_called_loose(record) -> None:
    text = render([run(record((8.0,) * 10, target_us=9.0))])

    assert "times as slow" not in text


def test_runs_are_pooled_process_by_process(record) -> None:
    """
    The geometric mean of 8 and 18 is 12; their spread is 125 %.
    """
    runs = [run(record((8.0,) * 10)), run(record((18.0,) * 10, process="p2"))]
    text = render(runs)

    row = cells(text, "Per call, with 95 % intervals")[0]
    assert ("12.00 µs (8.000…18.00)", "2", "20") == (row["P50"], row["processes"], row["samples"])
    spread = cells(text, "Repeatability")[0]
    assert ("8.000 µs", "18.00 µs", "125.00 %") == (
        spread["lowest P50"],
        spread["highest P50"],
        spread["spread"],
    )
    assert "each in 2 processes" in section(text, "Summary")


def test_a_run_given_twice_counts_once(record, contest) -> None:
    once = run(record(checks=Checks(outputs_checked=5)), contest())
    twice = render([once, once])

    assert "1" == cells(twice, "Per call, with 95 % intervals")[0]["processes"]
    assert "5" == cells(twice, "Correctness")[0]["outputs"]
    assert "" == section(twice, "Repeatability")
    assert "over the rounds of one process" in section(twice, "Comparison")


def test_a_process_that_measured_twice_counts_once(record) -> None:
    def by(name: str) -> Recorded:
        found = record()
        (process,) = found.measurement.processes
        again = replace(found.measurement, processes=(replace(process, id=name),))
        return replace(found, measurement=again)

    one, other = "a" * 16, "b" * 16
    text = render([run(by(one + one), by(one + other), by(other + other))])

    assert "2" == cells(text, "Per call, with 95 % intervals")[0]["processes"]


def test_another_plan_is_not_pooled_but_named(record, make) -> None:
    usual = [record(process=name) for name in ("p1", "p2")]
    odd = record((90.0,) * 10, process="p3")
    plan = replace(make.plan(), calls_per_sample=7)
    odd = replace(odd, measurement=replace(odd.measurement, plan=plan))
    text = render([run(each) for each in (odd, *usual)])

    assert "8.000 µs" == cells(text, "Performance")[0]["device P50"]
    assert "1 processes of `tests/perf/test_attention.py::test_attention[128-8]`" in section(
        text, "What was not measured"
    )


def test_fewer_samples_are_the_same_plan(record, make) -> None:
    short = record((18.0,) * 10, process="p2")
    plan = replace(make.plan(), samples=3, rounds=1)
    short = replace(short, measurement=replace(short.measurement, plan=plan))
    text = render([run(record((8.0,) * 10)), run(short)])

    assert "12.00 µs" == cells(text, "Performance")[0]["device P50"]


@pytest.mark.parametrize("failure", ["problem", "body"])
def test_a_kernel_that_was_wrong_has_no_times(record, failure: str) -> None:
    bad = record(test="test_bad[1]")
    if failure == "problem":
        problem = Problem("WRONG_OUTPUT", "it is wrong")
        bad = replace(bad, measurement=replace(bad.measurement, problem=problem))
    else:
        bad = replace(bad, body_passed=False)
    text = render([run(record(), bad)])

    told = {"problem": "INVALID (WRONG_OUTPUT): it is wrong", "body": "its own test failed"}
    assert told[failure] in section(text, "Correctness")
    assert "1 measurements were INVALID or of a test that failed" in section(text, "Summary")
    assert "test_bad" not in section(text, "Performance")


def test_checks_are_added_over_timers_and_processes(record) -> None:
    checks = [Checks(15, 0.25, 10, 40), Checks(5, 0.5, 1, 2), Checks(1, None, 1, 1)]
    records = [
        record(checks=checks[0]),
        record(timer="wall", checks=checks[1]),
        record(process="p2", checks=checks[2]),
    ]
    row = cells(render([run(*records)]), "Correctness")[0]

    assert ["passed", "21", "0.5", "12", "43"] == list(row.values())[1:]


def test_an_empty_run_says_so(record) -> None:
    assert "no measurement of a kernel that was right" in section(render([run()]), "Summary")


def test_a_process_that_kept_no_sample_is_no_crash(record) -> None:
    text = render([run(record(())), run(record(process="p2"))])

    assert "1" == cells(text, "Per call, with 95 % intervals")[0]["processes"]


def test_a_run_is_named_without_its_folder(record) -> None:
    assert "/home" not in render([run(record(), name="/home/somebody/run.gz")])


def test_a_bar_in_a_name_does_not_break_the_table(record) -> None:
    text = render([run(record(test="test_x[a|b]"))])

    assert "`test_x[a\\|b]`" in section(text, "Performance")


def test_the_same_runs_give_the_same_text(record, contest) -> None:
    runs = [run(record(), contest()), run(record(process="p2"), contest(process="p2"))]

    assert render(runs) == render(runs)
