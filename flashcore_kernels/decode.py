"""
Attention of a few new queries over a long key/value cache: one split kernel, one combine kernel.

Decoding reads the whole cache once and computes almost nothing with it, so its floor is the bytes
of the cache over the memory bandwidth, and every choice here serves one end: keep enough loads in
flight, on every SM, from the first cycle to the last.

* *The group is packed into one tile.* Query heads that share a key/value head are rows of one tile,
  so the cache is read once per group, not once per query head.
* *Keys are the rows of the matrix product.* The kernel computes the transpose, `S^T = K Q^T` and
  `O^T = V^T P^T`. A wgmma has at least 64 rows but as few as 8 columns: with the handful of queries
  on the column side nothing is padded to 64, and K and V go from shared memory straight into the
  tensor core. With queries as rows, mma.sync tiles of 16 rows make every warp load the whole of V
  through its registers.
* *The cache is split* over enough programs to fill the card (Flash-Decoding). How many is decided
  from the capacity, which the host knows; what each one reads from the length, which only the
  device knows. So the host never waits for the device and a CUDA graph can hold the call.
* *New keys and values are appended by the program that attends to them*, straight from `k` and `v`:
  nobody reads in the cache what is written there in the same launch, so there is no race and no
  second kernel.

Source:
    Dao, Haziza, Massa, Sizov: Flash-Decoding for long-context inference (2023); the online softmax
    of Milakov & Gimelshein (2018), arXiv:1805.02867.
"""

from __future__ import annotations

import triton
import triton.language as tl

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # an older Triton: the combine kernel then waits for the split kernel's end
    gdc_launch_dependents = gdc_wait = None

HAS_DEPENDENT_LAUNCH = gdc_wait is not None
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _mask_tile(is_row, dim, HEADDIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """Spread a mask over rows to [rows, BLOCK_D], leaving out the padding of the head dimension."""
    mask = is_row[:, None]
    if BLOCK_D != HEADDIM:  # else one predicate per row keeps the 16-byte copies whole
        mask = mask & (dim < HEADDIM)[None, :]
    return mask


@triton.jit
def _attend(acc, row_max, row_sum, q_t, k, v, key_index, limit, qk_scale):
    """
    Fold one block of keys and values into the running softmax of every query column.

    `limit` holds, per query, the index of the first key it may not see. Scores are in base 2 and
    already scaled, so any sign of the scale is right. `row_sum` stays spread over the key rows, one
    partial sum per row, and is added up once at the end: that leaves the maximum as the only
    exchange between warps per block.
    """
    scores = tl.dot(k, q_t) * qk_scale
    scores = tl.where(key_index[:, None] < limit[None, :], scores, float("-inf"))
    new_max = tl.maximum(row_max, tl.max(scores, 0))
    # A query that has seen no key yet has the maximum -inf; -inf - -inf would make a NaN of it.
    finite_max = tl.where(new_max == float("-inf"), 0.0, new_max)
    p = tl.math.exp2(scores - finite_max[None, :])
    shrink = tl.math.exp2(row_max - finite_max)
    row_sum = row_sum * shrink[None, :] + p
    # P is rounded to the input's type for the tensor core: within one output rounding of exact.
    acc = tl.dot(tl.trans(v), p.to(v.dtype), acc * shrink[None, :])
    return acc, new_max, row_sum


# Not worth a compilation each time they pass 1 or a multiple of 16.
@triton.jit(
    do_not_specialize=[
        "qk_scale",
        "nheads_k",
        "seqlen_q",
        "seqlen_new",
        "capacity",
        "num_splits",
        "num_q_tiles",
    ]
)
def decode_split_kernel(
    q_ptr,
    k_cache_ptr,
    v_cache_ptr,
    cache_seqlens_ptr,
    k_new_ptr,
    v_new_ptr,
    out_ptr,
    lse_ptr,
    partial_out_ptr,
    partial_lse_ptr,
    q_stride_b,
    q_stride_h,
    q_stride_s,
    kc_stride_b,
    kc_stride_h,
    kc_stride_n,
    vc_stride_b,
    vc_stride_h,
    vc_stride_n,
    kn_stride_b,
    kn_stride_h,
    kn_stride_n,
    vn_stride_b,
    vn_stride_h,
    vn_stride_n,
    out_stride_b,
    out_stride_h,
    out_stride_s,
    qk_scale,
    nheads_k,
    seqlen_q,
    seqlen_new,
    capacity,
    num_splits,
    num_q_tiles,
    HEADDIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    APPEND: tl.constexpr,
    SPLIT: tl.constexpr,
    WRITE_LSE: tl.constexpr,
    NUM_STAGES: tl.constexpr,
    DEPENDENT_LAUNCH: tl.constexpr,
):
    """
    Attend one tile of packed queries to one split of one sequence's keys.

    Program `pid` handles query tile `pid % num_q_tiles` (fastest, so that tiles which read the same
    keys run together), split `pid // num_q_tiles % num_splits`, and key/value head
    `pid // (num_q_tiles * num_splits)` of all sequences. Column `r` of a tile is query
    `r // GROUP` of head `r % GROUP` in the group. Keys are masked at load beyond the valid length
    (V too: 0 x NaN is NaN), scores beyond each query's limit.

    The blocks of a sequence are its cached blocks and then its new blocks; each split takes an
    equal run of them, give or take one. The last query tile sees every new key, so it is the one
    that appends.
    """
    if DEPENDENT_LAUNCH:
        # Lets the combine kernel's launch overlap the last wave; it waits for this kernel's end
        # before it reads anything.
        gdc_launch_dependents()
    pid = tl.program_id(0)
    q_tile = pid % num_q_tiles
    split = (pid // num_q_tiles) % num_splits
    batch_head = pid // (num_q_tiles * num_splits)
    # 64-bit from here on: a cache may hold more than 2^31 elements.
    batch = (batch_head // nheads_k).to(tl.int64)
    head_k = (batch_head % nheads_k).to(tl.int64)

    # --- how many keys there are, and which of them this program reads -------------------------
    # Clamped, because a wrong length can't be reported without a host synchronisation, and must
    # not become an access out of bounds.
    cached = tl.minimum(tl.maximum(tl.load(cache_seqlens_ptr + batch), 0), capacity)
    total = cached
    if APPEND:
        total = tl.minimum(cached + seqlen_new, capacity)
    column = q_tile * BLOCK_Q + tl.arange(0, BLOCK_Q)
    query = column // GROUP
    is_query = query < seqlen_q
    end = total
    limit = tl.where(is_query, total, 0)
    if CAUSAL:  # bottom-right: the last query sees the last key
        limit = tl.where(is_query, total - seqlen_q + query + 1, 0)
        last_query = tl.minimum((q_tile * BLOCK_Q + BLOCK_Q - 1) // GROUP, seqlen_q - 1)
        end = tl.maximum(total - seqlen_q + last_query + 1, 0)
    cached_blocks = tl.cdiv(tl.minimum(end, cached), BLOCK_N)
    blocks = cached_blocks
    if APPEND:
        blocks = cached_blocks + tl.cdiv(tl.maximum(end - cached, 0), BLOCK_N)
    # Shares differ by one block at most, and the last, which also has the new keys, is no larger
    # than need be: 257 blocks over 32 splits are 31 x 8 and 9, not 28 x 9 and 5.
    first = split * blocks // num_splits
    last = (split + 1) * blocks // num_splits

    # --- addresses that don't change -----------------------------------------------------------
    dim = tl.arange(0, BLOCK_D)
    row = tl.arange(0, BLOCK_N)
    head_q = head_k * GROUP + column % GROUP
    q_base = q_ptr + batch * q_stride_b + head_q * q_stride_h + query.to(tl.int64) * q_stride_s
    q_mask = tl.trans(_mask_tile(is_query, dim, HEADDIM, BLOCK_D))
    q_t = tl.load(q_base[None, :] + dim[:, None], mask=q_mask, other=0.0)
    k_base = k_cache_ptr + batch * kc_stride_b + head_k * kc_stride_h
    v_base = v_cache_ptr + batch * vc_stride_b + head_k * vc_stride_h
    if APPEND:
        kn_base = k_new_ptr + batch * kn_stride_b + head_k * kn_stride_h
        vn_base = v_new_ptr + batch * vn_stride_b + head_k * vn_stride_h
        new_start = cached_blocks * BLOCK_N

    acc = tl.zeros([BLOCK_D, BLOCK_Q], tl.float32)
    row_sum = tl.zeros([BLOCK_N, BLOCK_Q], tl.float32)
    row_max = tl.full([BLOCK_Q], float("-inf"), tl.float32)

    # --- the loop that has to run at the speed of memory ----------------------------------------
    # Cached and new blocks share it, and only scalars say where a block lies. A second loop for the
    # new ones is miscompiled by ptxas 12.8, which Triton 3.6 brings: it reads the descriptor of P
    # from uniform registers that were never written. tests/kernels/uniform_registers.py checks.
    for start in tl.range(first * BLOCK_N, last * BLOCK_N, BLOCK_N, num_stages=NUM_STAGES):
        block_row, key, key_end = start, start + row, cached
        k_block, k_stride, v_block, v_stride = k_base, kc_stride_n, v_base, vc_stride_n
        if APPEND:
            is_new = start >= new_start
            block_row = tl.where(is_new, start - new_start, start)
            key = tl.where(is_new, cached, 0) + block_row + row
            key_end = tl.where(is_new, total, cached)
            k_block = tl.where(is_new, kn_base, k_base)
            v_block = tl.where(is_new, vn_base, v_base)
            k_stride = tl.where(is_new, kn_stride_n, kc_stride_n)
            v_stride = tl.where(is_new, vn_stride_n, vc_stride_n)
        block_row64 = tl.cast(block_row, tl.int64)
        is_key = _mask_tile(key < key_end, dim, HEADDIM, BLOCK_D)
        k_offset = row[:, None] * k_stride + dim[None, :]
        v_offset = row[:, None] * v_stride + dim[None, :]
        k = tl.load(k_block + block_row64 * k_stride + k_offset, mask=is_key, other=0.0)
        v = tl.load(v_block + block_row64 * v_stride + v_offset, mask=is_key, other=0.0)
        acc, row_max, row_sum = _attend(
            acc, row_max, row_sum, q_t, k, v, key, tl.minimum(limit, key_end), qk_scale
        )

    # --- append ---------------------------------------------------------------------------------
    if APPEND:
        new_first = tl.maximum(first * BLOCK_N - new_start, 0)
        new_stop = tl.maximum(last * BLOCK_N - new_start, 0)
        if q_tile != num_q_tiles - 1:
            new_stop = 0
        for start in tl.range(new_first, new_stop, BLOCK_N, num_stages=1):
            start64 = tl.cast(start, tl.int64)
            slot = start64 + cached
            is_new_row = _mask_tile(start + row < total - cached, dim, HEADDIM, BLOCK_D)
            kn_offset = row[:, None] * kn_stride_n + dim[None, :]
            vn_offset = row[:, None] * vn_stride_n + dim[None, :]
            k = tl.load(kn_base + start64 * kn_stride_n + kn_offset, mask=is_new_row)
            v = tl.load(vn_base + start64 * vn_stride_n + vn_offset, mask=is_new_row)
            kc_offset = row[:, None] * kc_stride_n + dim[None, :]
            vc_offset = row[:, None] * vc_stride_n + dim[None, :]
            tl.store(k_base + slot * kc_stride_n + kc_offset, k, mask=is_new_row)
            tl.store(v_base + slot * vc_stride_n + vc_offset, v, mask=is_new_row)

    # --- results --------------------------------------------------------------------------------
    denominator = tl.sum(row_sum, 0)
    # A query without a single key: 0 / 1, and log2(0) = -inf. NaN passes through both.
    acc = acc / tl.where(denominator == 0.0, 1.0, denominator)[None, :]
    lse2 = row_max + tl.math.log2(denominator)
    # Position in [batch, nheads, seqlen_q], the shape of lse.
    position = (batch * nheads_k * GROUP + head_q) * seqlen_q + query
    if SPLIT:
        # An empty split stores -inf only; combine does not load the rest of it.
        if first < last:
            partial = partial_out_ptr + (position * num_splits + split)[None, :] * HEADDIM
            tl.store(partial + dim[:, None], acc, mask=q_mask)
        tl.store(partial_lse_ptr + position * num_splits + split, lse2, mask=is_query)
    else:
        out_base = out_ptr + batch * out_stride_b + head_q * out_stride_h
        out_base += query.to(tl.int64) * out_stride_s
        out = acc.to(out_ptr.dtype.element_ty)
        tl.store(out_base[None, :] + dim[:, None], out, mask=q_mask)
        if WRITE_LSE:
            tl.store(lse_ptr + position, lse2 * LN2, mask=is_query)


@triton.jit(do_not_specialize=["nheads", "seqlen_q", "num_splits"])
def decode_combine_kernel(
    partial_out_ptr,
    partial_lse_ptr,
    out_ptr,
    lse_ptr,
    out_stride_b,
    out_stride_h,
    out_stride_s,
    nheads,
    seqlen_q,
    num_splits,
    HEADDIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_SPLITS: tl.constexpr,
    WRITE_LSE: tl.constexpr,
    DEPENDENT_LAUNCH: tl.constexpr,
):
    """
    Add one query's partial results, each weighted by its share of the softmax's denominator.

    `out = sum_s 2^(lse_s - lse) out_s` with `lse = log2(sum_s 2^lse_s)`. Program (`i`, `j`) handles
    position `i` of [batch, nheads, seqlen_q] and the `j`-th run of BLOCK_D elements of its row. The
    order of the sum is fixed: the result is the same bit for bit in every run.
    """
    position = tl.program_id(0).to(tl.int64)
    batch = position // (nheads * seqlen_q)
    head = (position // seqlen_q) % nheads
    query = position % seqlen_q
    split = tl.arange(0, BLOCK_SPLITS)
    dim = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    is_split = split < num_splits
    if DEPENDENT_LAUNCH:
        gdc_wait()
    lse = tl.load(
        partial_lse_ptr + position * num_splits + split, mask=is_split, other=float("-inf")
    )
    lse_max = tl.max(lse, 0)
    weight = tl.math.exp2(lse - tl.where(lse_max == float("-inf"), 0.0, lse_max))
    denominator = tl.sum(weight, 0)
    # What an empty split did not store is not loaded either: the workspace may hold NaN there.
    partial = tl.load(
        partial_out_ptr + (position * num_splits + split)[:, None] * HEADDIM + dim[None, :],
        mask=(lse != float("-inf"))[:, None] & (dim < HEADDIM)[None, :],
        other=0.0,
    )
    out = tl.sum(partial * weight[:, None], 0) / tl.where(denominator == 0.0, 1.0, denominator)
    out_base = out_ptr + batch * out_stride_b + head * out_stride_h + query * out_stride_s
    tl.store(out_base + dim, out.to(out_ptr.dtype.element_ty), mask=dim < HEADDIM)
    if WRITE_LSE and tl.program_id(1) == 0:
        tl.store(lse_ptr + position, (lse_max + tl.math.log2(denominator)) * LN2)
