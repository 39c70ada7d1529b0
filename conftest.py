"""
Settings of our own test run: pytester, and the skip of tests that need an H100.
"""

from __future__ import annotations

import os
import signal
from importlib.util import find_spec

import pytest

# Workers share the cores: their threads would spin in wait for each other's. Torch and numpy read
# this when they are imported, here and in the processes that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what runs in its background with SIGINT ignored, and so would be all that tests
# start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytester"]
#: The attention kernels can't be imported without torch.
collect_ignore = [] if find_spec("torch") else ["tests/kernels", "tests/perf"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """
    Skip tests marked `h100` where torch finds no card of that kind.
    """
    if item.get_closest_marker("h100") is None:
        return
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("needs an H100")
