"""
The validation report: its figures are those of the records, and what is missing is said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_kernelperf.analysis import compare, contrast_inputs
from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.model import (
    Checks,
    Comparison,
    Discard,
    Independence,
    Limits,
    Measurement,
    Problem,
    Process,
    Recorded,
    Round,
)
from pytest_kernelperf.report.validation import render
from pytest_kernelperf.store.runs import Run

METHODS = {"device": "graph", "launch": "cupti", "wall": "event-sync"}
EARLIER: dict[str, Any] = {
    "name": "old report",
    "source": "a drawer",
    "protocol": "a stopwatch.",
    "per": "sequence",
    "times_us": {"128-8": {"50": 2.6, "95": 2.78}},
    "peers_us": {"ours": {"128-8": 2.5}, "sdpa": {"128-8": 2.0}},
}


def section(text: str, title: str) -> str:
    """
    Return what stands under a heading, down to the next one of its level or above.
    """
    mark = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    if mark is None:
        return ""
    rest = text[mark.end() :]
    following = re.search(rf"^#{{2,{len(mark[1])}}} ", rest, re.MULTILINE)
    return rest[: following.start()] if following else rest


def cells(text: str, title: str, number: int = 0) -> list[dict[str, str]]:
    """
    Return a table of a section: a dictionary of column title to cell for each row.
    """
    found = re.findall(r"(?:^\|.*\n?)+", section(text, title), re.MULTILINE)[number]
    titles, _, *body = (
        [cell.strip() for cell in line.strip()[1:-1].split("|")] for line in found.splitlines()
    )
    return [dict(zip(titles, row, strict=True)) for row in body]


def run(
    *records: Recorded | Comparison | Independence, name: str = "run.gz", complete: bool = True
) -> Run:
    recorded = tuple(each for each in records if isinstance(each, Recorded))
    compared = tuple(each for each in records if isinstance(each, Comparison))
    contrasted = tuple(each for each in records if isinstance(each, Independence))
    return Run(name, recorded, compared, complete, independences=contrasted)


@pytest.fixture
def record(make):
    """
    Return a function that builds the record of one process with the times that are given.
    """

    def build(
        times_us: Sequence[float] = (8.0,) * 10,
        *,
        timer: str = "device",
        test: str = "test_attention[128-8]",
        process: str = "p1",
        per: float = 1.0,
        target_us: float | None = None,
        evidence: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Recorded:
        taken = Round(times_us=tuple(times_us), **(evidence or {}))
        whose = Process(f"{process} {timer} {test}", "2026-09-01", make.environment(), (taken,))
        measurement = Measurement(
            make.case(test, timer), make.plan(timer), METHODS[timer], (whose,), **changes
        )
        targets = {} if target_us is None else {50.0: target_us}
        return Recorded(measurement, Limits((50.0,), targets, per), ())

    return build


@pytest.fixture
def contest(record):
    """
    Return a function that builds the record of a comparison of "ours" with "sdpa".
    """

    def build(
        ours_us: float = 4.0, sdpa_us: float = 8.0, *, process: str = "p1", differs: float = 0.002
    ) -> Comparison:
        found = {
            name: record((time_us,) * 20, process=process + name).measurement
            for name, time_us in (("ours", ours_us), ("sdpa", sdpa_us))
        }
        compared = compare("tests/t.py::test_attention[128-8]", found, "sdpa")
        ratios = (replace(compared.ratios[0], max_abs_difference=differs), compared.ratios[1])
        return replace(compared, ratios=ratios)

    return build


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


def test_a_comparison_of_one_process_has_its_interval(contest) -> None:
    text = render([run(contest())])

    times, ratios = cells(text, "Comparison"), cells(text, "Comparison", 1)
    assert ("4.000 µs", "8.000 µs") == (times[0]["ours"], times[0]["sdpa"])
    assert ratios[0]["ours over sdpa"].startswith("2.000x (1.9")
    assert "ours against sdpa, device: 2.00 to 2.00 times as fast" in section(text, "Summary")


def test_a_comparison_of_several_processes_has_their_range(contest) -> None:
    """
    The geometric mean of 2 and 8 is 4.
    """
    text = render([run(contest(4.0)), run(contest(1.0, process="p2"))])

    assert "4.000x (2.000…8.000)" == cells(text, "Comparison", 1)[0]["ours over sdpa"]


def test_the_largest_difference_between_callables_is_shown(contest) -> None:
    text = render([run(contest()), run(contest(process="p2", differs=0.004))])

    row = cells(text, "Correctness")[0]
    assert ["`test_attention[128-8]`", "ours", "sdpa", "0.004"] == list(row.values())


def test_callables_that_were_not_timed_alike_are_named(contest) -> None:
    compared = contest()
    slow = replace(compared.measurements["sdpa"], method="unblocked")
    mixed = replace(compared, measurements={**compared.measurements, "sdpa": slow})
    text = render([run(mixed)])

    assert "Not timed alike in `test_attention[128-8]`: ours by graph, sdpa by unblocked." in text
    assert "Not timed alike" not in render([run(compared)])


def test_a_comparison_without_ratios_is_named(contest) -> None:
    invalid = replace(contest(), ratios=())

    assert "a callable was INVALID" in section(render([run(invalid)]), "What was not measured")


def test_the_environment_is_that_of_the_processes(record) -> None:
    table = {row[""]: row for row in cells(render([run(record())]), "Environment")}
    card = "NVIDIA H100 80GB HBM3"

    expected = {
        "card": "GPU-1",
        "driver": "580.159.04",
        "torch": "2.11.0",
        "blocker": "wait-value",
        "clock step": "0.032 µs",
        "empty interval": "1.531 µs",
        "power limit, W": "700",
        "ECC": "on",
    }
    assert expected == {name: table[name][card] for name in expected}


def test_two_cards_of_one_model_are_both_named(record, make) -> None:
    other = record(process="p2")
    (process,) = other.measurement.processes
    process = replace(process, environment=make.environment("GPU-2"))
    other = replace(other, measurement=replace(other.measurement, processes=(process,)))
    table = {row[""]: row for row in cells(render([run(record()), run(other)]), "Environment")}

    assert "GPU-1, GPU-2" == table["card"]["NVIDIA H100 80GB HBM3"]


def test_two_models_have_rows_of_their_own(record, make) -> None:
    other = record((16.0,) * 10, process="p2")
    (process,) = other.measurement.processes
    process = replace(process, environment=make.environment("GPU-2", "NVIDIA A100"))
    other = replace(other, measurement=replace(other.measurement, processes=(process,)))
    text = render([run(record()), run(other)])

    assert ["8.000 µs", "16.00 µs"] == [
        cells(text, "Performance", number)[0]["device P50"] for number in (0, 1)
    ]
    assert "**NVIDIA A100**" in section(text, "Performance")


def test_the_method_says_how_each_timer_worked(record) -> None:
    evidence = {"slack_us": (40.0, -1.0, 90.0), "clock_mhz": (1980.0, 1975.0, 1980.0)}
    text = render([run(record(evidence=evidence), record(timer="wall"))])

    row = cells(text, "Method")[0]
    assert ("300", "2.000 ms", "2 of 3", "-1.000 µs", "1980") == (
        row["calls per sample"],
        row["idle gap"],
        row["held back"],
        row["least slack"],
        row["SM clock, MHz"],
    )
    assert "**device** (graph): the calls of a sample run from one CUDA graph" in text
    assert "**wall** (event-sync): event, call, event, synchronise" in text
    assert "**launch**" not in text


def test_what_disturbed_the_run_is_said(record) -> None:
    evidence = {
        "discarded": (Discard("CLOCK_FELL", 9.0, 1500.0),) * 3,
        "throttle": ("SW_POWER_CAP",),
        "foreign_processes": 1,
    }
    disturbed = record(evidence=evidence, notes=("timed in an odd way",))
    text = section(render([run(disturbed, complete=False)]), "What was not measured")

    for line in (
        "`run.gz` was cut off",
        "3 samples or bursts dropped for CLOCK_FELL, beside 10 samples kept.",
        "Clock limit SW_POWER_CAP was reported around 1 of 1 rounds",
        "Other processes computed on the card around 1 of 1 rounds.",
        "Note of `test_attention[128-8]` (device): timed in an odd way",
    ):
        assert line in text


def test_it_never_claims_what_was_not_measured(record) -> None:
    """
    The seed report asserted constant time and bandwidth shares that nobody had measured.
    """
    text = section(render([run(record())]), "What was not measured")

    assert "constant time" in text
    assert "bandwidth" in text
    assert "Whether anything became slower" in text


def test_earlier_figures_stand_beside_ours_with_what_they_measured(record, contest) -> None:
    text = render([run(record(per=8.0), contest())], beside=EARLIER)

    row = cells(text, "Performance")[0]
    assert ("1.000 µs", "2.6 µs", "2.78 µs", "-") == (
        row["device P50"],
        row["old report P50"],
        row["old report P95"],
        row["old report P99"],
    )
    assert "as printed in a drawer. What these figures measured: a stopwatch." in text
    assert "0.80x" == cells(text, "Comparison", 1)[0]["old report: ours over sdpa"]


def test_earlier_figures_of_other_tests_are_left_out(record, contest) -> None:
    text = render([run(record(test="test_attention[7]"))], beside=EARLIER)

    assert "old report" not in text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": ""}, "'name' is ''"),
        ({"protocol": None}, "'protocol' is None"),
        ({"times_us": [1]}, "'times_us' is [1]"),
        ({"times_us": {"128-8": 2.6}}, "'times_us.128-8' is 2.6"),
        ({"times_us": {"128-8": {"50": "2.6"}}}, "times_us.128-8.50 is '2.6'"),
        ({"times_us": {"128-8": {"50": float("nan")}}}, "times_us.128-8.50 is nan"),
        ({"times_us": {"128-8": {"50": True}}}, "times_us.128-8.50 is True"),
        ({"times_us": {"128-8": {"P50": 2.6}}}, "a key that is no percentile"),
        ({"peers_us": {"sdpa": {"128-8": 0}}}, "peers_us.sdpa.128-8 is 0"),
    ],
)
def test_earlier_figures_of_the_wrong_shape_are_refused(record, change: dict, told: str) -> None:
    with pytest.raises(OptionsError, match=re.escape(told)):
        render([run(record())], beside={**EARLIER, **change})


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


@pytest.fixture
def contrast(record):
    """
    Return a function that builds a `data_independence` record of two inputs.
    """

    def build(random_us: float = 8.0, *, bound: float = 0.05) -> Independence:
        found = {
            name: record((time_us,) * 20, process=name).measurement
            for name, time_us in (("zeros", 8.0), ("random", random_us))
        }
        return contrast_inputs("tests/t.py::test_data", found, {50.0: bound})

    return build


@pytest.mark.parametrize(
    ("random_us", "bound", "result"),
    [(8.0, 0.05, "independent"), (9.0, 0.05, "**dependent**"), (8.0, 0.001, "not shown")],
)
def test_whether_times_depend_on_the_data_is_a_result(contrast, random_us, bound, result) -> None:
    found = contrast(random_us, bound=bound)

    text = render([run(found)])

    (row,) = cells(text, "Time and data")
    assert (result, "zeros, random") == (row["result"], row["inputs"])
    assert f"{100 * found.supported(50.0):.2f} %" == row["supports"]
    assert f"1 {result}, of 1 percentiles tested." in section(text, "Summary")
    assert "constant time" not in section(text, "What was not measured")
    assert "no proof of constant-time" in section(text, "Time and data")
    card = found.measurements["zeros"].processes[0].environment.card
    assert f"* Measured on {card}." in section(text, "Time and data")
    assert card in section(text, "Environment")
    assert f"`{found.case.file}`" in text


def test_without_such_a_test_the_report_says_that_nothing_is_known(record) -> None:
    text = render([run(record())])

    assert "" == section(text, "Time and data")
    assert "Security properties" in section(text, "What was not measured")
