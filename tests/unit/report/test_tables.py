"""
Terminal tables: their exact text, and what a narrow terminal keeps.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from made_up import BARE, CASE, EVERY, PROVISIONAL, REGRESSED, SHOWN, UNCHANGED, VERDICTS

from pytest_kernelperf import report
from pytest_kernelperf.model import (
    Entry,
    Environment,
    Gpu,
    Plan,
    Process,
    Reference,
    Round,
    Status,
)
from pytest_kernelperf.report.layout import fold

FOUR = (UNCHANGED, PROVISIONAL, SHOWN, REGRESSED)


def text(block: str) -> str:
    """
    Return a block of lines without the empty ones around it.
    """
    return block.strip("\n")


def test_a_wide_terminal_shows_everything() -> None:
    expected = """
tests/test_a.py
test                 timer        pct                          time  baseline                 change  margin    finds           target  verdict
─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
test_forward[8-128]  device cold  P50        3.168 µs (3.160…3.176)  3.170 µs  -0.06 % (-0.50…+0.41)  1.50 %  +2.31 %                -  UNCHANGED
                     launch cold  P50        3.168 µs (3.160…3.176)  3.170 µs  -0.06 % (-0.50…+0.41)  1.50 %  +2.31 %                -  UNCHANGED PROVISIONAL
                                  P99  1.234 ms (990.0 µs…1.300 ms)  3.170 µs  -0.06 % (-0.50…+0.41)  1.50 %  +2.31 %                -  not judged
test_backward        device cold  P50        3.168 µs (3.160…3.176)  3.170 µs  +5.00 % (+4.00…+6.00)  1.50 %  +2.31 %  5.000 µs missed  REGRESSED
"""  # noqa: E501

    assert text(expected) == report.table(FOUR, width=160, color=False)


def test_a_first_run_spends_no_columns_on_a_baseline_that_is_not_there() -> None:
    first = replace(BARE, case=UNCHANGED.case, time_us=3.168, interval_us=UNCHANGED.interval_us)
    expected = """
tests/test_a.py
test                 timer        pct                    time  verdict
──────────────────────────────────────────────────────────────────────────
test_forward[8-128]  device cold  P50  3.168 µs (3.160…3.176)  NO_BASELINE
"""

    assert text(expected) == report.table([first], width=80, color=False)


def test_a_hundred_columns_keep_the_interval_and_the_margin_that_decide() -> None:
    expected = """
tests/test_a.py
test                 timer   pct      time                 change  margin  verdict
────────────────────────────────────────────────────────────────────────────────────────────────
test_forward[8-128]  device  P50  3.168 µs  -0.06 % (-0.50…+0.41)  1.50 %  UNCHANGED
                     launch  P50  3.168 µs  -0.06 % (-0.50…+0.41)  1.50 %  UNCHANGED PROVISIONAL
                             P99  1.234 ms  -0.06 % (-0.50…+0.41)  1.50 %  not judged
test_backward        device  P50  3.168 µs  +5.00 % (+4.00…+6.00)  1.50 %  REGRESSED
"""

    assert text(expected) == report.table(FOUR, width=100, color=False)


def test_eighty_columns_keep_time_and_change() -> None:
    expected = """
tests/test_a.py
test                 timer   pct      time   change  verdict
──────────────────────────────────────────────────────────────────────────
test_forward[8-128]  device  P50  3.168 µs  -0.06 %  UNCHANGED
                     launch  P50  3.168 µs  -0.06 %  UNCHANGED PROVISIONAL
                             P99  1.234 ms  -0.06 %  not judged
test_backward        device  P50  3.168 µs  +5.00 %  REGRESSED
"""

    assert text(expected) == report.table(FOUR, width=80, color=False)


def test_forty_columns_fold_names_and_keep_verdicts() -> None:
    expected = """
tests/test_a.py
test           pct  verdict
─────────────────────────────────────────
test_forward   P50  UNCHANGED
  [8-128]      P50  UNCHANGED PROVISIONAL
               P99  not judged
test_backward  P50  REGRESSED
"""

    assert text(expected) == report.table(FOUR, width=40, color=False)


def test_a_name_too_long_for_one_line_is_broken_where_a_reader_would() -> None:
    assert ["test_forward[8-128]"] == fold("test_forward[8-128]", 19)
    assert ["test_forward", "  [8-128]"] == fold("test_forward[8-128]", 18)
    assert ["test_", "  forward", "  [8-", "  128]"] == fold("test_forward[8-128]", 8)
    assert ["withoutanyplacetobreak"] == fold("withoutanyplacetobreak", 9)


@pytest.mark.parametrize("width", range(20, 200, 7))
def test_no_width_cuts_a_verdict_or_a_number(width: int) -> None:
    shown = report.table(EVERY, width=width, color=False)

    assert all(f" {verdict.status.value}" in shown for verdict in EVERY if verdict.judged)
    assert "…\n" not in shown
    assert " UNCHANGED PROVISIONAL\n" in shown


def test_a_table_is_no_wider_than_the_terminal() -> None:
    for width in range(50, 200):
        shown = report.table(EVERY, width=width, color=False)
        assert max(map(len, shown.splitlines())) <= width


def test_without_colours_there_are_no_escape_codes() -> None:
    assert "\x1b" not in report.table(EVERY, width=120, color=False)


def test_colours_change_nothing_but_colours() -> None:
    plain = report.table(EVERY, width=120, color=False)
    coloured = report.table(EVERY, width=120, color=True)

    bare = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert plain == "\n".join(line.rstrip() for line in bare.splitlines())
    assert "\x1b[1;31m" in coloured


def test_terminal_variables_of_the_environment_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A CI sets them as it likes; who calls decides on colours and width."""
    before = report.table(FOUR, width=120, color=False)
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", "30"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)

    assert before == report.table(FOUR, width=120, color=False)


def test_square_brackets_of_parameters_are_no_markup() -> None:
    verdict = replace(UNCHANGED, case=replace(CASE, test="test_x[red]"))

    assert "test_x[red]" in report.table([verdict], width=120, color=False)


def test_verdicts_of_several_files_carry_the_file() -> None:
    other = replace(UNCHANGED, case=replace(CASE, file="tests/test_b.py"))

    shown = report.table([UNCHANGED, other], width=160, color=False)

    assert "tests/test_a.py::test_forward[8-128]" in shown
    assert "tests/test_b.py::test_forward[8-128]" in shown


def test_a_named_measurement_is_shown_with_its_name() -> None:
    named = replace(UNCHANGED, case=replace(CASE, name="bwd"))

    shown = report.table([UNCHANGED, named], width=160, color=False)

    assert "test_forward[8-128] bwd  device cold" in shown


@pytest.mark.parametrize(("met", "word"), [(True, "met"), (False, "missed"), (None, "unsure")])
def test_targets_say_whether_they_are_met(met: bool | None, word: str) -> None:
    verdict = replace(UNCHANGED, target_us=5.0, target_met=met)

    assert f"5.000 µs {word}" in report.table([verdict], width=160, color=False)


def test_nothing_measured_is_no_table() -> None:
    assert "" == report.table([], width=80, color=False)


def test_a_baseline_file_is_shown_by_entry_and_percentile() -> None:
    gpu = Gpu("H100", "GPU-1", 132, "9.0", 1, 1)
    processes = tuple(
        Process(
            str(day),
            f"2026-09-0{day}T10:00:00Z",
            Environment(replace(gpu, uuid=f"GPU-{day % 2}"), ""),
            (Round((4.0, 9.0, 9.0)),),
            commit="0123456789abc",
        )
        for day in (1, 2, 3)
    )
    plan = Plan(1, 100, 2000.0, 3, 1, 1)
    reference = Reference(plan, "cupti", (), processes, margins={50.0: 0.02, 99.0: 0.1})
    expected = """
tests/test_a.py on nvidia-h100
test    timer              pct      time   margin     processes  recorded
─────────────────────────────────────────────────────────────────────────────────────
test_x  launch cold paced  P50  9.000 µs   2.00 %  3 on 2 cards  2026-09-03 012345678
                           P99  9.000 µs  10.00 %
"""

    shown = report.baseline_table(
        "nvidia-h100",
        "tests/test_a.py",
        {"test_x | launch cold paced": Entry(reference)},
        width=100,
        color=False,
    )

    assert text(expected) == shown


def test_every_status_has_a_style_or_is_unsure() -> None:
    """A new status must be thought about."""
    assert {verdict.status for verdict in EVERY} == set(Status)
    assert len(VERDICTS) < len(EVERY)
