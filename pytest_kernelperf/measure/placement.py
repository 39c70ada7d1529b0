"""
Remembers where tensors are, to see whether a call moved, freed or resized them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class _Place:
    """
    Where a tensor's elements are; what a call must not change about its inputs.
    """

    address: int
    storage_bytes: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Placement:
    """
    The places of the tensors that were made ready for a call.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], _Place]] = {}

    def remember(self, tensors: Iterable[torch.Tensor]) -> None:
        """
        Note where tensors are now, and forget those that are gone.
        """
        self._known = {key: held for key, held in self._known.items() if held[0]() is not None}
        for tensor in tensors:
            self._known[id(tensor)] = (weakref.ref(tensor), _place(tensor))

    def holds(self, tensor: torch.Tensor) -> bool:
        """
        Return whether a tensor is where it was; True for one that was never remembered.
        """
        known, place = self._known.get(id(tensor), (None, None))
        # An id may be reused by another tensor: nothing is known about that one.
        return known is None or known() is not tensor or place == _place(tensor)


def _place(tensor: torch.Tensor) -> _Place:
    storage_bytes = tensor.untyped_storage().nbytes()
    address = tensor.data_ptr() if storage_bytes else 0
    return _Place(address, storage_bytes, tuple(tensor.shape), tuple(tensor.stride()))
