"""
The script that times the analysis of a suite.
"""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.usefixtures("benchmarks")


def test_the_time_of_a_suites_analysis_is_told_and_held_to_its_budget(capsys, monkeypatch):
    import analysis_time

    monkeypatch.setattr(sys, "argv", ["analysis_time.py", "--tests", "9", "--budget-s", "1e6"])
    assert analysis_time.main() == 0
    assert "27 verdicts on 9 tests: " in capsys.readouterr().out

    monkeypatch.setattr(sys, "argv", ["analysis_time.py", "--tests", "9", "--budget-s", "0"])
    assert analysis_time.main() == 1
