"""
A folder of baselines, and a good file in it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from baseline_file import FILE, SLUG, keys

from pytest_kernelperf.store.baselines import Baselines


@pytest.fixture
def baselines(tmp_path: Path) -> Baselines:
    """
    Return an empty folder of baselines.
    """
    return Baselines(tmp_path / "baselines")


@pytest.fixture
def stored(baselines: Baselines, make) -> Path:
    """
    Return a good baseline file with one entry.
    """
    return baselines.write(SLUG, FILE, {keys()[0]: make.entry()})
