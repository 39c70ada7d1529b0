"""The launches of one decode call: arguments, workspace, grids."""

from __future__ import annotations

import torch
import triton

from .decode import decode_combine_kernel, decode_split_kernel
from .decode_plan import MAX_ROW_STRIDE, DecodePlan, for_unaligned

LOG2E = 1.4426950408889634


def launch_decode(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    cache_seqlens: torch.Tensor,
    k: torch.Tensor | None,
    v: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor | None,
    scale: float,
    causal: bool,
    plan: DecodePlan,
) -> None:
    """
    Enqueue the split kernel and, if the plan splits, the combine kernel on the current stream.

    Args:
        q: [batch, nheads, seqlen_q, headdim].
        k_cache: [batch, nheads_k, capacity, headdim], last stride 1.
        v_cache: The same shape.
        cache_seqlens: [batch] int32.
        k: [batch, nheads_k, seqlen_new, headdim] to append, or None.
        v: The same, for `v_cache`.
        out: Shape of `q`, last stride 1.
        lse: [batch, nheads, seqlen_q] float32, contiguous, or None.
        scale: Factor on the scores.
        causal: Bottom-right mask.
        plan: How to cut the work; `plan_decode` makes it. Keys that are not aligned to 16 bytes
            get smaller tiles.
    """
    batch, nheads, seqlen_q, headdim = q.shape
    nheads_k, capacity = k_cache.shape[1], k_cache.shape[2]
    if batch * nheads_k == 0 or (q.numel() == 0 and k is None):
        return
    if nheads == 0:
        seqlen_q = 0
    q, cache_seqlens = _dense_rows(q), cache_seqlens.resolve_neg().contiguous()
    append = k is not None
    k_new, v_new = (_dense_rows(k), _dense_rows(v)) if k is not None and v is not None else (q, q)
    keys = (k_cache, v_cache, k_new, v_new) if append else (k_cache, v_cache)
    if not all(_is_aligned(tensor) for tensor in keys):
        plan = for_unaligned(plan)
    split = plan.num_splits > 1
    partial_out, partial_lse = _workspace(q, plan.num_splits) if split else (out, out)
    grid = (plan.num_q_tiles * plan.num_splits * batch * nheads_k,)
    decode_split_kernel[grid](
        q,
        k_cache,
        v_cache,
        cache_seqlens,
        k_new,
        v_new,
        out,
        out if lse is None else lse,
        partial_out,
        partial_lse,
        *q.stride()[:3],
        *k_cache.stride()[:3],
        *v_cache.stride()[:3],
        *k_new.stride()[:3],
        *v_new.stride()[:3],
        *out.stride()[:3],
        scale * LOG2E,
        nheads_k,
        seqlen_q,
        k_new.shape[2],
        capacity,
        plan.num_splits,
        plan.num_q_tiles,
        HEADDIM=headdim,
        BLOCK_D=max(16, triton.next_power_of_2(headdim)),
        GROUP=max(1, nheads // nheads_k),
        BLOCK_Q=plan.block_q,
        BLOCK_N=plan.block_n,
        CAUSAL=causal,
        APPEND=append,
        SPLIT=split,
        WRITE_LSE=lse is not None,
        NUM_STAGES=plan.num_stages,
        DEPENDENT_LAUNCH=plan.dependent_launch,
        num_warps=plan.num_warps,
    )
    if split and q.numel() > 0:
        _launch_combine(partial_out, partial_lse, out, lse, plan)


def _launch_combine(
    partial_out: torch.Tensor,
    partial_lse: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor | None,
    plan: DecodePlan,
) -> None:
    """Enqueue the combine kernel: a program per query and run of up to 64 output elements."""
    batch, nheads, seqlen_q, headdim = out.shape
    block_d = min(64, max(16, triton.next_power_of_2(headdim)))
    # 64 fp32 values per thread at most: 8 warps from 128 splits on.
    block_splits = triton.next_power_of_2(plan.num_splits)
    options = {"launch_pdl": True} if plan.dependent_launch else {}
    decode_combine_kernel[(batch * nheads * seqlen_q, triton.cdiv(headdim, block_d))](
        partial_out,
        partial_lse,
        out,
        out if lse is None else lse,
        *out.stride()[:3],
        nheads,
        seqlen_q,
        plan.num_splits,
        HEADDIM=headdim,
        BLOCK_D=block_d,
        BLOCK_SPLITS=block_splits,
        WRITE_LSE=lse is not None,
        DEPENDENT_LAUNCH=plan.dependent_launch,
        num_warps=8 if block_splits > 128 else 4,
        **options,
    )


def _workspace(q: torch.Tensor, num_splits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return uninitialised fp32 room for every split's result and log-sum-exp (base 2)."""
    batch, nheads, seqlen_q, headdim = q.shape
    shape = (batch, nheads, seqlen_q, num_splits)
    partial_out = torch.empty((*shape, headdim), dtype=torch.float32, device=q.device)
    return partial_out, torch.empty(shape, dtype=torch.float32, device=q.device)


def _is_aligned(tensor: torch.Tensor) -> bool:
    """Whether Triton will know that every row starts at a multiple of 16 bytes, for cp.async."""
    return tensor.data_ptr() % 16 == 0 and all(step % 16 == 0 for step in tensor.stride()[:3])


def _dense_rows(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor itself, or a copy if the kernel can't read it: rows apart, a lazy sign."""
    fits = tensor.stride(3) == 1 and tensor.stride(2) <= MAX_ROW_STRIDE and not tensor.is_neg()
    return tensor if fits else tensor.clone(memory_format=torch.contiguous_format)
