"""
Chooses the kernel for tensors that have been checked, and launches it.

The first call with a set of shapes, strides, dtypes and options goes through the tile table and
through Triton; what comes back is a plan that repeats the launch, for `plans` to remember. Triton
is imported with the first launch, not before.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from . import configs, forward_hopper

if TYPE_CHECKING:
    from .launch import AnyLaunch
    from .repeated_launch import Plan

MAX_HEADS = MAX_BATCH = forward_hopper.MAX_GRID  # the plain kernel's y and z axes


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
    **mask: Any,
) -> Plan | None:
    """Choose the kernel and its tile, launch it, and make the plan that repeats the launch."""
    batch, nheads, seqlen_q, headdim = q.shape
    row = configs.select(
        _capability(q.device), headdim, mask["causal"], seqlen_q, k.shape[2], batch * nheads
    )
    on_hopper = row.hopper is not None and all(
        forward_hopper.is_supported(tensor, k, v, scale=mask["scale"]) for tensor in (q, out)
    )
    prepared: AnyLaunch | None
    if on_hopper and row.hopper is not None:
        prepared = _launch_hopper(q, k, v, out, lse, config=row.hopper, **mask)
    else:
        from .forward import plain_forward

        prepared = plain_forward(q, k, v, out, lse, config=row.tile, **mask)
    if prepared is None:
        return None
    from .repeated_launch import Plan

    return Plan(prepared, q.device.index, on_hopper, out)


def _launch_hopper(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor | None,
    *,
    config: forward_hopper.HopperConfig,
    **mask: Any,
) -> AnyLaunch | None:
    """Launch a Gluon kernel, and prepare the launch that repeats it without new descriptors."""
    from .launch import launch, prepare

    kernel, args, constants, options, grid = forward_hopper.launch_plan(
        q, k, v, out, lse, config=config, **mask
    )
    handle = launch(kernel, grid, args, {**constants, **options})
    addressed = 5  # q, k, v, out and lse come first, as in the plain kernel
    in_order = [constants[name] for name in kernel.arg_names[len(args) :] if name in constants]
    if len(args) + len(in_order) != len(kernel.arg_names):
        return None  # the kernel has a default that is not spelled out here
    return prepare(handle, grid, args[:addressed], (*args[addressed:], *in_order))


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    """Return the GPU's compute capability; Hopper's for the interpreter, to test those tiles."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)
