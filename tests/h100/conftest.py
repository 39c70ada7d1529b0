"""
What tests on a real card measure with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_kernelperf.measure import Subject
    from pytest_kernelperf.measure.card import Card


@pytest.fixture
def card() -> Card:
    """
    The current card with its instruments.
    """
    import torch

    from pytest_kernelperf.measure.card import card_for

    return card_for(torch.cuda.current_device())


@pytest.fixture
def add() -> Subject:
    """
    An add that reads 1 MB and writes 1 MB: about 1.8 µs.
    """
    from measuring import random

    from pytest_kernelperf.measure import Subject

    return Subject(lambda x: x + 1, (random(512, 1024),))
