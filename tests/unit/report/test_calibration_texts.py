"""
What a calibration looks like as text, picture and JSON.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_up import CASE, OTHER
from proofs import case_proof, proof

from pytest_kernelperf.analysis.proof import Injected
from pytest_kernelperf.analysis.rates import Rate
from pytest_kernelperf.model import Interval
from pytest_kernelperf.report.calibration import (
    calibration_json,
    calibration_line,
    calibration_plot,
    calibration_sentences,
    calibration_table,
)
from pytest_kernelperf.report.calibration_plot import can_draw, detection_svg

QUIET = case_proof(
    case=CASE,
    card="GPU-212906ca-1",
    processes=300,
    statuses={"UNCHANGED": 298, "INCONCLUSIVE": 2},
    disjoint=50,
    covered=Rate(285, 300),
    injected=(Injected(0.02, "extra bytes", 0.0203, Rate(59, 60)),),
)
LOUD = replace(
    QUIET,
    case=OTHER,
    detectable=None,
    statuses={"REGRESSED": 1, "UNCHANGED": 5},
    covered=Rate(5, 6),
    injected=(),
)
PROOF = proof(QUIET)


def test_the_line_under_a_table_says_how_often_the_gate_is_wrong():
    assert (
        "nvidia-h100 was calibrated on 2026-11-22 (1 card): false alarms at most 1 in 100 "
        "(0 of 300); +2 % found in 59 of 60" == calibration_line("nvidia-h100", PROOF)
    )


def test_sentences_carry_their_confidence_limits():
    text = calibration_sentences(replace(PROOF, left_out=("test_y: too few",)))

    assert "0 of 300 unchanged candidates REGRESSED; false alarms at most 1 in 100" in text
    assert "50 comparisons share none" in text
    assert "INCONCLUSIVE after all looks: 2 of 300 (0.67 %)" in text
    assert "+2 % found: 59 of 60 (98.33 %), at least 92.34 % with 95 % confidence" in text
    assert "noise of device cold paced P50 (1 case): 0.24 % between processes, 0.28 %" in text
    assert "left out: test_y: too few" in text


def test_sentences_tell_slowdowns_that_are_smaller_or_larger_than_asked_for():
    small = Injected(0.02, "extra bytes", 0.02, Rate(40, 60), 0.017, Interval(0.016, 0.018))
    none = Injected(0.02, "extra bytes", 0.02, Rate(0, 60), -0.003, Interval(-0.01, 0.004))
    cases = (
        replace(QUIET, detectable=0.02, injected=(small,)),
        replace(LOUD, detectable=0.03, injected=(none,)),
    )

    lines = calibration_sentences(replace(PROOF, cases=cases)).splitlines()

    at = next(at for at, line in enumerate(lines) if line.startswith("+2 % found: 40 of 120"))
    assert lines[at + 1 : at + 3] == [
        '  40 of 60 (66.67 %) of tests that find it (column "finds"); '
        "in truth 1.70 % to 1.70 % slower",
        f"  but +2 % of {OTHER.test} is -0.30 % [-1.00 %, 0.40 %] in truth",
    ]
    assert "no test finds it" in calibration_sentences(replace(PROOF, cases=cases[1:]))


def test_the_table_has_a_row_per_case_and_a_column_per_size():
    text = calibration_table(replace(PROOF, cases=(QUIET, LOUD)), width=200, color=False)

    header, first, second = (text.splitlines()[at] for at in (1, 3, 4))
    assert header.endswith("+2 %")
    for told in ("test_forward[8-128]", "3.200 µs", "0.24 %", "1.20 %", "298 ok", "59/60"):
        assert told in first
    assert "1 REGRESSED, 5 ok" in second


def test_the_table_fits_a_narrow_terminal():
    text = calibration_table(PROOF, width=100, color=False)

    assert max(map(len, text.splitlines())) <= 100
    assert "59/60" in text


def test_cards_are_named_where_there_are_several():
    other = replace(QUIET, card="GPU-9a8eb473-1")

    text = calibration_table(replace(PROOF, cases=(QUIET, other)), width=200, color=False)

    assert "212906ca" in text
    assert "9a8eb473" in text
    alone = calibration_table(PROOF, width=200, color=False)
    assert ("212906ca" in alone, "card" in alone) == (False, False)


def test_the_text_plot_has_a_bar_per_size():
    assert calibration_plot(replace(PROOF, cases=(LOUD,))) == ""
    assert calibration_plot(PROOF).splitlines()[1] == "    +2 % |" + "#" * 39 + " | 98 %"


def test_the_json_holds_counts_and_limits_and_the_worst_card_counts():
    found = calibration_json(replace(PROOF, cases=(QUIET, replace(QUIET, detectable=0.03), LOUD)))

    assert {"hits": 1, "trials": 606} == {
        name: found["false_alarms"][name] for name in ("hits", "trials")
    }
    assert 118 == found["found"]["0.02"]["hits"]
    assert [0.03, None] == list(found["detectable"].values())


@pytest.mark.skipif(not can_draw(), reason="needs matplotlib")
def test_the_picture_is_the_same_each_time():
    drawn = detection_svg(PROOF)

    assert drawn == detection_svg(PROOF)
    assert drawn.rstrip().endswith("</svg>")


@pytest.mark.skipif(not can_draw(), reason="needs matplotlib")
def test_the_picture_has_a_tests_slowdowns_where_they_lie_in_truth():
    moved = replace(QUIET.injected[0], real=0.017)

    assert detection_svg(PROOF) != detection_svg(
        replace(PROOF, cases=(replace(QUIET, injected=(moved,)),))
    )
