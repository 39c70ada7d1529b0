"""
Settings of the property tests, and the way to the scripts behind docs/evidence.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

# How long an example takes says what else the machine does, not whether a property holds.
settings.register_profile("kernelperf", deadline=None)
settings.load_profile("kernelperf")


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    Return the folder of the scripts, which can be imported meanwhile.
    """
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return BENCHMARKS
