"""A drop-in for `torch.nn.functional.scaled_dot_product_attention`."""

from __future__ import annotations

from typing import Literal

import torch

from .attention import attention
from .checks import CPU_DTYPES, CUDA_DTYPES, MAX_HEADDIM


def scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    fallback: Literal["torch"] | None = None,
) -> torch.Tensor:
    """
    Compute softmax(query key^T * scale) value with torch's arguments, names and conventions.

    `is_causal` is aligned top-left, as in torch: query i sees key j when `j <= i`, whatever the
    lengths. For seqlen_q = 2, seqlen_k = 4 (1 = seen):

        1 0 0 0
        1 1 0 0

    What this package can't compute raises; nothing is handed to torch unless `fallback` says so,
    because a call that silently runs another kernel can't be measured or reasoned about.

    Args:
        query: [batch, nheads, seqlen_q, headdim], or without batch, or without batch and nheads.
        key: [batch, nheads_k, seqlen_k, headdim], as many dimensions as `query`.
        value: Shape of `key`.
        attn_mask: Only None.
        dropout_p: Only 0.
        is_causal: Hide keys after the top-left diagonal.
        scale: Factor on the scores; default 1/sqrt(headdim).
        enable_gqa: Allow nheads to be a multiple of nheads_k. A single key/value head needs no
            permission: torch broadcasts it.
        fallback: "torch" to hand what can't be computed here to torch's function; None to raise.

    Returns:
        Shape and dtype of `query`.

    Raises:
        NotImplementedError: For what torch can do and this package can't, naming the argument,
            what is possible and what was given. With `fallback="torch"` only for the derivatives
            that `attention` refuses.
        TypeError: From `attention`, for arguments that are wrong for both.
        ValueError: Likewise; also for a `fallback` that is neither None nor "torch", and for
            differing numbers of heads without `enable_gqa`.

    Numerics:
        As `attention`.

    Limits:
        fp16 and bf16 on CUDA, headdim up to 128, no broadcasting over the batch. Gradients as
        `attention`: first order.
    """
    if fallback not in (None, "torch"):
        raise ValueError(f"fallback is wrong: expected None or 'torch', got {fallback!r}")
    obstacle = _obstacle(query, key, value, attn_mask, dropout_p)
    if obstacle is not None:
        if fallback == "torch":
            return torch.nn.functional.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask,
                dropout_p,
                is_causal,
                scale=scale,
                enable_gqa=enable_gqa,
            )
        raise NotImplementedError(
            f"{obstacle}; pass fallback='torch' to let torch compute such calls"
        )
    if query.ndim > 2 and key.shape[-3] not in (1, query.shape[-3]) and not enable_gqa:
        raise ValueError(
            f"key has another number of heads than query: expected {query.shape[-3]}, got "
            f"{key.shape[-3]}; pass enable_gqa=True for grouped heads"
        )
    missing = (1,) * (4 - query.ndim)
    q, k, v = (tensor.reshape(missing + tensor.shape) for tensor in (query, key, value))
    out = attention(q, k, v, causal=is_causal, scale=scale)
    assert isinstance(out, torch.Tensor)  # without return_lse it is no pair
    return out.reshape(query.shape)


def _obstacle(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None,
    dropout_p: float,
) -> str | None:
    """Say what torch could compute here and this package can't, or None."""
    if attn_mask is not None:
        got = f"{tuple(attn_mask.shape)} {attn_mask.dtype}"
        return f"attn_mask is not supported: expected None (or is_causal=True), got {got}"
    if dropout_p != 0.0:
        return f"dropout_p is not supported: expected 0.0, got {dropout_p}"
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        problem = _unsupported_tensor(name, tensor)
        if problem is not None:
            return problem
    if value.shape[-1] != query.shape[-1]:
        return f"value has a headdim of its own: expected {query.shape[-1]}, got {value.shape[-1]}"
    if query.shape[:-3] != key.shape[:-3] or query.ndim != key.ndim:
        return (
            f"key is broadcast over the batch: expected batch {tuple(query.shape[:-3])}, "
            f"got {tuple(key.shape[:-3])}"
        )
    if query.ndim > 2 and query.shape[-3] == 1 != key.shape[-3]:
        return f"query is broadcast over the heads: expected {key.shape[-3]} heads, got 1"
    return None


def _unsupported_tensor(name: str, tensor: torch.Tensor) -> str | None:
    """Say why one tensor, valid for torch, can't be computed with here, or None."""
    if tensor.is_nested or tensor.layout is not torch.strided:
        return f"{name} is not dense: expected a strided tensor, got {tensor.layout}"
    if not 2 <= tensor.ndim <= 4:
        return f"{name} has {tensor.ndim} dimensions: expected 2 to 4"
    if tensor.device.type not in ("cpu", "cuda", "meta"):
        return f"{name} is on an unsupported device: expected cpu or cuda, got {tensor.device}"
    supported = CUDA_DTYPES if tensor.is_cuda else CPU_DTYPES
    if tensor.dtype not in supported:
        names = ", ".join(map(str, supported))
        return f"{name} has an unsupported dtype: expected one of {names}, got {tensor.dtype}"
    if not 1 <= tensor.shape[-1] <= MAX_HEADDIM:
        return (
            f"{name} has an unsupported headdim: expected 1 to {MAX_HEADDIM}, "
            f"got {tensor.shape[-1]}"
        )
    return None
