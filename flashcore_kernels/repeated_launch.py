"""Repeats a launch on other tensors of the kind that it was made for."""

from __future__ import annotations

import torch

from . import checks, launch
from .autograd_notes import mark_written
from .guards import Guard
from .launch import AnyLaunch, allocator


def _nothing(*tensors: object) -> bool:
    return False


class Plan:
    """A remembered launch: what it holds for, and how it is repeated on tensors of that kind."""

    __slots__ = (
        *("_allocate", "_device_index", "_lse_is_needed", "_prepared"),
        *("causal", "guard", "return_lse", "scale"),
    )

    def __init__(
        self, prepared: AnyLaunch, device_index: int, lse_is_needed: bool, like: torch.Tensor
    ) -> None:
        """
        Wrap a prepared launch.

        Args:
            prepared: The launch.
            device_index: The CUDA device it is prepared for.
            lse_is_needed: The kernel takes some valid address, q's, where no lse is wanted.
            like: What the launch wrote, and what a new result is like.
        """
        self._prepared = prepared.__call__  # a bound method is called faster than an object
        self._device_index = device_index
        self._lse_is_needed = lse_is_needed
        self._allocate = allocator(like)
        self.guard: Guard = _nothing  # these are the call's, filled in when it is remembered
        self.causal = False
        self.scale: float | None = None
        self.return_lse = False

    def repeat(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor | None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None:
        """
        Launch on tensors of the kind that the plan was made for, and on no others.

        Args:
            q: As for `attention`, unchecked.
            k: Likewise.
            v: Likewise.
            out: A tensor that `plan_key` finds like the first call's, or None as there.

        Returns:
            What `attention` returns; None, and nothing launched, where a tensor, an address or the
            surroundings differ, and the caller has to go the long way.
        """
        index = self._device_index
        if (
            not self.guard(q, k, v)
            or launch.current_device() != index  # whose default stream a handle of 0 means
            or launch.is_watched()
        ):
            return None
        result = self._allocate() if out is None else _writable(out, q, k, v)
        q_ptr = q.data_ptr()
        lse = None
        lse_ptr = q_ptr if self._lse_is_needed else None
        if self.return_lse:
            lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
            lse_ptr = lse.data_ptr()
        stream = launch.current_stream(index)
        if not self._prepared(
            stream, q_ptr, k.data_ptr(), v.data_ptr(), result.data_ptr(), lse_ptr
        ):
            return None
        return result if lse is None else (result, lse)


def _writable(out: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Check what no key knows of a result's place, and count the write."""
    checks.check_out_needs_no_gradient(out)
    checks.check_no_overlap(out, q, k, v)
    mark_written(out)
    return out
