"""Whether tensors, and torch's state around them, are what a remembered launch was made for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.compiler import is_dynamo_compiling

Guard = Callable[[Any, Any, Any], bool]


def intercepted() -> bool:
    """
    Say whether someone wants to see operators, where a launch would pass unseen.

    Returns:
        True inside a `TorchDispatchMode`, a trace, or a transform such as `torch.vmap`.
    """
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.maybe_current_level() is not None
    )


def refuse_out_unless_eager(out: torch.Tensor) -> None:
    """
    Require that a result's place is memory, and now.

    Args:
        out: What the caller passed as `out` where the registered operator will be called.

    Raises:
        ValueError: Under torch.compile, in a trace, or for a fake tensor.
    """
    traced = is_dynamo_compiling() or torch._C._get_tracing_state() is not None
    if traced or type(out) is not torch.Tensor:
        raise ValueError(
            "out can't be used under torch.compile, torch.jit.trace or with fake tensors: expected "
            f"None, got {type(out).__name__}; assign the result instead, the compiler places it"
        )


def guard_for(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Guard:
    """
    Return what tells tensors like these, in surroundings like these, from all others.

    Like these: plain tensors of the same shapes, strides, dtypes and devices, as lazily negated, as
    needful of gradients, under the same modes. Addresses are not looked at, nor forward-mode
    derivatives, nor the current device.

    Args:
        q: Any plain tensor.
        k: Likewise.
        v: Likewise.

    Returns:
        A function of three arguments of any kind. torch.compile's own, in C++, takes 0.6 us where
        Python takes 3 (on one slow CPU).
    """
    return _compiled_guard(q, k, v) or _python_guard(q, k, v)


def _compiled_guard(*tensors: torch.Tensor) -> Guard | None:
    """Use the check that torch.compile puts in front of its graphs, if it does what is known."""
    # It compares requires_grad whether or not gradients are recorded just now.
    if any(tensor.requires_grad for tensor in tensors) or not _compiled_guards_work():
        return None
    check = _tensor_guards(*tensors)
    return check if check(*tensors) else None  # it refuses one tensor in two places


def _tensor_guards(*tensors: torch.Tensor) -> Guard:
    from torch._C._dynamo.guards import TensorGuards

    check: Guard = TensorGuards(
        *tensors,
        dynamic_dims_sizes=[list(tensor.shape) for tensor in tensors],
        dynamic_dims_strides=[list(tensor.stride()) for tensor in tensors],
    ).check
    return check


@cache
def _compiled_guards_work() -> bool:
    """Try torch's private interface on small tensors: it may differ in another release."""
    from torch.utils._python_dispatch import TorchDispatchMode

    q, k, v = (torch.zeros(1, 2, 3, 4) for _ in range(3))
    try:
        check = _tensor_guards(q, k, v)
        others = (v[..., :3], v.transpose(1, 2), v.half(), v.to("meta"), v.requires_grad_())
        told_apart = not any(check(q, k, other) for other in others)
        v.requires_grad_(False)
        same = check(q, k, torch.ones_like(v))
        with TorchDispatchMode():
            told_apart = told_apart and not check(q, k, v)
        told_apart = told_apart and not check(q, k, torch._neg_view(v))
    except Exception:
        return False
    return bool(same and told_apart)


def _python_guard(*tensors: torch.Tensor) -> Guard:
    expected = tuple(map(_described, tensors))

    def guard(q: Any, k: Any, v: Any) -> bool:
        given = (q, k, v)
        if not all(type(tensor) is torch.Tensor for tensor in given) or intercepted():
            return False
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
            return False
        return tuple(map(_described, given)) == expected

    return guard


def _described(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.is_neg()
