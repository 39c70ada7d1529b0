"""
What "right" means for an attention kernel, against the float64 reference.

Several gates, because each catches what the others let pass: a masking slip on one row disappears
in a mean over the tensor; a small error everywhere disappears in a maximum.
"""

from __future__ import annotations

import math

import torch

from flashcore_kernels.reference import attention_reference

# Clean kernels reach 2.1-2.8e-4 and 1.6-2.2e-3; the seed's masking slip at seqlen 127 gave 4.8e-3
# in both dtypes, and passed the usual rtol=1e-2.
RELATIVE_RMSE = {torch.float16: 5e-4, torch.bfloat16: 3e-3}
# For one row: a kernel that rounds nothing but its probabilities and its result reaches 4.7e-4 and
# 3.5e-3 in the worst of 30 000 random rows of 64 elements. Shorter rows scatter more.
ROW_RELATIVE_RMSE = {torch.float16: 7e-4, torch.bfloat16: 5e-3}
ROW_ELEMENTS = 64
# Float64 scores that the reference holds at once, a few times over: 15 processes share one card.
MAX_SCORES = 2**24
UNIT_ROUNDOFF = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
SMALLEST_PROBABILITY = {torch.float16: 2.0**-24, torch.bfloat16: 2.0**-133}
LSE_TOLERANCE = 1e-3


def assert_accurate(
    out: torch.Tensor,
    lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    causal_offset: int = 0,
    scale: float | None = None,
) -> None:
    """
    Compare a kernel's result with the float64 reference, as a whole and element by element.

    The element bound is the worst case of the two roundings that the kernel makes: each probability
    once, the result once (u is the dtype's unit roundoff, P and r are exact)::

        |out - r| <= u |r| + (u + 2e-6 (1 + max|scores|)) sum_j P_j |v_j| + smallest_p sum_j |v_j|

    Args:
        out: What the kernel returned.
        lse: Its log-sum-exp, or None.
        q: The inputs, as the kernel got them.
        k: Likewise.
        v: Likewise.
        causal: Likewise.
        causal_offset: Likewise.
        scale: Likewise.
    """
    mask = {"causal": causal, "causal_offset": causal_offset, "scale": scale}
    exact, exact_lse = _reference_in_chunks(q, k, v, **mask)
    assert out.dtype == q.dtype
    assert out.shape == q.shape
    assert bool(torch.isfinite(out).all())

    error = (out.double() - exact).abs()
    norm = exact.norm()
    if norm > 0:
        assert (error.norm() / norm).item() <= RELATIVE_RMSE[q.dtype]
    else:
        assert int(out.count_nonzero()) == 0

    u = UNIT_ROUNDOFF[q.dtype]
    spread, _ = _reference_in_chunks(q, k, v.abs(), **mask)
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    longest = q.double().norm(dim=-1).amax() * k.double().norm(dim=-1).amax() * abs(scale)
    # Scores carry float32 rounding in proportion to their size, and exp turns it relative.
    score_noise = 2e-6 * (1 + longest)
    floor = SMALLEST_PROBABILITY[q.dtype] * v.double().abs().sum(dim=2).amax()
    assert bool((error <= u * exact.abs() + (u + score_noise) * spread + floor).all())
    if q.shape[3] >= ROW_ELEMENTS:
        limit = ROW_RELATIVE_RMSE[q.dtype] * exact.norm(dim=-1) + floor * q.shape[3] ** 0.5
        assert bool((error.norm(dim=-1) <= limit + score_noise * spread.norm(dim=-1)).all())

    if lse is not None:
        assert lse.dtype == torch.float32
        visible = exact_lse > -math.inf
        assert torch.equal(lse > -math.inf, visible)
        lse_error = (lse.double() - exact_lse)[visible].abs()
        bound = LSE_TOLERANCE + 1e-6 * exact_lse[visible].abs()
        assert bool((lse_error <= bound).all())


def assert_no_worse_than_plain_torch(
    out: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = False
) -> None:
    """
    Require a largest error of at most that of unfused PyTorch in the same dtype.

    One rounding of the exact answer is added: with few keys the unfused one can be exact by luck.
    """
    exact, _ = _reference_in_chunks(q, k, v, causal=causal)
    naive, _ = _reference_in_chunks(q, k, v, causal=causal, dtype=q.dtype)
    rounding = (exact.to(q.dtype).double() - exact).abs().max().item()
    worst = (out.double() - exact).abs().max().item()
    assert worst <= (naive.double() - exact).abs().max().item() + rounding


def _reference_in_chunks(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool,
    causal_offset: int = 0,
    scale: float | None = None,
    dtype: torch.dtype = torch.float64,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the reference some query rows at a time, so that long sequences fit beside others."""
    per_row = max(1, q.shape[0] * q.shape[1] * k.shape[2])
    rows = max(1, MAX_SCORES // per_row)
    chunks = [
        attention_reference(
            q[:, :, start : start + rows],
            k,
            v,
            causal=causal,
            causal_offset=causal_offset + start,
            scale=scale,
            dtype=dtype,
        )
        for start in range(0, max(q.shape[2], 1), rows)
    ]
    outs, lses = zip(*chunks, strict=True)
    return torch.cat(outs, dim=2), torch.cat(lses, dim=2)
