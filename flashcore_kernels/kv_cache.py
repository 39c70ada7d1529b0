"""
Decoding: attention of new queries over a key/value cache whose lengths live on the device.

Nothing here reads the device: shapes, strides and the number of SMs decide the launch, so a call
can be captured in a CUDA graph and replayed while the lengths grow.
"""

from __future__ import annotations

from functools import cache

import torch
from torch.compiler import is_dynamo_compiling

from .autograd_notes import mark_written, refuse_tangents
from .checks import (
    check_dtype,
    check_flag,
    check_grouped_heads,
    check_headdim,
    check_no_overlap,
    check_out,
    check_same,
    check_tensor,
    ranges_meet,
    softmax_scale,
)
from .decode_plan import MAX_ROW_STRIDE, DecodePlan, plan_decode
from .guards import intercepted, refuse_out_unless_eager
from .reference import accumulation_dtype, attention_reference


def attention_with_kv_cache(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    cache_seqlens: torch.Tensor,
    k: torch.Tensor | None = None,
    v: torch.Tensor | None = None,
    *,
    causal: bool = True,
    scale: float | None = None,
    out: torch.Tensor | None = None,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """
    Append `k` and `v` to the cache, then compute softmax(q K^T * scale) V over its valid part.

    For sequence b the valid part is the first `cache_seqlens[b] + seqlen_new` positions, where
    seqlen_new is 0 without `k`. `causal` aligns the last query with the last key (bottom-right):
    query i sees key j when `j <= i + total - seqlen_q`. With seqlen_q = 2 and total = 5:

        1 1 1 1 0
        1 1 1 1 1

    With seqlen_q = 4 and total = 2 (1 = seen; rows without a 1 give 0):

        0 0
        0 0
        1 0
        1 1

    `cache_seqlens` is read, not advanced: add seqlen_new to it after the call. There is no host
    synchronisation, and a CUDA graph can capture the call.

    Args:
        q: [batch, nheads, seqlen_q, headdim], fp16 or bf16 on CUDA (fp32 and fp64 too on a CPU);
            any strides.
        k_cache: [batch, nheads_k, capacity, headdim], dtype and device of `q`; nheads must be a
            multiple of nheads_k. Any strides but the last, which must be 1 (and positions less
            than 2^24 elements apart), so a [batch, capacity, nheads_k, headdim] buffer is passed
            as `.transpose(1, 2)`.
        v_cache: Shape of `k_cache`; strides of its own.
        cache_seqlens: [batch], int32, on the device of `q`: valid positions before appending.
        k: [batch, nheads_k, seqlen_new, headdim], written to
            `k_cache[b, :, cache_seqlens[b] : cache_seqlens[b] + seqlen_new]`. Not in the memory of
            a cache. Passed with `v` or not at all.
        v: Shape of `k`; written to `v_cache`.
        causal: Hide keys after the diagonal. With seqlen_q = 1 it changes nothing.
        scale: Factor on the scores, up to 1e38 in magnitude; default 1/sqrt(headdim).
        out: Where to write the result: shape, dtype and device of `q`, last stride 1, no memory in
            common with the other arguments. Default: a new contiguous tensor.
        return_lse: Also return the log of the softmax's denominator.

    Returns:
        [batch, nheads, seqlen_q, headdim], dtype of `q`. With `return_lse` also
        [batch, nheads, seqlen_q] float32, natural log. A query that sees no key, an empty cache for
        one, has out 0 and lse -inf.

    Raises:
        TypeError: For something that is no dense tensor, a wrong dtype, a `scale` that is no number
            or a `causal` or `return_lse` that is no bool.
        ValueError: For shapes, strides or devices that do not fit, a `scale` out of range, or
            memory in common with what is written; on a CPU also for lengths that are negative or
            leave no room for `k`.
        NotImplementedError: If gradients are asked for: the cache is written in place.

    Numerics:
        Products accumulate in fp32; probabilities are rounded to the input's dtype before they meet
        V, the result once at the end. Bit-identical from run to run; the number of splits depends
        on shapes and card, so other batch sizes may differ in the last bit. What lies in the cache
        beyond the valid part never matters, NaN included.

    Limits:
        headdim 1 to 128, 64 and 128 at full speed. On CUDA, lengths can't be checked without a
        synchronisation: they are clamped to [0, capacity], and new tokens that find no room are
        neither stored nor seen, so nothing is written out of bounds. Tested on H100.

    Source:
        Flash-Decoding (Dao, Haziza, Massa, Sizov 2023); causal alignment as in FlashAttention 2.
    """
    _check_inputs(q, k_cache, v_cache, cache_seqlens)
    _check_new_tokens(k_cache, v_cache, k, v)
    _refuse_gradients(q, k_cache, v_cache, k, v)
    check_flag("causal", causal)
    check_flag("return_lse", return_lse)
    factor = softmax_scale(scale, q.shape[3])
    if is_dynamo_compiling() or intercepted():
        return _through_op(
            q, k_cache, v_cache, cache_seqlens, k, v, causal, factor, out, return_lse
        )
    if out is not None:
        check_out(out, q, k_cache, v_cache)
        if k is not None and v is not None:
            check_no_overlap(out, q, k, v)
        mark_written(out)
    result, lse = compute(
        q, k_cache, v_cache, cache_seqlens, k, v, causal, factor, out, return_lse=return_lse
    )
    if k is not None:
        mark_written(k_cache, v_cache)
    return result if lse is None else (result, lse)


def compute(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    cache_seqlens: torch.Tensor,
    k: torch.Tensor | None,
    v: torch.Tensor | None,
    causal: bool,
    scale: float,
    out: torch.Tensor | None = None,
    *,
    return_lse: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Append and attend on arguments that have been checked; also what the registered operator runs.

    Args:
        q: As for `attention_with_kv_cache`, like all that are not named here.
        k_cache: Written in place if `k` is given.
        v_cache: Likewise.
        cache_seqlens: [batch] int32.
        k: New keys, or None.
        v: New values, or None.
        causal: Bottom-right mask.
        scale: A number, not None.
        out: Where to write; default: a new contiguous tensor.
        return_lse: Whether to compute the log-sum-exp.

    Returns:
        (out, lse), lse None unless wanted.
    """
    _check_append_reads_elsewhere(q, k_cache, v_cache, k, v)  # here, since it asks for addresses
    if out is None:
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    for name, tensor in (("k_cache", k_cache), ("v_cache", v_cache), ("out", out)):
        _check_sign(name, tensor)  # here, since torch.compile knows no such question
    lse = None
    if return_lse:
        lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
    tensors = (q, k_cache, v_cache, cache_seqlens, k, v, out, lse)
    if q.is_cuda:
        from .decode_launch import launch_decode  # imports Triton, which a CPU does not need

        with torch.cuda.device(q.device):
            launch_decode(*tensors, scale, causal, _plan(q, k_cache))
    else:
        _on_cpu(*tensors, scale, causal)
    return out, lse


def _through_op(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    cache_seqlens: torch.Tensor,
    k: torch.Tensor | None,
    v: torch.Tensor | None,
    causal: bool,
    scale: float,
    out: torch.Tensor | None,
    return_lse: bool,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Call the registered operator, which torch.compile keeps as one node that writes the cache."""
    if out is not None:
        refuse_out_unless_eager(out)
        check_out(out, q, k_cache, v_cache)
    from . import op  # noqa: F401  (registers the operator)

    result, lse = torch.ops.flashcore.attention_kv_cache(
        q, k_cache, v_cache, cache_seqlens, k, v, causal, scale
    )
    result = result if out is None else out.copy_(result)
    return (result, lse) if return_lse else result


def _plan(q: torch.Tensor, k_cache: torch.Tensor) -> DecodePlan:
    """Cut the work for the device that holds the tensors."""
    from .decode import HAS_DEPENDENT_LAUNCH

    num_sms, capability = _card(q.device.index)
    return plan_decode(
        batch=q.shape[0],
        nheads_k=k_cache.shape[1],
        group=q.shape[1] // max(k_cache.shape[1], 1),
        seqlen_q=q.shape[2],
        capacity=k_cache.shape[2],
        headdim=q.shape[3],
        num_sms=num_sms,
        dependent_launch=HAS_DEPENDENT_LAUNCH and capability >= (9, 0),
    )


@cache
def _card(index: int) -> tuple[int, tuple[int, int]]:
    """Return the number of SMs and the compute capability of a CUDA device."""
    properties = torch.cuda.get_device_properties(index)
    return properties.multi_processor_count, (properties.major, properties.minor)


def _on_cpu(
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
) -> None:
    """Append and attend sequence by sequence with the reference; lengths can be checked here."""
    lengths = cache_seqlens.tolist()
    seqlen_new = 0 if k is None else k.shape[2]
    for b, length in enumerate(lengths):
        if not 0 <= length <= k_cache.shape[2] - seqlen_new:
            raise ValueError(
                f"cache_seqlens[{b}] does not fit: expected 0 to {k_cache.shape[2] - seqlen_new} "
                f"(capacity {k_cache.shape[2]} less {seqlen_new} new), got {length}"
            )
    dtype = accumulation_dtype(q)
    for b, length in enumerate(lengths):
        total = length + seqlen_new
        if k is not None and v is not None:
            k_cache[b, :, length:total] = k[b]
            v_cache[b, :, length:total] = v[b]
        row_out, row_lse = attention_reference(
            q[b : b + 1],
            k_cache[b : b + 1, :, :total],
            v_cache[b : b + 1, :, :total],
            causal=causal,
            scale=scale,
            causal_alignment="bottom-right",
            dtype=dtype,
        )
        out[b] = row_out[0]
        if lse is not None:
            lse[b] = row_lse[0]


def _check_inputs(
    q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, cache_seqlens: torch.Tensor
) -> None:
    check_tensor("q", q, 4, "[batch, nheads, seqlen_q, headdim]")
    check_dtype("q", q)
    if q.device.type not in ("cpu", "cuda"):
        raise ValueError(f"q is on an unsupported device: expected cpu or cuda, got {q.device}")
    layout = "[batch, nheads_k, capacity, headdim]"
    for name, tensor in (("k_cache", k_cache), ("v_cache", v_cache)):
        check_tensor(name, tensor, 4, layout)
        check_same(name, tensor, "q", q)
        expected = (q.shape[0], k_cache.shape[1], k_cache.shape[2], q.shape[3])
        if tuple(tensor.shape) != expected:
            raise ValueError(
                f"{name} has the wrong shape: expected {expected} {layout}, "
                f"got {tuple(tensor.shape)}"
            )
        _check_strides(name, tensor)
    check_headdim(q.shape[3])
    check_grouped_heads(q.shape[1], k_cache.shape[1])
    _check_seqlens(q, cache_seqlens)


def _check_strides(name: str, tensor: torch.Tensor) -> None:
    """Refuse layouts that the kernel can't walk in place; a copy would cost the whole cache."""
    if tensor.shape[3] > 1 and tensor.stride(3) != 1:
        raise ValueError(
            f"{name} is not dense in its last dimension: expected stride 1, got {tensor.stride(3)}"
        )
    if tensor.stride(2) > MAX_ROW_STRIDE:
        raise ValueError(
            f"{name} has too wide a stride between positions: expected at most {MAX_ROW_STRIDE} "
            f"elements, got {tensor.stride(2)}"
        )


def _check_sign(name: str, tensor: torch.Tensor) -> None:
    """Refuse memory that holds another sign than the tensor says: the kernel works in place."""
    if tensor.is_neg():
        raise ValueError(
            f"{name} is a lazily negated view: expected the numbers themselves in memory, "
            f"got their negatives; pass {name}.resolve_neg()"
        )


def _check_seqlens(q: torch.Tensor, cache_seqlens: torch.Tensor) -> None:
    check_tensor("cache_seqlens", cache_seqlens, 1, "[batch]")
    if cache_seqlens.dtype != torch.int32:
        raise TypeError(
            f"cache_seqlens has the wrong dtype: expected torch.int32, got {cache_seqlens.dtype}"
        )
    if cache_seqlens.device != q.device:
        raise ValueError(
            f"cache_seqlens is on another device than q: expected {q.device}, "
            f"got {cache_seqlens.device}; keep it on the device so that nothing has to wait for it"
        )
    if cache_seqlens.shape[0] != q.shape[0]:
        raise ValueError(
            f"cache_seqlens has the wrong length: expected batch={q.shape[0]}, "
            f"got {cache_seqlens.shape[0]}"
        )


def _check_new_tokens(
    k_cache: torch.Tensor, v_cache: torch.Tensor, k: torch.Tensor | None, v: torch.Tensor | None
) -> None:
    if (k is None) != (v is None):
        missing = "k" if k is None else "v"
        raise ValueError(f"{missing} is missing: expected k and v together, got only the other")
    if k is None or v is None:
        return
    batch, nheads_k, capacity, headdim = k_cache.shape
    for name, new, target in (("k", k, k_cache), ("v", v, v_cache)):
        check_tensor(name, new, 4, "[batch, nheads_k, seqlen_new, headdim]")
        check_same(name, new, "k_cache", k_cache)
        expected = (batch, nheads_k, k.shape[2], headdim)
        if tuple(new.shape) != expected:
            raise ValueError(
                f"{name} has the wrong shape: expected {expected}, got {tuple(new.shape)}"
            )
        if new.shape[2] > capacity:
            raise ValueError(
                f"{name} is longer than the cache: expected at most capacity={capacity} tokens, "
                f"got {new.shape[2]}"
            )
        if any(n > 1 and step == 0 for n, step in zip(target.shape, target.stride(), strict=True)):
            raise ValueError(
                f"{name}_cache can't be appended to: expected distinct elements, got an expanded "
                f"tensor with strides {target.stride()}; pass a contiguous one"
            )


def _check_append_reads_elsewhere(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k: torch.Tensor | None,
    v: torch.Tensor | None,
) -> None:
    """Refuse to read what another program of the same launch is writing."""
    if k is None:
        return
    if k_cache.data_ptr() == v_cache.data_ptr() and k_cache.numel() > 0:
        raise ValueError(
            "v_cache is k_cache: expected memory of its own to append to, got the same address"
        )
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        for cache_name, target in (("k_cache", k_cache), ("v_cache", v_cache)):
            if tensor is None or not torch._C._is_alias_of(tensor, target):
                continue  # another allocation, which is all that a step has time to ask
            if ranges_meet(tensor, target):
                raise ValueError(
                    f"{name} overlaps {cache_name} in memory: expected a separate tensor, got a "
                    f"view of the cache that is appended to; pass {name}.clone()"
                )


def _refuse_gradients(*tensors: torch.Tensor | None) -> None:
    refuse_tangents(*tensors)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        raise NotImplementedError(
            "attention_with_kv_cache has no gradient: expected tensors that don't require one, got "
            "requires_grad=True; use torch.no_grad() to decode, or attention() to train"
        )
