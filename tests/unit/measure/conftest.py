"""
What several tests of measuring stand on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from simulated_device import Simulation


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    """
    A simulated device in place of torch's.
    """
    from simulated_device import simulated  # Needs torch, which may be missing.

    with simulated(monkeypatch) as found:
        yield found
