"""
Reasons, notes, update lines and the last line: their exact text.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_up import (
    BARE,
    CASE,
    EVERY,
    IMPROVED,
    INCOMPARABLE,
    INVALID,
    MISSED,
    PROVISIONAL,
    REGRESSED,
    SHOWN,
    UNCHANGED,
    UNMEASURED,
    UNSURE,
)

from pytest_kernelperf import report
from pytest_kernelperf.model import Change, Verdict


def rerun(verdict: Verdict) -> str:
    return f"pytest '{verdict.case.label}'"


@pytest.mark.parametrize(
    ("verdicts", "line"),
    [
        ([], "kernelperf: 0 judged"),
        ([UNCHANGED, IMPROVED, REGRESSED], "kernelperf: 3 judged"),
        (
            [UNCHANGED, BARE, INCOMPARABLE, INCOMPARABLE],
            "kernelperf: 1 judged, 3 NOT judged (2 INCOMPARABLE, 1 NO_BASELINE)",
        ),
        ([SHOWN, replace(BARE, judged=False)], "kernelperf: 0 judged"),
        (
            [UNMEASURED, INVALID, UNSURE],
            "kernelperf: 0 judged, 3 NOT judged (1 INCONCLUSIVE, 1 INVALID, 1 NOT_MEASURED)",
        ),
    ],
)
def test_the_last_line_counts_what_was_and_what_was_not_judged(
    verdicts: list[Verdict], line: str
) -> None:
    assert line == report.last_line(verdicts)


def test_the_last_line_counts_the_tests_that_failed_before_a_verdict() -> None:
    assert (
        "kernelperf: 1 judged, 2 tests failed without a verdict, 1 NOT judged (1 NO_BASELINE)"
    ) == report.last_line([UNCHANGED, BARE], failed=2)


def test_the_last_line_counts_the_tests_that_this_machine_could_not_run() -> None:
    assert (
        "kernelperf: 1 judged, 1 NOT judged (1 NO_BASELINE), "
        "9 tests skipped for what this machine lacks"
    ) == report.last_line([UNCHANGED, BARE], lacking=9)


@pytest.mark.parametrize(
    ("verdicts", "line"),
    [
        ([REGRESSED], "REGRESSED P50 [device] +5.00 % (margin 1.50 %): 3.168 µs, was 3.170 µs"),
        ([MISSED], "MISSED_TARGET P50 [device] 3.168 µs, target 3.000 µs"),
        (
            [replace(MISSED, per=2.0, target_us=1.0)],
            "MISSED_TARGET P50 [device] 1.584 µs per item, target 1.000 µs",
        ),
        ([INVALID], "INVALID P50 [device] (WRONG_OUTPUT)"),
        ([UNMEASURED], "NOT_MEASURED Nothing was measured."),
        (
            [replace(BARE, case=replace(CASE, name="bwd")), MISSED, MISSED],
            "NO_BASELINE P50 [device] (NO_BASELINE); bwd; and 2 more",
        ),
    ],
)
def test_a_headline_says_status_and_figure_without_the_tests_name(
    verdicts: list[Verdict], line: str
) -> None:
    assert line == report.headline(verdicts)


def test_a_reason_is_a_paragraph_with_code_sentence_and_command() -> None:
    expected = (
        "REGRESSED tests/test_a.py::test_backward [device] P50 (SLOWER_THAN_BASELINE)\n"
        "  P50 is slower.\n"
        "  rerun: pytest 'tests/test_a.py::test_backward'"
    )

    assert expected == report.reasons([REGRESSED], rerun=rerun)


def test_a_reason_that_is_the_status_is_not_said_twice() -> None:
    first_lines = [
        report.reasons([each], rerun=rerun).splitlines()[0] for each in (BARE, UNMEASURED)
    ]

    assert [
        "NO_BASELINE tests/test_a.py::test_backward [device] P50",
        "NOT_MEASURED tests/test_a.py::test_backward [device]",
    ] == first_lines


def test_good_and_shown_verdicts_need_no_reason() -> None:
    assert "" == report.reasons([UNCHANGED, IMPROVED, SHOWN], rerun=rerun)


def test_paragraphs_stand_apart_in_the_verdicts_order() -> None:
    text = report.reasons([UNSURE, UNCHANGED, REGRESSED], rerun=rerun)

    assert ["INCONCLUSIVE", "REGRESSED"] == [block.split()[0] for block in text.split("\n\n")]


def test_many_missing_baselines_are_told_once() -> None:
    bare = [replace(BARE, case=replace(CASE, test=f"test_{i}")) for i in range(5)]
    expected = (
        "NO_BASELINE 5 percentiles of 5 tests: tests/test_a.py::test_0, tests/test_a.py::test_1, "
        "tests/test_a.py::test_2 and 2 more\n"
        "  for example: P50 has no baseline."
    )

    assert expected == report.reasons(bare, rerun=rerun)
    assert 3 == report.reasons(bare[:3], rerun=rerun).count("rerun:")


def test_reservations_of_good_verdicts_are_told_once_for_all() -> None:
    other_card = replace(UNCHANGED, reason="OTHER_CARD")

    lines = report.reasons([PROVISIONAL, PROVISIONAL, other_card], rerun=rerun).splitlines()

    assert [
        "PROVISIONAL: 2 judged with a wide margin",
        "OTHER_CARD: 1 judged with a wider interval",
    ] == [line.split(",")[0] for line in lines]


def test_a_margin_below_the_noise_is_told_even_where_all_is_well() -> None:
    verdict = replace(UNCHANGED, sentence="P50 is fine. MARGIN_BELOW_NOISE: too small.")
    expected = "tests/test_a.py::test_forward[8-128] [device] P50 MARGIN_BELOW_NOISE: too small."

    assert expected == report.reasons([verdict], rerun=rerun)


def test_an_update_says_per_case_what_changed_and_why() -> None:
    changes = [
        Change(CASE, "added", "had no baseline", {}, {50.0: 3.2}),
        Change(CASE, "moved", "improved", {50.0: 4.0}, {50.0: 3.2}),
        Change(CASE, "kept", "unchanged", {50.0: 4.0}, {50.0: 4.2}),
        Change(CASE, "refused", "too slow", {}, {50.0: 4.2}),
        Change(CASE, "refused", "the test failed"),
    ]
    expected = (
        "added    tests/test_a.py::test_forward[8-128] [device cold]: P50 3.200 µs: "
        "had no baseline\n"
        "moved    tests/test_a.py::test_forward[8-128] [device cold]: "
        "P50 4.000 µs -> 3.200 µs (-20.00 %): improved\n"
        "kept     tests/test_a.py::test_forward[8-128] [device cold]: "
        "P50 4.000 µs, measured 4.200 µs (+5.00 %): unchanged\n"
        "refused  tests/test_a.py::test_forward[8-128] [device cold]: "
        "P50 measured 4.200 µs: too slow\n"
        "refused  tests/test_a.py::test_forward[8-128] [device cold]: the test failed"
    )

    assert expected == report.update_lines(changes)


def test_every_loud_verdict_names_its_reason() -> None:
    text = report.reasons(EVERY, rerun=rerun)

    assert all(
        each.reason in text
        for each in EVERY
        if each.judged and each.status.value not in ("UNCHANGED", "IMPROVED")
    )


def test_first_launches_are_told_with_the_burst_that_they_open(make) -> None:
    launch = make.recorded(case=make.case(timer="launch"), level_us=4.0)
    device = make.recorded()
    bare = replace(device, measurement=replace(device.measurement, processes=()))

    lines = report.first_launches([bare, launch]).splitlines()

    assert 1 == len(lines)
    assert "test_attention[8] [launch]: bursts of 100 launches; the first of each" in lines[0]
    assert lines[0].endswith("kept apart, took 4.199 µs at P50 (+4.97 %)")
