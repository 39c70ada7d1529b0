"""
A tensor that was moved, freed or resized is seen.
"""

from __future__ import annotations

import pytest

from pytest_kernelperf.measure.placement import Placement

torch = pytest.importorskip("torch")


def test_a_tensor_that_stays_is_held() -> None:
    x, placement = torch.zeros(4), Placement()
    placement.remember([x])
    x += 1

    assert placement.holds(x)


def test_a_tensor_that_moved_is_not_held() -> None:
    x, placement = torch.zeros(4), Placement()
    placement.remember([x])
    x.data = torch.zeros(4)

    assert not placement.holds(x)


def test_a_tensor_that_was_never_remembered_is_held() -> None:
    assert Placement().holds(torch.zeros(4))


def test_a_reused_id_says_nothing() -> None:
    """
    Python gives the id of a tensor that is gone to a new one, which lies elsewhere.
    """
    x, other, placement = torch.zeros(4), torch.zeros(4), Placement()
    placement.remember([x])
    placement._known[id(other)] = placement._known[id(x)]

    assert placement.holds(other)


def test_tensors_that_are_gone_are_forgotten() -> None:
    placement = Placement()
    placement.remember([torch.zeros(4)])
    placement.remember([])

    assert {} == placement._known
