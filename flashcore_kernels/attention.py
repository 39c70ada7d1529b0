"""The entry point of attention: check, take the fast path or the long one. No arithmetic here."""

from __future__ import annotations

from typing import Any

import torch
from torch.compiler import is_dynamo_compiling

from . import checks, dispatch
from .autograd_notes import (
    in_forward_mode,
    mark_written,
    refuse_all_but_backward,
    refuse_tangents,
)
from .guards import guard_for, intercepted, refuse_out_unless_eager
from .plans import plan_key as key_of
from .plans import plans
from .reference import accumulation_dtype, attention_reference

_EMPTY_ROW_LSE = float("-inf")
# One more element than this between two rows of a tile, and a tile's 32-bit offsets overflow.
_MAX_ROW_STRIDE = 2**31 // 256
# Smaller factors are 0 in the kernel's float32, and 0 * -inf makes NaN of a hidden score.
_MIN_SCALE = 2.0**-126


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    out: torch.Tensor | None = None,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """
    Compute softmax(q k^T * scale + mask) v for every head, without storing the scores.

    Causal is aligned top-left, as in PyTorch: row i sees key j when j <= i. Drawn for
    seqlen_q = 2, seqlen_k = 5 and for seqlen_q = 5, seqlen_k = 2 (1 is visible)::

        1 0 0 0 0        1 0
        1 1 0 0 0        1 1
                         1 1
                         1 1
                         1 1

    Args:
        q: [batch, nheads, seqlen_q, headdim], float16 or bfloat16 on CUDA (float32 and float64 on
            the CPU too): the queries. Any strides; a last stride other than 1 costs a copy.
        k: [batch, nheads_k, seqlen_k, headdim], as `q`: the keys. nheads must be a multiple of
            nheads_k; consecutive query heads share a key head, nothing is expanded.
        v: [batch, nheads_k, seqlen_k, headdim], as `q`: the values.
        causal: Hide later keys, as drawn.
        scale: Factor on the scores; default 1/sqrt(headdim). Any number up to 1e38 in magnitude:
            zero and negative ones cost a copy of `q`.
        out: Where to write the result: `q`'s shape, dtype and device, last stride 1, not
            overlapping an input. Default: a new tensor, dense, its dimensions in `q`'s order.
        return_lse: Return the log-sum-exp too.

    Returns:
        `out` [batch, nheads, seqlen_q, headdim] in `q`'s dtype; with `return_lse`, the pair
        (out, lse) where lse [batch, nheads, seqlen_q] float32 is the natural log of each row's
        sum of exponentials. A row that sees no key has out 0 and lse -inf.

    Raises:
        TypeError: If something is no dense tensor or has a dtype without a kernel, or if `causal`
            or `return_lse` is no bool or `scale` no number.
        ValueError: If shapes, devices, `scale` or `out` don't fit, or if `out` is passed together
            with inputs that need gradients, or needs one itself, or inside a trace.
        NotImplementedError: For a forward-mode derivative, but of plain CPU tensors, inside
            `torch.func.grad` and its kin, and when a gradient's gradient is asked for.

    Numerics:
        Scores, softmax and sums are float32; probabilities are rounded to `q`'s dtype before they
        meet the values, the result once at the end. Relative RMS error against float64: below
        5e-4 (float16) and 3e-3 (bfloat16). Bit-identical over repeats. Holds for scaled scores up
        to 1e8 in magnitude; those closer than float32's rounding of the largest are alike.

        NaN in a query stays in its row; in a key it reaches the rows that see it; in a value one
        column of those rows and, as 0 * NaN, of others whose tile reads that block of keys (of all
        rows on the CPU). A score of -inf counts as hidden; on CUDA, a row with no other score in
        a block of keys may be NaN.

    Limits:
        headdim 1 to 128; 64 and 128 run at full speed, others are padded to the next power of two
        inside the kernel. Offsets beyond 2^31 elements are fine. Tuned for H100 (sm_90).

    Source:
        Dao, "FlashAttention-2" (2023); Milakov & Gimelshein, "Online normalizer calculation for
        softmax" (2018).
    """
    if is_dynamo_compiling():
        softmax_scale = _check_arguments(q, k, v, causal, scale, return_lse)
        return _through_op(q, k, v, causal, softmax_scale, out, return_lse)
    # From here to the launch every line is on the host's critical path: a few attributes and one
    # guard, no checks. A call that a plan's guard lets through has passed them all once.
    if not in_forward_mode():
        plan = plans.latest
        if (
            plan is not None
            and out is None
            and causal is plan.causal
            and scale is plan.scale
            and return_lse is plan.return_lse
        ):
            result = plan.repeat(q, k, v, None)
            if result is not None:
                return result
        for plan in plans.similar(q, k, causal, scale, out, return_lse):
            result = plan.repeat(q, k, v, out)
            if result is not None:
                plans.latest = plan if out is None else plans.latest
                return result
    return _attention_checked(q, k, v, causal, scale, out, return_lse)


def _needs_gradients(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> bool:
    needs: bool = q.requires_grad or k.requires_grad or v.requires_grad
    return needs and torch.is_grad_enabled()


def _check_arguments(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    causal: bool,
    scale: float | None,
    return_lse: bool,
) -> float:
    """Check all but `out`, alike in eager mode and under torch.compile; return the scale."""
    checks.check_attention_inputs(q, k, v)
    checks.check_flag("causal", causal)
    checks.check_flag("return_lse", return_lse)
    return checks.softmax_scale(scale, q.shape[3])


def _attention_checked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    causal: bool,
    scale: float | None,
    out: torch.Tensor | None,
    return_lse: bool,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Take the way that checks everything, and remember the launch for the next call like it."""
    softmax_scale = _check_arguments(q, k, v, causal, scale, return_lse)
    if _needs_gradients(q, k, v):
        if out is not None:
            raise ValueError(
                "out has no gradient: expected inputs that don't require gradients, got some that "
                "do; call under torch.no_grad(), or leave out away"
            )
        return _through_op(q, k, v, causal, softmax_scale, None, return_lse)
    plain = all(type(tensor) in (torch.Tensor, torch.nn.Parameter) for tensor in (q, k, v))
    if not plain or intercepted():
        # Fake tensors, subclasses, vmap: their addresses mean nothing, the op knows what to do.
        return _through_op(q, k, v, causal, softmax_scale, out, return_lse)
    if out is not None:
        checks.check_out(out, q, k, v)
    if not q.is_cuda:
        result, lse = _on_cpu(q, k, v, causal, softmax_scale, out)
    else:
        key = key_of(q, k, causal, scale, out, return_lse)
        result, lse = _forward(q, k, v, causal, softmax_scale, 0, out, return_lse, plan_key=key)
    return (result, lse) if return_lse and lse is not None else result


def _forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    causal: bool,
    scale: float,
    causal_offset: int,
    out: torch.Tensor | None = None,
    want_lse: bool = True,
    *,
    plan_key: tuple[Any, ...] | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Compute attention with the kernels, on arguments that have been checked.

    Also what stands behind the registered op. CPU tensors run in Triton's interpreter only.

    Args:
        q: [batch, nheads, seqlen_q, headdim].
        k: [batch, nheads_k, seqlen_k, headdim].
        v: As `k`.
        causal: Whether row i sees only keys j <= i + causal_offset.
        scale: Any finite number.
        causal_offset: The diagonal's offset in keys.
        out: Where to write; default: a new tensor with the strides of `q`.
        want_lse: Whether to compute the log-sum-exp.
        plan_key: What to remember the launch under; None forgets it.

    Returns:
        (out, lse), lse None unless wanted.
    """
    refuse_tangents(q, k, v)
    if out is None:
        out = torch.empty_like(q)
    else:
        mark_written(out)
    lse = _empty_lse(q) if want_lse else None
    if q.numel() == 0:
        return out, lse
    if k.shape[2] == 0:
        return out.zero_(), lse.fill_(_EMPTY_ROW_LSE) if lse is not None else None
    plain_q, scale = _with_positive_scale(q, scale)
    inputs = (_readable(plain_q), _readable(k), _readable(v))
    target = out
    if not _has_near_dense_rows(out):  # such as the strides of a q whose last stride is not 1
        target = torch.empty_like(out, memory_format=torch.contiguous_format)
    plan = dispatch.run(
        *inputs, target, lse, scale=scale, causal=causal, causal_offset=causal_offset
    )
    if target is not out:
        out.copy_(target)
    tensors = (*inputs, target)
    unchanged = all(a is b for a, b in zip(tensors, (q, k, v, out), strict=True))
    if plan is not None and plan_key is not None and unchanged:
        plans.remember(plan_key, plan, guard_for(q, k, v))
    return out, lse


def _empty_lse(q: torch.Tensor) -> torch.Tensor:
    return torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)


def _with_positive_scale(q: torch.Tensor, scale: float) -> tuple[torch.Tensor, float]:
    """
    Move the sign of the scale into q: the kernel takes the maximum before it scales.

    Negation is exact, and so is 0 * q, which also keeps the NaN that 0 * NaN should give. A factor
    too small for float32 counts as 0.
    """
    if abs(scale) < _MIN_SCALE:
        return q * 0.0, 1.0
    return (q, scale) if scale > 0 else (-q, -scale)


def _readable(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor, or a contiguous copy where the kernel can't read it."""
    return tensor if _has_near_dense_rows(tensor) else tensor.resolve_neg().contiguous()


def _has_near_dense_rows(tensor: torch.Tensor) -> bool:
    """Say whether the kernels can walk the tensor: rows dense, 32 bits apart, no lazy sign."""
    dense = (tensor.stride(3) == 1 or tensor.shape[3] == 1) and not tensor.is_neg()
    return dense and tensor.stride(2) < _MAX_ROW_STRIDE


def _on_cpu(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    causal: bool,
    scale: float,
    out: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute by the reference, in float32 or in the inputs' float64."""
    dtype = accumulation_dtype(q)
    result, lse = attention_reference(q, k, v, causal=causal, scale=scale, dtype=dtype)
    out = torch.empty_like(q) if out is None else out
    return out.copy_(result), lse.to(torch.float32)


def _through_op(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    causal: bool,
    scale: float,
    out: torch.Tensor | None,
    return_lse: bool,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Call the registered op, which torch.compile keeps as one node and knows the shapes of."""
    refuse_all_but_backward(q, k, v)
    if out is not None:
        refuse_out_unless_eager(out)
        checks.check_out(out, q, k, v)
    from . import op  # noqa: F401  (registers the op)

    result, lse = torch.ops.flashcore.attention_forward(q, k, v, causal, scale, 0)
    result = result if out is None else out.copy_(result)
    return (result, lse.float()) if return_lse else result  # the op's is float64 for float64
