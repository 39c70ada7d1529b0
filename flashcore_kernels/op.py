"""
Attention as registered torch operators, with gradients: what torch.compile and autograd see.

Three operators in the namespace `flashcore`:

* `attention_forward` -> (out, lse): opaque to the compiler, which learns shapes from its fake.
* `attention_backward` -> (dq, dk, dv): recomputes the probabilities from lse, in plain torch.
* `attention_kv_cache` -> (out, lse): decoding; declares that it writes into the cache.

Eager calls without gradients go past all this: a registered operator costs more host time than a
launch. Gradients of gradients are refused.

Source:
    The backward pass is that of Dao, FlashAttention-2 (2023), arXiv:2307.08691, section 3.1.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from .autograd_notes import refuse_tangents
from .reference import accumulation_dtype, attention_reference, without_autocast

# Scores that the backward pass holds at once, in elements: 256 MB in fp32, and a few copies.
MAX_CHUNK_SCORES = 2**26
# Fewer query rows than this per matrix product, and it reads K more than it computes.
MIN_CHUNK_ROWS = 64

# The dispatcher calls every function below with a schema's arguments by position, all of them.
_SCHEMAS = (
    "attention_forward(Tensor q, Tensor k, Tensor v, bool causal, float scale, "
    "SymInt causal_offset) -> (Tensor out, Tensor lse)",
    "attention_backward(Tensor grad_out, Tensor? grad_lse, Tensor q, Tensor k, Tensor v, "
    "Tensor out, Tensor lse, bool causal, float scale, SymInt causal_offset) "
    "-> (Tensor grad_q, Tensor grad_k, Tensor grad_v)",
    "attention_kv_cache(Tensor q, Tensor(a!) k_cache, Tensor(b!) v_cache, Tensor cache_seqlens, "
    "Tensor? k, Tensor? v, bool causal, float scale) -> (Tensor out, Tensor lse)",
)


# --- forward -------------------------------------------------------------------------------------


def _forward_cpu(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    causal: bool,
    scale: float,
    causal_offset: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    refuse_tangents(q, k, v)  # as on CUDA: below autograd they would be dropped without a word
    dtype = accumulation_dtype(q)
    result, lse = attention_reference(
        q, k, v, causal=causal, scale=scale, causal_offset=causal_offset, dtype=dtype
    )
    out = torch.empty_like(q)
    out.copy_(result)
    return out, lse.contiguous()


def _forward_cuda(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    from .attention import _forward  # imports Triton, which a CPU does not need

    return _forward(*arguments)


def _forward_fake(q: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(q), q.new_empty(q.shape[:3], dtype=accumulation_dtype(q))


# --- backward ------------------------------------------------------------------------------------


def _backward(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    with without_autocast(arguments[0].device):
        return _gradients(*arguments)


def _gradients(
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    causal: bool,
    scale: float,
    causal_offset: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Compute the gradients of q, k and v chunk by chunk of query rows.

    With P = softmax(S), S = scale * q k^T and D = rowsum(dO * O):
    dV = P^T dO, dS = P * (dO V^T - D), dQ = scale * dS K, dK = scale * dS^T Q.
    The gradients of query heads that share a key head are summed.

    Numerics:
        The probabilities are recomputed from lse; everything runs in fp32 (fp64 for fp64) and is
        rounded once at the end. At most `MAX_CHUNK_SCORES` scores are held at a time, or those
        of one row of one sequence if they are more.
    """
    dtype = accumulation_dtype(q)
    nheads_k, seqlen_k = k.shape[1], k.shape[2]
    grad_q = torch.zeros(q.shape, dtype=dtype, device=q.device)
    grad_k = torch.zeros(k.shape, dtype=dtype, device=q.device)
    grad_v = torch.zeros(v.shape, dtype=dtype, device=q.device)
    # D of the paper; what flows into lse joins it, since d lse / dS = P.
    delta = (grad_out.to(dtype) * out.to(dtype)).sum(dim=-1)
    if grad_lse is not None:
        delta = delta - grad_lse
    for batches, rows in _chunks(q.shape[0], q.shape[1], q.shape[2], seqlen_k):
        visible = seqlen_k
        if causal:
            visible = min(max(rows.stop + causal_offset, 0), seqlen_k)
        hidden = _hidden(rows, visible, causal_offset, q.device) if causal else None
        chunk_q = _by_key_head(q[batches, :, rows], nheads_k).to(dtype)
        chunk_do = _by_key_head(grad_out[batches, :, rows], nheads_k).to(dtype)
        chunk_lse = _by_key_head(lse[batches, :, rows, None], nheads_k)
        chunk_delta = _by_key_head(delta[batches, :, rows, None], nheads_k)
        chunk_k = k[batches, :, None, :visible].to(dtype)
        chunk_v = v[batches, :, None, :visible].to(dtype)

        # A row that sees no key has lse -inf, and all its scores are hidden: any other number does.
        chunk_lse = chunk_lse.masked_fill(chunk_lse == -math.inf, 0.0)
        p = torch.exp(chunk_q @ chunk_k.transpose(-1, -2) * scale - chunk_lse)
        if hidden is not None:
            p = p.masked_fill(hidden, 0.0)
        grad_s = p * (chunk_do @ chunk_v.transpose(-1, -2) - chunk_delta) * scale
        grad_q[batches, :, rows] = (grad_s @ chunk_k).flatten(1, 2)
        # Summing over dim 2 adds up the query heads that share a key/value head.
        grad_k[batches, :, :visible] += (grad_s.transpose(-1, -2) @ chunk_q).sum(2)
        grad_v[batches, :, :visible] += (p.transpose(-1, -2) @ chunk_do).sum(2)
    return grad_q.to(q.dtype), grad_k.to(k.dtype), grad_v.to(v.dtype)


def _by_key_head(tensor: torch.Tensor, nheads_k: int) -> torch.Tensor:
    """View [batch, nheads, rows, n] as [batch, nheads_k, group, rows, n]."""
    group = tensor.shape[1] // max(nheads_k, 1)
    return tensor.unflatten(1, (nheads_k, group))


def _hidden(rows: slice, visible: int, causal_offset: int, device: torch.device) -> torch.Tensor:
    """Return the [rows, visible] mask of the keys that a causal query may not see."""
    row = torch.arange(rows.start, rows.stop, device=device)[:, None]
    key = torch.arange(visible, device=device)[None, :]
    return key > row + causal_offset


def _chunks(batch: int, nheads: int, seqlen_q: int, seqlen_k: int) -> Iterator[tuple[slice, slice]]:
    """
    Cut batch x seqlen_q into (batch slice, row slice) with at most `MAX_CHUNK_SCORES` scores each.

    Rows are cut before sequences, down to `MIN_CHUNK_ROWS`; then sequences; then rows again.
    """
    scores_per_row = max(1, nheads * seqlen_k)
    min_rows = min(MIN_CHUNK_ROWS, max(seqlen_q, 1))
    batch_step = max(1, min(max(batch, 1), MAX_CHUNK_SCORES // (scores_per_row * min_rows)))
    row_step = max(1, MAX_CHUNK_SCORES // (scores_per_row * batch_step))
    for first in range(0, batch, batch_step):
        for row in range(0, seqlen_q, row_step):
            yield (
                slice(first, min(first + batch_step, batch)),
                slice(row, min(row + row_step, seqlen_q)),
            )


def _backward_fake(
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *_: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save_for_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    q, k, v, ctx.causal, ctx.scale, ctx.causal_offset = inputs
    out, lse = output
    ctx.save_for_backward(q, k, v, out, lse)
    ctx.set_materialize_grads(False)


def _backward_of_forward(ctx, grad_out, grad_lse):  # type: ignore[no-untyped-def]
    q, k, v, out, lse = ctx.saved_tensors
    if grad_out is None:
        grad_out = torch.zeros_like(out)
    grads = torch.ops.flashcore.attention_backward(
        grad_out, grad_lse, q, k, v, out, lse, ctx.causal, ctx.scale, ctx.causal_offset
    )
    return *grads, None, None, None


def _refuse_double_backward(ctx, *grads):  # type: ignore[no-untyped-def]
    raise NotImplementedError(
        "flashcore attention has no second derivative: expected one backward pass, got a gradient "
        "of its gradient; use torch.nn.functional.scaled_dot_product_attention with "
        "SDPBackend.MATH for that"
    )


# --- decoding ------------------------------------------------------------------------------------


def _kv_cache(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    from .kv_cache import compute

    return compute(*arguments, return_lse=True)


def _kv_cache_fake(q: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=torch.float32)


# --- registration --------------------------------------------------------------------------------


def _register() -> torch.library.Library:
    """Define the operators; they last as long as the library that is returned."""
    library = torch.library.Library("flashcore", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    library.impl("attention_forward", _forward_cpu, "CPU")
    library.impl("attention_forward", _forward_cuda, "CUDA")
    for device in ("CPU", "CUDA"):
        library.impl("attention_backward", _backward, device)
        library.impl("attention_kv_cache", _kv_cache, device)
    fakes = {
        "attention_forward": _forward_fake,
        "attention_backward": _backward_fake,
        "attention_kv_cache": _kv_cache_fake,
    }
    for name, fake in fakes.items():
        torch.library.register_fake(f"flashcore::{name}", fake, lib=library)
    torch.library.register_autograd(
        "flashcore::attention_forward",
        _backward_of_forward,
        setup_context=_save_for_backward,
        lib=library,
    )
    torch.library.register_autograd(
        "flashcore::attention_backward", _refuse_double_backward, lib=library
    )
    return library


# A process may import this module anew (pytester does); a namespace can be defined only once.
if not hasattr(torch.ops.flashcore, "attention_forward"):
    _library = _register()
