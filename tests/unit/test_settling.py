"""
What a run does with its other processes when it is about to be ended.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_kernelperf.settings import Settings
from pytest_kernelperf.settling import Settling
from pytest_kernelperf.stash import WORKERS
from pytest_kernelperf.workers import Launch


def test_a_run_that_hangs_ends_its_fresh_processes_at_once():
    ended = []
    config = SimpleNamespace(stash=pytest.Stash())
    config.stash[WORKERS] = SimpleNamespace(abandon=lambda: ended.append("all"))
    launch = Launch((), (), "", (), {})

    Settling(config, Settings(), launch, lambda text: None).abandon()

    assert ended == ["all"]
