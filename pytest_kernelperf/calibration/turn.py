"""
Has a calibration's process wait, collected and imported, until it is its turn to measure.

So processes start together, and only one measures: starting pytest and torch takes as long as
measuring a dozen kernels.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NoReturn

import pytest

from pytest_kernelperf.measure.neighbours import begin_turn

#: Needed by every measurement on a GPU; torch comes with the tests.
_NEEDED = ("triton", "pytest_kernelperf.analysis", "pytest_kernelperf.measure.cuda")


class Turn:
    """
    The hooks of one waiting process.

    Args:
        descriptor: Of the connection to the calibration.
        seed: Of the order of its tests; 0 = as collected.
    """

    def __init__(self, descriptor: int, seed: int) -> None:
        # Programs that tests start must not keep it open.
        os.set_inheritable(descriptor, False)
        self._connection = Connection(descriptor)
        self._seed = seed

    # First, so that pytest's own groups tests by their shared fixtures again.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """
        Shuffle the tests: none always follows the same other in every process.
        """
        if self._seed:
            random.Random(self._seed).shuffle(items)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """
        Import what measuring needs, and wait.
        """
        if "torch" in sys.modules:
            for name in _NEEDED:
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
        try:
            self._connection.send(None)
            family: Sequence[int] = self._connection.recv()
        except (EOFError, OSError):
            _end()
        begin_turn(family)
        threading.Thread(target=self._end_with_the_calibration, daemon=True).start()

    def _end_with_the_calibration(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            self._connection.recv()
        _end()


def _end() -> NoReturn:
    """
    End this process and all that it started: the calibration was killed.

    Nobody would read its record, and the next calibration wants the card alone.
    """
    os.killpg(0, signal.SIGKILL)
    raise SystemExit
