"""
The cell that says how much of its card's limit a call uses, and the line under the table.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_kernelperf.model import Ceilings, Peaks, Roofline, Work
from pytest_kernelperf.report.cells import limit_text
from pytest_kernelperf.report.limits import limits_lines

LIMITED = Roofline(tflops=412.3, gbs=81.25, limit="compute", share=0.614, against="measured")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "412 TFLOP/s, 61 % compute"),
        ({"limit": "memory"}, "81.2 GB/s, 61 % memory"),
        ({"limit": "launch", "tflops": None}, "81.2 GB/s, 61 % launch"),
        ({"limit": "", "share": None}, "412 TFLOP/s 81.2 GB/s"),
        ({"tflops": 0.01923}, "19.2 GFLOP/s, 61 % compute"),
    ],
)
def test_the_rate_beside_a_share_is_the_one_that_its_limit_bounds(changes, expected) -> None:
    assert expected == limit_text(replace(LIMITED, **changes))


def test_a_call_that_counts_nothing_has_no_share() -> None:
    assert "-" == limit_text(None)


CEILINGS = Ceilings(2710.4, {"float32": 401.0, "float16": 688.7}, 1.52, "2026-09-01")


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (
            Work(peaks=Peaks(1070.4, 3352.3), ceilings=CEILINGS),
            "copy 2710 GB/s; matmul 689 (float16), 401 (float32) TFLOP/s; empty kernel 1.52 µs; "
            "measured 2026-09-01",
        ),
        (
            Work(peaks=Peaks(1070.4, 3352.3)),
            "theoretical peaks 3352 GB/s, 1070 TFLOP/s (16-bit), which no kernel reaches: measure "
            "this card's own with `kernelperf doctor --ceilings`",
        ),
        (
            Work(peaks=Peaks()),
            "no limits are known of this card: rates only, and no time is held to them: measure "
            "this card's own with `kernelperf doctor --ceilings`",
        ),
    ],
)
def test_the_limits_behind_the_shares_are_said_once(make, work, expected) -> None:
    measurement = replace(make.measurement(), work=work)
    other = replace(measurement, case=make.case("test_other"))

    lines = limits_lines([make.measurement(), measurement, other])

    assert f"of limit (NVIDIA H100 80GB HBM3 GPU-1): {expected}" == lines
