"""A drop-in for `torch.nn.functional.scaled_dot_product_attention`."""

from __future__ import annotations

from typing import Literal

import torch

from .attention import attention
from .checks import CPU_DTYPES, CUDA_DTYPES, MAX_HEADDIM, check_flag, check_same


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
        `attention`: first order. Under `torch.autocast` arguments are converted as torch's are.
    """
    if fallback not in (None, "torch"):
        raise ValueError(f"fallback is wrong: expected None or 'torch', got {fallback!r}")
    if (
        attn_mask is None
        and dropout_p == 0.0
        and _is_plainly_possible(query, key, value, is_causal, enable_gqa)
    ):
        out = attention(query, key, value, causal=is_causal, scale=scale)
        assert isinstance(out, torch.Tensor)  # without return_lse it is no pair
        return out
    _check_types(query, key, value, attn_mask, is_causal)
    query, key, value = _autocast(query, key, value)
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
    check_same("key", key, "query", query)
    check_same("value", value, "query", query)
    if query.ndim > 2 and key.shape[-3] not in (1, query.shape[-3]) and not enable_gqa:
        raise ValueError(
            f"key has another number of heads than query: expected {query.shape[-3]}, got "
            f"{key.shape[-3]}; pass enable_gqa=True for grouped heads"
        )
    missing = (1,) * (4 - query.ndim)
    q, k, v = (tensor.reshape(missing + tensor.shape) for tensor in (query, key, value))
    out = attention(q, k, v, causal=is_causal, scale=scale)
    assert isinstance(out, torch.Tensor)
    return out.reshape(query.shape)


def _is_plainly_possible(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    is_causal: bool,
    enable_gqa: bool,
) -> bool:
    """
    Say at a glance that nothing below can object: the host's share of most calls is this function.

    False settles nothing. `attention` checks dtypes, devices and headdim once more.
    """
    if not type(query) is type(key) is type(value) is torch.Tensor or type(is_causal) is not bool:
        return False
    if query.is_nested or key.is_nested or value.is_nested or not (query.is_cuda or query.is_cpu):
        return False
    if query.dtype not in CUDA_DTYPES or torch.is_autocast_enabled(query.device.type):
        return False
    of_query, of_key = query.shape, key.shape
    return (
        len(of_query) == len(of_key) == 4
        and of_key == value.shape
        and of_query[0] == of_key[0]
        and (enable_gqa or of_query[1] == of_key[1])
        and 1 <= of_query[3] <= MAX_HEADDIM
    )


def _check_types(query: object, key: object, value: object, mask: object, causal: object) -> None:
    """Name what no attention takes, by the names of this signature."""
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} is not a tensor: expected one, got {type(tensor).__name__}")
    if mask is not None and not isinstance(mask, torch.Tensor):
        raise TypeError(f"attn_mask is not a tensor: expected None, got {type(mask).__name__}")
    check_flag("is_causal", causal)


def _autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Under `torch.autocast`, convert as it converts the arguments of torch's function."""
    kind = tensors[0].device.type
    if kind not in ("cpu", "cuda") or not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    casts = (t.is_floating_point() and t.dtype != torch.float64 for t in tensors)
    return tuple(t.to(dtype) if cast else t for t, cast in zip(tensors, casts, strict=True))


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
    return _broadcast_value(tuple(key.shape[:-2]), tuple(value.shape[:-2]))


def _broadcast_value(of_key: tuple[int, ...], of_value: tuple[int, ...]) -> str | None:
    """Say that torch would broadcast key and value to each other, or None."""
    pairs = zip(of_key[::-1], of_value[::-1], strict=False)
    if of_key == of_value or not all(a == b or 1 in (a, b) for a, b in pairs):
        return None
    return f"value is broadcast over batch or heads: expected {of_key} as key has, got {of_value}"


def _unsupported_tensor(name: str, tensor: torch.Tensor) -> str | None:
    """Say why one tensor, valid for torch, can't be computed with here, or None."""
    if tensor.is_nested or tensor.layout is not torch.strided:
        got = "a nested one" if tensor.is_nested else tensor.layout
        return f"{name} is not dense: expected a strided tensor, got {got}"
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
