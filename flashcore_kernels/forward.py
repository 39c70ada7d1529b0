"""
The plain Triton forward kernel: one online-softmax pass over the keys, for every shape and stride.

A program owns BLOCK_M query rows of one head and walks over the keys in tiles of BLOCK_N. Tiles
arrive in shared memory by asynchronous copies that Triton pipelines over num_stages; scores and
probabilities never leave registers.

Source:
    Online softmax: Milakov & Gimelshein, "Online normalizer calculation for softmax" (2018).
    Tiling, row-parallel grid and late normalisation: Dao, "FlashAttention-2" (2023).
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from .configs import TileConfig
from .launch import AnyLaunch, launch, prepare

LOG2_E = math.log2(math.e)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _load(pointers, rows, columns, limit, BOUND_ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """
    Load a tile with zeros where `rows` reach `limit` (if BOUND_ROWS) or `columns` reach COLUMNS.

    Zeros, not whatever lies there: a hidden key's probability is 0, but 0 * NaN is NaN.
    `rows` and `columns` come with the broadcast dimension that the tile needs; COLUMNS is 0 when
    the tile is exactly as wide as the data.
    """
    if BOUND_ROWS:
        if COLUMNS > 0:
            tile = tl.load(pointers, mask=(rows < limit) & (columns < COLUMNS), other=0.0)
        else:
            tile = tl.load(pointers, mask=rows < limit, other=0.0)
    elif COLUMNS > 0:
        tile = tl.load(pointers, mask=columns < COLUMNS, other=0.0)
    else:
        tile = tl.load(pointers)
    return tile


@triton.jit
def _store(pointers, tile, rows, columns, limit, BOUND_ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Store a tile within the same bounds as `_load`."""
    if BOUND_ROWS:
        if COLUMNS > 0:
            tl.store(pointers, tile, mask=(rows < limit) & (columns < COLUMNS))
        else:
            tl.store(pointers, tile, mask=rows < limit)
    elif COLUMNS > 0:
        tl.store(pointers, tile, mask=columns < COLUMNS)
    else:
        tl.store(pointers, tile)


@triton.jit
def _prefetch(base, stride, limit, BLOCK_D: tl.constexpr, ROWS: tl.constexpr):
    """Ask L2 for the first ROWS rows of a key or value head: one line of 128 bytes per request."""
    LINE: tl.constexpr = 64  # elements of 2 bytes
    rows = tl.minimum(tl.arange(0, ROWS), limit - 1)
    lines = tl.arange(0, (BLOCK_D + LINE - 1) // LINE) * LINE
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;",
        "=r,l",
        [base + rows[:, None] * stride + lines[None, :]],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )


@triton.jit
def _hide(scores, rows, keys, seqlen_k, causal_offset, CAUSAL: tl.constexpr, EVEN_N: tl.constexpr):
    """
    Set the scores of keys after a row's diagonal, and of keys past the end, to -inf.

    Zeros loaded past the end are not enough: a score of 0 would add exp(0 - max) to the sum. That
    was the seed's error at lengths that are no multiple of the tile.
    """
    if CAUSAL:
        visible = keys[None, :] <= rows[:, None] + causal_offset
        scores = tl.where(visible, scores, float("-inf"))
    if not EVEN_N:
        scores = tl.where((keys < seqlen_k)[None, :], scores, float("-inf"))
    return scores


@triton.jit(do_not_specialize=["seqlen_q", "seqlen_k", "causal_offset"])
def attention_forward_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    lse_ptr,
    scale_log2e,
    seqlen_q,
    seqlen_k,
    causal_offset,
    stride_qb,
    stride_qh,
    stride_qm,
    stride_kb,
    stride_kh,
    stride_kn,
    stride_vb,
    stride_vh,
    stride_vn,
    stride_ob,
    stride_oh,
    stride_om,
    HEADDIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    GROUP: tl.constexpr,
    CAUSAL: tl.constexpr,
    EVEN_M: tl.constexpr,
    EVEN_N: tl.constexpr,
    WRITE_LSE: tl.constexpr,
    CONTIGUOUS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
    PREFETCH: tl.constexpr,
):
    """
    Compute out and lse for the BLOCK_M rows of program (tile, head, batch).

    The tile is the grid's fastest axis, so that the programs that share a head's keys run together
    and find them in L2. With a causal mask the last rows have the most keys: their programs start
    first, so that the short ones fill the gaps at the end.

    EVEN_M and EVEN_N say that the lengths are multiples of the blocks and drop the bounds checks;
    CONTIGUOUS that all four tensors are, and drops the strides (which are then None): 744 -> 592
    instructions at 64x64. The lengths and the diagonal are not specialised by Triton: a new length
    does not recompile. lse_ptr is None unless WRITE_LSE.
    """
    tile = tl.program_id(0)
    head = tl.program_id(1)
    batch = tl.program_id(2)
    if CAUSAL:
        tile = tl.num_programs(0) - 1 - tile
    first_row = tile * BLOCK_M
    # Base offsets in 64 bits: batch * heads * seqlen * headdim passes 2^31 in real use.
    batch_head = batch.to(tl.int64) * tl.num_programs(1) + head
    if CONTIGUOUS:
        stride_qm = HEADDIM
        stride_kn = HEADDIM
        stride_vn = HEADDIM
        stride_om = HEADDIM
        q_base = q_ptr + batch_head * seqlen_q * HEADDIM
        out_base = out_ptr + batch_head * seqlen_q * HEADDIM
        # nheads = nheads_k * GROUP, so the key head of (batch, head) is simply this quotient.
        k_base = k_ptr + (batch_head // GROUP) * seqlen_k * HEADDIM
        v_base = v_ptr + (batch_head // GROUP) * seqlen_k * HEADDIM
    else:
        batch = batch.to(tl.int64)
        head = head.to(tl.int64)
        q_base = q_ptr + batch * stride_qb + head * stride_qh
        out_base = out_ptr + batch * stride_ob + head * stride_oh
        k_base = k_ptr + batch * stride_kb + (head // GROUP) * stride_kh
        v_base = v_ptr + batch * stride_vb + (head // GROUP) * stride_vh

    offs_m = tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, BLOCK_N)
    offs_d = tl.arange(0, BLOCK_D)
    rows = first_row + offs_m
    BOUND_D: tl.constexpr = 0 if HEADDIM == BLOCK_D else HEADDIM
    q_pointers = q_base + first_row.to(tl.int64) * stride_qm
    q_pointers += offs_m[:, None] * stride_qm + offs_d[None, :]
    if PREFETCH:
        # q's way through registers into shared memory stalls the program before the first copy of
        # keys is issued: two memory latencies in a row. Asking L2 for the first keys and values
        # here makes them overlap, for 8 instructions.
        PREFETCH_ROWS: tl.constexpr = 2 * BLOCK_N if STAGES > 2 else BLOCK_N
        _prefetch(k_base, stride_kn, seqlen_k, BLOCK_D, PREFETCH_ROWS)
        _prefetch(v_base, stride_vn, seqlen_k, BLOCK_D, PREFETCH_ROWS)
    q = _load(q_pointers, rows[:, None], offs_d[None, :], seqlen_q, not EVEN_M, BOUND_D)
    k_pointers = k_base + offs_n[None, :] * stride_kn + offs_d[:, None]
    v_pointers = v_base + offs_n[:, None] * stride_vn + offs_d[None, :]

    # Keys before whole_end are seen by every row of the tile, keys from end_key on by none.
    end_key = seqlen_k
    whole_end = seqlen_k
    if CAUSAL:
        end_key = tl.minimum(seqlen_k, first_row + BLOCK_M + causal_offset)
        whole_end = tl.minimum(seqlen_k, first_row + 1 + causal_offset)
    acc = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    row_sum = tl.zeros([BLOCK_M], dtype=tl.float32)
    row_max = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    for start in tl.range(0, end_key, BLOCK_N, num_stages=STAGES):
        keys = start + offs_n
        k = _load(k_pointers, keys[None, :], offs_d[:, None], seqlen_k, not EVEN_N, BOUND_D)
        scores = tl.dot(q, k)
        if CAUSAL or not EVEN_N:  # noqa: SIM102 (the outer one is decided by the compiler)
            # One loop with a branch around the mask, not one loop for whole tiles and another for
            # cut ones: the second loop's pipeline starts empty, which exposes a memory latency per
            # program, and both together took 120 registers instead of 108 and 1184 instructions
            # instead of 784 (64x64, causal).
            if start + BLOCK_N > whole_end:
                scores = _hide(scores, rows, keys, seqlen_k, causal_offset, CAUSAL, EVEN_N)
        # row_max is in units of log2: exp2 is the hardware's exponential, and with
        # scale * log2(e) folded in, a score costs one fused multiply-add before it. That needs
        # scale_log2e > 0, because the maximum is taken before scaling: the host sees to it.
        new_max = tl.maximum(row_max, tl.max(scores, 1) * scale_log2e)
        shift = new_max
        if CAUSAL:
            # A row that has seen no key yet has maximum -inf, and -inf - -inf is NaN.
            shift = tl.where(new_max == float("-inf"), 0.0, new_max)
        rescale = tl.math.exp2(row_max - shift)
        p = tl.math.exp2(scores * scale_log2e - shift[:, None])
        row_sum = row_sum * rescale + tl.sum(p, 1)
        acc = acc * rescale[:, None]
        v = _load(v_pointers, keys[:, None], offs_d[None, :], seqlen_k, not EVEN_N, BOUND_D)
        # p is rounded to the inputs' dtype so that the product runs on tensor cores at full rate;
        # for values of at most 1 that costs one rounding, about what storing the output costs.
        acc = tl.dot(p.to(v.dtype), v, acc)
        row_max = new_max
        k_pointers += BLOCK_N * stride_kn
        v_pointers += BLOCK_N * stride_vn

    # A row that saw no key has sum 0: its output is 0 and its lse is -inf, not NaN.
    acc = acc * (1.0 / tl.where(row_sum == 0.0, 1.0, row_sum))[:, None]
    if WRITE_LSE:
        lse = (row_max + tl.math.log2(row_sum)) * LN_2
        lse_pointers = lse_ptr + batch_head * seqlen_q + rows
        tl.store(lse_pointers, lse, mask=rows < seqlen_q)
    out_pointers = out_base + first_row.to(tl.int64) * stride_om
    out_pointers += offs_m[:, None] * stride_om + offs_d[None, :]
    out = acc.to(out_ptr.dtype.element_ty)
    _store(out_pointers, out, rows[:, None], offs_d[None, :], seqlen_q, not EVEN_M, BOUND_D)


# The interpreter knows no inline assembly.
COMPILED = isinstance(attention_forward_kernel, triton.runtime.JITFunction)


def plain_forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor | None,
    *,
    scale: float,
    causal: bool,
    causal_offset: int,
    config: TileConfig,
) -> AnyLaunch | None:
    """
    Launch the plain kernel on the current device and stream.

    Args:
        q: [batch, nheads, seqlen_q, headdim], last stride 1, nothing empty, batch <= 65535.
        k: [batch, nheads_k, seqlen_k, headdim], last stride 1.
        v: As `k`.
        out: As `q`; written.
        lse: [batch, nheads, seqlen_q] float32 contiguous, written; None if not wanted.
        scale: Factor on the scores, > 0.
        causal: Whether row i sees only keys j <= i + causal_offset.
        causal_offset: The diagonal's offset in keys.
        config: The tile.

    Returns:
        A launch that repeats this one on other tensors of the same dtype, shapes, strides and
        alignment; None where that can't be had.
    """
    batch, nheads, seqlen_q, headdim = q.shape
    seqlen_k = k.shape[2]
    contiguous = all(tensor.is_contiguous() for tensor in (q, k, v, out))
    strides = [stride for tensor in (q, k, v, out) for stride in tensor.stride()[:3]]
    constexprs = (
        headdim,
        max(16, triton.next_power_of_2(headdim)),  # BLOCK_D: tl.dot needs 16
        nheads // k.shape[1],  # GROUP
        causal,
        seqlen_q % config.BLOCK_M == 0,  # EVEN_M
        seqlen_k % config.BLOCK_N == 0,  # EVEN_N
        lse is not None,  # WRITE_LSE
        contiguous,
        config.BLOCK_M,
        config.BLOCK_N,
        config.num_stages,
        config.prefetch and COMPILED,
    )
    pointers = (q, k, v, out, lse)
    lengths = (scale * LOG2_E, seqlen_q, seqlen_k, causal_offset)
    scalars = (*lengths, *([None] * 12 if contiguous else strides), *constexprs)
    grid = (triton.cdiv(seqlen_q, config.BLOCK_M), nheads, batch)
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    handle = launch(attention_forward_kernel, grid, (*pointers, *scalars), options)
    return prepare(handle, grid, pointers, scalars)
