"""
How long a calibration waits for its processes.
"""

from __future__ import annotations

import pytest

from pytest_kernelperf.calibration.course import Course, Request
from pytest_kernelperf.calibration.folder import Asked, Folder


@pytest.fixture
def course(tmp_path):
    def make(budget_s: float | None = None) -> Course:
        return Course(Folder(tmp_path), Request(Asked("1.0"), 12, budget_s), print)

    return make


def test_nobody_waits_for_ever_for_a_process_once_others_have_ended(course) -> None:
    unlimited = course()
    assert unlimited._limit_s() is None

    unlimited._start_s, unlimited._longest_s = 6.0, 10.0

    assert 140 == unlimited._limit_s()


def test_the_budget_ends_a_process_before_it_counts_as_hung(course) -> None:
    limited = course(budget_s=60.0)
    limited._start_s, limited._longest_s = 6.0, 10.0

    assert 40 == pytest.approx(limited._limit_s(), abs=1)
