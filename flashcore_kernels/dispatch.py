"""
Chooses the kernel for tensors that have been checked, launches it, and remembers the launch.

The first call with a set of shapes, strides, dtypes and options goes through the tile table and
through Triton; what comes back is remembered under all of them as a plan, and the next call is one
dictionary look-up and one launch. Triton is imported with the first launch, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from . import configs, forward_hopper

if TYPE_CHECKING:
    from .launch import PreparedLaunch

# A plan takes q, k, v, out, lse (or None), and says whether it launched: it does not where an
# address or the surroundings differ from what it was made for, and the caller goes the long way.
Plan = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, "torch.Tensor | None"], bool
]
# Bounded: a cache that grows by one key a step makes a new key every step.
MAX_PLANS = 4096
MAX_HEADS = 65535  # the plain kernel's y axis
plans: dict[tuple[Any, ...], Plan] = {}


def plan_key(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    causal: bool,
    scale: float | None,
    out: torch.Tensor | None,
    return_lse: bool,
) -> tuple[Any, ...]:
    """Everything that a launch was specialised for, except the addresses' alignment."""
    return (
        q.shape,
        k.shape,
        v.shape,
        q.stride(),
        k.stride(),
        v.stride(),
        q.dtype,
        k.dtype,
        v.dtype,
        q.get_device(),
        k.get_device(),
        v.get_device(),
        causal,
        scale,
        return_lse,
        _out_key(out) if isinstance(out, torch.Tensor) else type(out),
    )


def _out_key(out: torch.Tensor) -> tuple[Any, ...]:
    return out.shape, out.stride(), out.dtype, out.get_device(), type(out)


def remember(key: tuple[Any, ...], plan: Plan) -> None:
    """
    Keep a plan for the next call with the same key.

    Args:
        key: What `plan_key` returned for the call that made the plan.
        plan: The plan.
    """
    if len(plans) >= MAX_PLANS:
        plans.clear()
    plans[key] = plan


def run(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor | None,
    *,
    scale: float,
    causal: bool,
    causal_offset: int,
) -> Plan | None:
    """
    Compute attention with the fitting kernel, on the tensors' device and its current stream.

    Args:
        q: [batch, nheads, seqlen_q, headdim], last stride 1, nothing empty.
        k: [batch, nheads_k, seqlen_k, headdim], last stride 1.
        v: As `k`.
        out: As `q`; written.
        lse: [batch, nheads, seqlen_q] float32 contiguous, written; None if not wanted.
        scale: Factor on the scores, > 0.
        causal: Whether row i sees only keys j <= i + causal_offset.
        causal_offset: The diagonal's offset in keys.

    Returns:
        A plan that repeats this launch on tensors like these, if one can be had.
    """
    from .forward import MAX_BATCH

    mask: dict[str, Any] = {"scale": scale, "causal": causal, "causal_offset": causal_offset}
    if q.is_cuda and q.device.index != torch.cuda.current_device():
        with torch.cuda.device(q.device):
            return run(q, k, v, out, lse, **mask)
    if q.shape[0] <= MAX_BATCH and q.shape[1] <= MAX_HEADS:
        return _launch(q, k, v, out, lse, **mask)
    for of_q, of_k in _parts(q.shape[0], q.shape[1], k.shape[1], MAX_BATCH):
        of_lse = None if lse is None else lse[of_q]
        _launch(q[of_q], k[of_k], v[of_k], out[of_q], of_lse, **mask)
    return None


def _parts(
    batch: int, nheads: int, nheads_k: int, max_batch: int
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """
    Cut [batch, nheads] into (slices of q, slices of k) that each fit into one grid.

    Heads are cut sequence by sequence, so that every part of lse stays contiguous, and between key
    heads, or within one where its group alone is too large.
    """
    if nheads <= MAX_HEADS:
        for start in range(0, batch, max_batch):
            part = (slice(start, start + max_batch), slice(None))
            yield part, part
        return
    group = nheads // nheads_k
    step = max(1, MAX_HEADS // group)
    for b in range(batch):
        for first in range(0, nheads_k, step):
            stop = min(first + step, nheads_k)
            for head in range(first * group, stop * group, MAX_HEADS):
                heads = slice(head, min(head + MAX_HEADS, stop * group))
                yield (slice(b, b + 1), heads), (slice(b, b + 1), slice(first, stop))


def _launch(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor | None,
    *,
    scale: float,
    causal: bool,
    causal_offset: int,
) -> Plan | None:
    """Choose the kernel and its tile, launch it, and make the plan that repeats the launch."""
    row = configs.select(
        _capability(q.device), q.shape[3], causal, q.shape[2], k.shape[2], q.shape[0] * q.shape[1]
    )
    mask: dict[str, Any] = {"scale": scale, "causal": causal, "causal_offset": causal_offset}
    on_hopper = row.hopper is not None and all(
        forward_hopper.is_supported(tensor, k, v, scale=scale) for tensor in (q, out)
    )
    prepared: PreparedLaunch | None
    if on_hopper and row.hopper is not None:
        prepared = _launch_hopper(q, k, v, out, lse, config=row.hopper, **mask)
    else:
        from .forward import plain_forward

        prepared = plain_forward(q, k, v, out, lse, config=row.tile, **mask)
    return None if prepared is None else _plan_of(prepared, q.device.index, on_hopper)


def _launch_hopper(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor | None,
    *,
    config: forward_hopper.HopperConfig,
    **mask: Any,
) -> PreparedLaunch | None:
    """Launch a Gluon kernel, and prepare the launch that repeats it without new descriptors."""
    from .launch import launch, prepare

    kernel, args, constants, options, programs = forward_hopper.launch_plan(
        q, k, v, out, lse, config=config, **mask
    )
    grid = (programs, 1, 1)
    handle = launch(kernel, grid, args, {**constants, **options})
    addressed = 5  # q, k, v, out and lse come first, as in the plain kernel
    in_order = [constants[name] for name in kernel.arg_names[len(args) :] if name in constants]
    if len(args) + len(in_order) != len(kernel.arg_names):
        return None  # the kernel has a default that is not spelled out here
    return prepare(handle, grid, args[:addressed], (*args[addressed:], *in_order))


def _plan_of(prepared: PreparedLaunch, device_index: int, needs_lse_address: bool) -> Plan:
    """
    Wrap a prepared launch with the conditions that may change from call to call.

    needs_lse_address: the Hopper kernels take some valid address where no lse is wanted, q's.
    """
    from .launch import ALIGNMENT_BYTES, current_device, current_stream, is_watched

    misaligned = ALIGNMENT_BYTES - 1

    def plan(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        lse: torch.Tensor | None,
    ) -> bool:
        q_ptr, k_ptr, v_ptr, out_ptr = q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr()
        if (q_ptr | k_ptr | v_ptr | out_ptr) & misaligned or is_watched():
            return False
        if current_device() != device_index:  # the default stream's handle means the current one
            return False
        if lse is not None:
            lse_ptr: int | None = lse.data_ptr()
        else:
            lse_ptr = q_ptr if needs_lse_address else None
        prepared(current_stream(device_index), q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr)
        return True

    return plan


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    """Return the GPU's compute capability; Hopper's for the interpreter, to test those tiles."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)
