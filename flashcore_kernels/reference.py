"""
The one obvious attention: every kernel is checked against it, and CPU tensors use it.

It forms the whole score matrix, so it needs memory in seqlen_q * seqlen_k. It is differentiable.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

CausalAlignment = Literal["top-left", "bottom-right"]


def causal_offset_for(seqlen_q: int, seqlen_k: int, alignment: CausalAlignment) -> int:
    """
    Return the diagonal offset of a causal mask: row i sees key j when j <= i + offset.

    Args:
        seqlen_q: Number of query rows.
        seqlen_k: Number of keys.
        alignment: "top-left" (row 0 sees key 0, as in PyTorch) or "bottom-right" (the last row sees
            the last key, as with a cache).

    Returns:
        The offset in keys; negative when bottom-right leaves rows that see nothing.

    Raises:
        ValueError: If `alignment` is neither.
    """
    if alignment == "top-left":
        return 0
    if alignment == "bottom-right":
        return seqlen_k - seqlen_q
    raise ValueError(
        f"causal_alignment is wrong: expected 'top-left' or 'bottom-right', got {alignment!r}"
    )


def accumulation_dtype(tensor: torch.Tensor) -> torch.dtype:
    """
    Return what sums over a tensor are kept in: float64 for float64, else float32.

    Args:
        tensor: Of any floating dtype.
    """
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """
    Return a context in which products keep their operands' dtype, whatever `torch.autocast` says.

    It would round scores to 16 bits: probabilities recomputed from a float32 log-sum-exp then are
    too large by any factor.

    Args:
        device: Where the products are computed.
    """
    if device.type not in ("cpu", "cuda"):
        return nullcontext()  # such as meta: there is nothing to round
    return torch.autocast(device.type, enabled=False)


def attention_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    causal_alignment: CausalAlignment = "top-left",
    causal_offset: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Compute softmax(q k^T * scale) v and the log of the softmax's denominator, step by step.

    Args:
        q: [batch, nheads, seqlen_q, headdim], any floating dtype, any strides.
        k: [batch, nheads_k, seqlen_k, headdim]; nheads must be a multiple of nheads_k.
        v: [batch, nheads_k, seqlen_k, headdim].
        causal: Hide keys after the diagonal.
        scale: Factor on the scores; default 1/sqrt(headdim). Any finite number.
        causal_alignment: Where the diagonal lies when seqlen_q != seqlen_k.
        causal_offset: The diagonal as a number (row i sees key j <= i + offset); overrides
            `causal_alignment`.
        dtype: What everything is computed and returned in: float32, or float64 for an oracle.

    Returns:
        `out` [batch, nheads, seqlen_q, headdim] and `lse` [batch, nheads, seqlen_q], natural log,
        both of `dtype`. A row that sees no key has out 0 and lse -inf.

    Numerics:
        NaN in a query stays in its row; in a key it reaches the rows that see it; in a value one
        column of all rows (0 * NaN), as in PyTorch's math path.
    """
    seqlen_q, seqlen_k = q.shape[2], k.shape[2]
    group = q.shape[1] // max(k.shape[1], 1)
    scale = 1.0 / math.sqrt(q.shape[3]) if scale is None else scale
    q = q.to(dtype)
    k = k.to(dtype).repeat_interleave(group, dim=1)
    v = v.to(dtype).repeat_interleave(group, dim=1)
    if seqlen_k == 0:
        return torch.zeros_like(q), q.new_full(q.shape[:3], -math.inf)

    with without_autocast(q.device):
        scores = torch.matmul(q, k.transpose(-1, -2)) * scale
    if causal:
        if causal_offset is None:
            causal_offset = causal_offset_for(seqlen_q, seqlen_k, causal_alignment)
        rows = torch.arange(seqlen_q, device=q.device)[:, None]
        keys = torch.arange(seqlen_k, device=q.device)[None, :]
        scores = scores.masked_fill(keys > rows + causal_offset, -math.inf)
    row_max = scores.detach().amax(dim=-1, keepdim=True)
    row_max = row_max.masked_fill(row_max == -math.inf, 0.0)  # -inf - -inf would be NaN
    p = torch.exp(scores - row_max)
    denominator = p.sum(dim=-1, keepdim=True)
    with without_autocast(q.device):
        out = torch.matmul(p, v) / denominator.masked_fill(denominator == 0.0, 1.0)
    lse = (row_max + torch.log(denominator)).squeeze(-1)
    return out, lse
