"""What torch's autograd can't see of a kernel launch, and has to be asked or told."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling


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
    given = (_under_vmap(t) for t in tensors if t is not None)
    if any(forward_ad.unpack_dual(t).tangent is not None for t in given):
        raise NotImplementedError(
            "flashcore attention has no forward-mode derivative: expected tensors without a "
            "tangent, got a dual tensor; use torch.nn.functional.scaled_dot_product_attention with "
            "SDPBackend.MATH for that"
        )


def refuse_all_but_backward(*tensors: torch.Tensor) -> None:
    """
    Require that no derivative is asked for but the backward pass that autograd calls.

    `torch.func.jvp` would make zeros of what a registered operator does not have, unseen by the
    operator itself; `torch.func.grad` would complain of an autograd function that no caller wrote.

    Args:
        tensors: What goes to a registered operator.

    Raises:
        NotImplementedError: If one has a tangent or is differentiated by `torch.func`; under
            torch.compile in any forward mode, where no tensor can be asked.
    """
    if is_dynamo_compiling():
        if in_forward_mode():
            raise NotImplementedError(
                "flashcore attention has no forward-mode derivative under torch.compile"
            )
        return
    refuse_tangents(*tensors)
    stack = torch._C._functorch.get_interpreter_stack() or ()
    grad = torch._C._functorch.TransformType.Grad
    if not any(transform.key() == grad for transform in stack):
        return
    if any(_under_vmap(tensor).requires_grad for tensor in tensors):
        raise NotImplementedError(
            "flashcore attention has no gradient inside torch.func: expected a call outside of "
            "torch.func.grad, vjp and jacrev, got one inside; use torch.autograd.grad, or "
            "torch.nn.functional.scaled_dot_product_attention"
        )


def _under_vmap(tensor: torch.Tensor) -> torch.Tensor:
    """Return what `torch.vmap` wraps, which has no rules for questions about derivatives."""
    while torch._C._functorch.is_batchedtensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def mark_written(*tensors: torch.Tensor) -> None:
    """
    Count a write that torch did not see, so that a backward pass that saved the old values fails.

    Args:
        tensors: What a kernel writes in place.
    """
    for tensor in tensors:
        if not tensor.is_inference():  # those have no counter
            torch.autograd.graph.increment_version(tensor)
