"""
Builders of records, for reports to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_kernelperf.analysis import compare
from pytest_kernelperf.model import Comparison, Limits, Measurement, Process, Recorded, Round

METHODS = {"device": "graph", "launch": "cupti", "wall": "event-sync"}


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
