"""
The validation report: contests, the environment, the method, and figures of others beside ours.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from validation_text import cells, run, section

from pytest_kernelperf.analysis import contrast_inputs
from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.model import Discard, Independence
from pytest_kernelperf.report.validation import render

EARLIER: dict[str, Any] = {
    "name": "old report",
    "source": "a drawer",
    "protocol": "a stopwatch.",
    "per": "sequence",
    "times_us": {"128-8": {"50": 2.6, "95": 2.78}},
    "peers_us": {"ours": {"128-8": 2.5}, "sdpa": {"128-8": 2.0}},
}


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
