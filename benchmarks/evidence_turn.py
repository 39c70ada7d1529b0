"""
A pytest plugin: this run has imported and collected, and waits for its turn at the card.

`evidence_runs.relay` starts the next run while one measures, which costs a core of the host and
saves the seconds of the imports; nothing touches the card before the turn is given.
"""

from __future__ import annotations

import os

import pytest

#: Holds the file descriptor from which one byte gives the turn; its end takes it away.
TURN = "EVIDENCE_TURN"


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """
    Wait; a fresh process of the run has no turn of its own.
    """
    if TURN not in os.environ or "KERNELPERF_PROCESS" in os.environ:
        return
    with os.fdopen(int(os.environ[TURN]), "rb", buffering=0) as turn:
        if not turn.read(1):
            pytest.exit("no turn any more", returncode=2)
