"""The benchmark behind the attention table: what it asks, what it says, and how it is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def _line(ratio, low, high, must=1.05, shape="128x8 H8 D64", against="CUDNN"):
    from attention_lines import Line

    times = {"flashcore": 4.0, against: 4.0 * ratio}
    floor = {"bytes": 2.0, "products": 1.0}
    return Line("nine", shape, against, 4.0, ratio, low, high, must, times, floor)


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ((1.2, 1.1, 1.3), "ok"),
        ((1.06, 1.0, 1.1), "ok?"),
        ((1.04, 1.0, 1.1), "MISSED?"),
        ((1.0, 0.9, 1.04), "MISSED"),
        ((0.9, None, None), "MISSED"),
        ((0.9, 0.8, 0.95, None), ""),
    ],
)
def test_an_interval_around_the_limit_is_said(line, verdict):
    assert verdict == _line(*line).verdict


def test_the_resource_that_binds_is_named():
    line = _line(1.2, 1.1, 1.3)

    assert (line.floor_share, line.bound_by) == (0.5, "bytes")


def test_a_slice_is_summed_up_by_its_mean_and_what_it_misses():
    from attention_table import summary

    other = _line(1.44, 1.4, 1.5, shape="128x16 H8 D64")
    lines = [_line(1.0, 0.9, 1.01), other, _line(0.5, None, None, None)]
    found = summary("nine", lines)

    assert found["mean"] == pytest.approx(1.2)  # without the one that was not measured here
    assert found["least"] == 1.0
    assert found["missed"] == ["128x8 H8 D64 against CUDNN", "geometric mean 1.200, must 1.25"]


def test_a_mean_takes_of_each_shape_the_peer_that_comes_closest():
    from attention_report import mean
    from attention_table import _record, summary

    lines = [
        _line(1.6, 1.6, 1.6),
        _line(1.2, 1.2, 1.2, against="FA4"),
        _line(1.2, 1.2, 1.2, shape="512x32 H8 D64"),
        _line(1.5, 1.5, 1.5, shape="512x32 H8 D64", against="FA4"),
    ]
    found = summary("nine", lines)

    assert (found["mean"], found["least"]) == (pytest.approx(1.2), 1.2)
    assert found["missed"] == ["geometric mean 1.200, must 1.25"]
    document = {"slice": "nine", "lines": [_record(line) for line in lines], "summary": found}
    expected = "1.200 [1.200, 1.200] (must 1.25: MISSED), against SDPA 1.386 [1.386, 1.386], "
    assert mean(document) == expected + "against FA4 1.342 [1.342, 1.342]"


def test_flash_attn_4_has_a_line_and_a_limit_of_its_own(monkeypatch):
    """SDPA's best backend is asked for 1.0, flash-attn-4 for 0.92; all are measured together."""
    import attention_table
    from attention_lines import Bench

    asked = []
    monkeypatch.setattr(Bench, "lines", lambda *args, **_: asked.append(args[1:]) or ["", ""])
    monkeypatch.setattr(attention_table, "tensors", lambda *_: ())
    monkeypatch.setattr(
        attention_table, "peers", lambda *_: dict.fromkeys(("sdpa", "CUDNN", "FA4"))
    )
    measure = next(iter(attention_table.SLICES["long"](Bench("cuda", 5, 4))))

    assert measure() == ["", ""]
    ((label, shape, subjects, musts),) = asked
    assert (label, shape) == ("long", "1024x16 H32 D64")
    assert set(subjects) == {"flashcore", "sdpa", "CUDNN", "FA4"}
    assert musts == [(["sdpa", "CUDNN"], 1.0), (["FA4"], 0.92)]


def test_where_flash_attn_4_is_not_installed_its_figures_elsewhere_stand_beside_ours(monkeypatch):
    import attention_table
    from attention_lines import Bench
    from attention_peers import FA4_ELSEWHERE_US

    monkeypatch.setattr(Bench, "lines", lambda *_, **__: [_line(1.1, 1.0, 1.2)])
    monkeypatch.setattr(attention_table, "tensors", lambda *_: ())
    monkeypatch.setattr(attention_table, "peers", lambda *_: {"sdpa": None})
    measures = attention_table.SLICES["long"](Bench("cuda", 5, 4))
    elsewhere_us = FA4_ELSEWHERE_US[4096, 64, False]
    place = [shape.name for shape in attention_table.long(64)].index("4096x4 H32 D64")

    measured, elsewhere = list(measures)[place]()

    assert measured.against == "CUDNN"
    assert (elsewhere.against, elsewhere.must, elsewhere.low) == ("FA4 elsewhere", 0.92, None)
    assert elsewhere.ratio == elsewhere_us / measured.ours_us


def test_each_group_of_peers_has_a_line_against_its_fastest(monkeypatch):
    from attention_lines import Bench

    times = {"flashcore": 4.0, "sdpa": 6.0, "CUDNN": 5.0, "FA4": 4.4}

    def compare(shape, found, baseline):
        speedups = {name: times[baseline] / time for name, time in times.items()}
        return SimpleNamespace(
            ratios=[
                SimpleNamespace(
                    name=name,
                    time_us=times[name],
                    speedup=speedup,
                    speedup_interval=SimpleNamespace(low=speedup - 0.1, high=speedup + 0.1),
                )
                for name, speedup in speedups.items()
            ]
        )

    monkeypatch.setattr("pytest_kernelperf.analysis.compare", compare)
    monkeypatch.setattr(Bench, "measured", lambda *_: {})

    groups = [(["sdpa", "CUDNN"], 1.05), (["FA4"], 1.2)]
    sdpa, fa4 = Bench("cuda", 5, 4).lines("nine", "128x8", {}, groups)

    assert (sdpa.against, sdpa.ratio, sdpa.verdict) == ("CUDNN", 1.25, "ok")
    assert (fa4.against, fa4.ratio, fa4.verdict) == ("FA4", pytest.approx(1.1), "MISSED?")


def test_a_line_that_fails_is_named_and_the_others_are_measured(monkeypatch, capsys):
    import attention_table

    def lines(bench):
        yield lambda: 1 / 0
        yield lambda: [_line(1.2, 1.1, 1.3)]

    monkeypatch.setitem(attention_table.SLICES, "nine", lines)
    found = attention_table.run("nine", None, float("inf"))

    assert found["failed"] == ["ZeroDivisionError: division by zero"]
    assert [line["ratio"] for line in found["lines"]] == [1.2]
    assert "x1.200 [1.100, 1.300]   CUDNN" in capsys.readouterr().out


def test_the_report_takes_every_figure_from_the_measurement(monkeypatch, tmp_path, capsys):
    import attention_report
    import attention_table

    line = attention_table._record(_line(1.2, 1.1, 1.3))
    document = {
        "machine": {"card": "H100", "torch": "2.11", "uuid": "1e602613-5332"},
        "ceilings": {
            "copy_bytes_per_us": 2.5e6,
            "matmul_flops_per_us": 7e8,
            "exponentials_per_us": 4.18e6,
        },
        "slice": "nine",
        "seconds": 31.4,
        "summary": {"mean": 1.2, "least": 1.2, "missed": []},
        "failed": ["ValueError: no"],
        "lines": [line, line | {"low": None, "high": None}],
    }
    file = tmp_path / "table.json"
    attention_table.add(file, document | {"seconds": 7.0})
    attention_table.add(file, document)
    monkeypatch.setattr(sys, "argv", ["attention_report.py", str(file)])

    attention_report.main()

    text = capsys.readouterr().out
    assert "* card H100, torch 2.11" in text
    ceilings = "copies 2500 GB/s, multiplies 700 TFLOP/s, 4.18 T exponentials/s"
    assert f"* nine: 31 s; {ceilings}; card GPU-1e602613" in text
    row = "| 128x8 H8 D64 | 4.000 | CUDNN 4.800 | 1.200 [1.100, 1.300] | 1.05 | ok | 50% (bytes) |"
    assert row in text
    mean = "Geometric mean 1.200 [1.104, 1.305] (must 1.25: MISSED?), least 1.200. Missed: nothing."
    assert mean in text
    assert "Not measured: ValueError: no" in text


def test_what_changed_since_a_slice_was_measured_stands_under_its_title_until_it_is_measured_again(
    tmp_path,
):
    import attention_report
    import attention_table

    file = tmp_path / "table.json"
    measured = {"slice": "causal", "lines": [], "summary": None, "failed": []}
    told = measured | {"since": "The mask has changed since."}

    assert list(attention_report.table(told))[:3] == [
        f"## {attention_report.TITLES['causal']}", "", "The mask has changed since."
    ]  # fmt: skip

    attention_table.add(file, told)
    attention_table.add(file, measured)
    (document,) = json.loads(file.read_text(encoding="utf-8")).values()
    assert "The mask has changed since." not in attention_report.table(document)


def test_the_table_that_is_shown_is_the_report_of_the_figures_beside_it():
    import attention_report

    docs = Path(__file__).parents[2] / "docs"
    slices = json.loads((docs / "data" / "attention_table.json").read_text(encoding="utf-8"))

    shown = (docs / "attention-table.md").read_text(encoding="utf-8")
    assert attention_report.report(list(slices.values())) == shown


def test_rounds_that_stayed_disturbed_are_told_under_their_slice():
    import attention_report
    import attention_table

    def noted(shape, note):
        line = attention_table._record(_line(1.2, 1.1, 1.3, shape=shape))
        return line | {"notes": [f"{name}: {note}" for name in ("flashcore", "CUDNN")]}

    again = "a limit: 3 of 5 rounds were taken again, {} stay disturbed"
    lines = [noted("1x1", again.format(1)), noted("2x1", again.format(0)), noted("3x1", "odd")]
    document = {"slice": "long", "lines": lines, "summary": None, "failed": []}

    told = "At 1 of 3 shapes rounds stayed disturbed, alike for all: a limit."
    assert list(attention_report.outcome(document)) == [told, ""]


def test_to_ask_the_report_for_help_is_no_mistake(monkeypatch, capsys):
    import attention_report

    monkeypatch.setattr(sys, "argv", ["attention_report.py", "--help"])

    with pytest.raises(SystemExit) as ended:
        attention_report.main()

    assert not ended.value.code
    assert "usage: attention_report.py [-h] FILE" in capsys.readouterr().out


def test_every_slice_has_a_title_and_every_shape_its_limit():
    """All that the table was asked for, counted."""
    from attention_lines import Bench
    from attention_report import TITLES
    from attention_table import SLICES

    bench = Bench("cuda", 5, 4)
    counted = {name: len(list(lines(bench))) for name, lines in SLICES.items()}

    assert list(TITLES) == list(SLICES)
    assert counted == {
        "nine": 9, "bf16": 9, "causal": 9, "long": 10, "d128": 10, "ragged": 10, "grouped": 9,
        "lone": 5, "decode": 22,
    }  # fmt: skip
