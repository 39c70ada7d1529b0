"""What torch's autograd can't see of a kernel launch, and has to be asked or told."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def in_forward_mode() -> bool:
    """
    Say whether tensors may carry forward-mode derivatives, which a launch would silently drop.

    Returns:
        True only inside `torch.autograd.forward_ad.dual_level`.
    """
    return forward_ad._current_level >= 0


def refuse_tangents(*tensors: torch.Tensor | None) -> None:
    """
    Require tensors without a forward-mode derivative.

    Args:
        tensors: Any tensors; None is skipped.

    Raises:
        NotImplementedError: If one has a tangent.
    """
    if not in_forward_mode():
        return
    if any(t is not None and forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        raise NotImplementedError(
            "flashcore attention has no forward-mode derivative: expected tensors without a "
            "tangent, got a dual tensor; use torch.nn.functional.scaled_dot_product_attention with "
            "SDPBackend.MATH for that"
        )


def mark_written(*tensors: torch.Tensor) -> None:
    """
    Count a write that torch did not see, so that a backward pass that saved the old values fails.

    Args:
        tensors: What a kernel writes in place.
    """
    for tensor in tensors:
        if not tensor.is_inference():  # those have no counter
            torch.autograd.graph.increment_version(tensor)
