"""
Attention forward for Hopper without a producer warp: one warpgroup per program, several programs per SM.

A program is 128 threads. It owns one tile of 64 query rows (``SUB=1``) or a pair of them (``SUB=2``) and feeds
itself: the thread that finds a K or V slot free again starts the TMA copy of the block that comes next. That costs
no idle warps and no register hand-over at the start, which is what short sequences pay for in
``forward_hopper_ws``; the price is that the programs of an SM do not share K and V.

Order of work, ``S`` = Q K^T, ``O`` += P V, each issued asynchronously:

    SUB=1   wait S_j | issue S_{j+1} | softmax_j | wait O_{j-1}, rescale | issue O_j
    SUB=2   wait SA_j | softmax A_j | issue OA_j, SA_{j+1} | wait SB_j | softmax B_j | issue OB_j, SB_{j+1}

In both, tensor cores have work queued while the softmax runs; in the pair, one tile's products run under the other
tile's exponentials (the FlashAttention-4 schedule, folded into a single warpgroup).
"""

# no "from __future__ import annotations" here: Gluon aggregates read their annotations as types

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_init,
    warpgroup_mma_wait,
)
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .forward_hopper_ws import LN2, ROWS, Plan, Problem, _key_blocks, _mask, _softmax, _tile_coordinates


@gluon.jit
def _fetch(desc, smem, ready, it, batch, head, row, pred, STAGES: gl.constexpr):
    """Start the copy of ring entry ``it``; the caller knows that its slot is free."""
    slot = it % STAGES
    mbarrier.expect(ready.index(slot), desc.block_type.nbytes, pred=pred)
    tma.async_copy_global_to_shared(desc, [batch, head, row, 0], ready.index(slot), smem.index(slot), pred=pred)


@gluon.jit
def _scores(q, k_smem, k_ready, it, plan, S_LAYOUT: gl.constexpr):
    """Issue S = Q K^T for ring entry ``it``, without waiting for it."""
    slot = it % plan.STAGES
    mbarrier.wait(k_ready.index(slot), (it // plan.STAGES) & 1)
    k = k_smem.index(slot).reshape([plan.BLOCK_N, plan.HEADDIM])
    zeros = gl.zeros([ROWS, plan.BLOCK_N], gl.float32, S_LAYOUT)
    return warpgroup_mma(q, k.permute((1, 0)), zeros, use_acc=False, is_async=True)


@gluon.jit
def _rescale(acc, alpha, O_LAYOUT: gl.constexpr):
    return acc * gl.convert_layout(alpha, gl.SliceLayout(1, O_LAYOUT))[:, None]


@gluon.jit
def _weigh(acc, alpha, p, v_smem, v_ready, it, plan, O_LAYOUT: gl.constexpr):
    """Issue O = alpha O + P V for ring entry ``it``, without waiting for it."""
    slot = it % plan.STAGES
    acc = _rescale(acc, alpha, O_LAYOUT)
    mbarrier.wait(v_ready.index(slot), (it // plan.STAGES) & 1)
    return warpgroup_mma(p, v_smem.index(slot).reshape([plan.BLOCK_N, plan.HEADDIM]), acc, is_async=True)


@gluon.jit
def _probabilities(s, m, l, row, j, blocks, scale_log2, dtype: gl.constexpr, problem, plan, MASKED: gl.constexpr,
                   S_LAYOUT: gl.constexpr, O_LAYOUT: gl.constexpr):
    """Softmax of the scores of key block ``j`` (counted from the last one), P as operand of the second product."""
    if MASKED:
        s = _mask(s, row, (blocks - 1 - j) * plan.BLOCK_N, problem, plan, S_LAYOUT)
    p, alpha, m, l = _softmax(s, m, l, scale_log2, MASKED, plan.POLY)
    return gl.convert_layout(p.to(dtype), gl.DotOperandLayout(0, O_LAYOUT, 2)), alpha, m, l


@gluon.jit
def _refill(desc, smem, ready, it, blocks, batch, kv_head, valid, plan):
    """Fetch ring entry ``it`` if there is such a block; all warps must be done with the slot's old contents."""
    _fetch(desc, smem, ready, it, batch, kv_head, (blocks - 1 - it) * plan.BLOCK_N, valid & (it < blocks),
           plan.STAGES)


@gluon.jit
def _pair_turn(s1, acc0, acc1, p0, alpha0, m0, l0, m1, l1, q0, q1, k_smem, v_smem, k_ready, v_ready, k_desc, v_desc,
               j, blocks, batch, kv_head, row, scale_log2, problem, plan, MASKED: gl.constexpr,
               S_LAYOUT: gl.constexpr, O_LAYOUT: gl.constexpr):
    """
    Second half of block j and first half of block j + 1.

    On entry SB_j and OB_{j-1} are in flight. ptxas keeps products asynchronous only if every turn of a loop drains
    them once, so each half waits for all, issues the other tile's two products, and does its own softmax under them.
    """
    STAGES: gl.constexpr = plan.STAGES
    s1, acc1 = warpgroup_mma_wait(0, deps=[s1, acc1])
    s0 = _scores(q0, k_smem, k_ready, j + 1, plan, S_LAYOUT)
    acc0 = _weigh(acc0, alpha0, p0, v_smem, v_ready, j, plan, O_LAYOUT)
    gl.thread_barrier()  # all four warps, and both tiles, are done with K_j and V_{j-1}
    _refill(k_desc, k_smem, k_ready, j + STAGES, blocks, batch, kv_head, True, plan)
    _refill(v_desc, v_smem, v_ready, j - 1 + STAGES, blocks, batch, kv_head, j > 0, plan)
    p1, alpha1, m1, l1 = _probabilities(s1, m1, l1, row + ROWS, j, blocks, scale_log2, v_smem.dtype, problem, plan,
                                        MASKED, S_LAYOUT, O_LAYOUT)
    s0, acc0 = warpgroup_mma_wait(0, deps=[s0, acc0])
    s1 = _scores(q1, k_smem, k_ready, j + 1, plan, S_LAYOUT)
    acc1 = _weigh(acc1, alpha1, p1, v_smem, v_ready, j, plan, O_LAYOUT)
    p0, alpha0, m0, l0 = _probabilities(s0, m0, l0, row, j + 1, blocks, scale_log2, v_smem.dtype, problem, plan,
                                        MASKED, S_LAYOUT, O_LAYOUT)
    return s1, acc0, acc1, p0, alpha0, m0, l0, m1, l1


@gluon.jit
def _solo_turn(acc, p, m, l, q, k_smem, v_smem, k_ready, v_ready, k_desc, v_desc, j, blocks, batch, kv_head, row,
               scale_log2, problem, plan, MASKED: gl.constexpr, S_LAYOUT: gl.constexpr, O_LAYOUT: gl.constexpr):
    """Issue S_{j+1} and O_j; the softmax of S_{j+1} runs while O_j is still being computed."""
    STAGES: gl.constexpr = plan.STAGES
    slot = j % STAGES
    s = _scores(q, k_smem, k_ready, j + 1, plan, S_LAYOUT)
    mbarrier.wait(v_ready.index(slot), (j // STAGES) & 1)
    acc = warpgroup_mma(p, v_smem.index(slot).reshape([plan.BLOCK_N, plan.HEADDIM]), acc, is_async=True)
    s = warpgroup_mma_wait(1, deps=[s])
    gl.thread_barrier()  # all four warps are done with K_{j+1}
    _refill(k_desc, k_smem, k_ready, j + 1 + STAGES, blocks, batch, kv_head, True, plan)
    p_new, alpha, m, l = _probabilities(s, m, l, row, j + 1, blocks, scale_log2, v_smem.dtype, problem, plan, MASKED,
                                        S_LAYOUT, O_LAYOUT)
    acc = warpgroup_mma_wait(0, deps=[acc])
    gl.thread_barrier()  # all four warps are done with V_j
    _refill(v_desc, v_smem, v_ready, j + STAGES, blocks, batch, kv_head, True, plan)
    return _rescale(acc, alpha, O_LAYOUT), p_new, m, l


@gluon.jit
def _write(acc, m, l, o_desc, o_tile, lse, batch, bh, row, scale_log2, problem, plan, ROW_LAYOUT: gl.constexpr,
           O_LAYOUT: gl.constexpr):
    """Normalise, and send the tile out through shared memory."""
    inverse = 1.0 / gl.where(l == 0.0, 1.0, l)  # a row that sees no key gives 0, not NaN
    o_tile.reshape([ROWS, plan.HEADDIM]).store(_rescale(acc, inverse, O_LAYOUT).to(o_desc.dtype))
    fence_async_shared()
    tma.async_copy_shared_to_global(o_desc, [batch, bh % problem.nheads, row, 0], o_tile)
    if plan.WRITE_LSE:
        rows = row + gl.arange(0, ROWS, ROW_LAYOUT)
        value = gl.where(l == 0.0, float("-inf"), m * (scale_log2 * LN2) + gl.log(l))
        gl.store(lse + bh.to(gl.int64) * problem.seqlen_q + rows, value, mask=rows < problem.seqlen_q)


@gluon.jit(do_not_specialize=["seqlen_q", "seqlen_k", "offset", "nheads", "num_m", "num_bh", "section", "total"])
def attention_pair_kernel(q_desc, k_desc, v_desc, o_desc, lse, scale_log2, seqlen_q, seqlen_k, offset, nheads,
                          num_m, num_bh, section, total, GROUP: gl.constexpr, CAUSAL: gl.constexpr,
                          SUB: gl.constexpr, STAGES: gl.constexpr, EVEN_N: gl.constexpr, WRITE_LSE: gl.constexpr,
                          POLY: gl.constexpr, PDL: gl.constexpr):
    """One program: ``SUB`` tiles of 64 query rows of one head."""
    D: gl.constexpr = q_desc.block_shape[3]
    BLOCK_N: gl.constexpr = k_desc.block_shape[2]
    plan = Plan(D, GROUP, CAUSAL, BLOCK_N, 1, STAGES, EVEN_N, WRITE_LSE, POLY, False)
    problem = Problem(seqlen_q, seqlen_k, offset, nheads, num_m, num_bh, section, total)
    BAR: gl.constexpr = mbarrier.MBarrierLayout()
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    ROW_LAYOUT: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    MASKED: gl.constexpr = CAUSAL or not EVEN_N
    q_smem = gl.allocate_shared_memory(q_desc.dtype, [SUB] + q_desc.block_shape, q_desc.layout)
    k_smem = gl.allocate_shared_memory(k_desc.dtype, [STAGES] + k_desc.block_shape, k_desc.layout)
    v_smem = gl.allocate_shared_memory(v_desc.dtype, [STAGES] + v_desc.block_shape, v_desc.layout)
    q_ready = gl.allocate_shared_memory(gl.int64, [SUB, 1], BAR)
    k_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BAR)
    v_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BAR)
    for i in gl.static_range(SUB):
        mbarrier.init(q_ready.index(i), count=1)
    for i in gl.static_range(STAGES):
        mbarrier.init(k_ready.index(i), count=1)
        mbarrier.init(v_ready.index(i), count=1)
    fence_async_shared()
    gl.thread_barrier()

    m_tile, bh = _tile_coordinates(gl.program_id(0), problem, CAUSAL)
    batch = bh // nheads
    head = bh % nheads
    kv_head = head // GROUP
    row = m_tile * (ROWS * SUB)
    blocks, _ = _key_blocks(row, problem, ROWS * SUB, plan)
    _, full = _key_blocks(row, problem, ROWS, plan)
    full = gl.minimum(full, blocks)
    if PDL:
        gdc_wait()
    if PDL == 2:
        gdc_launch_dependents()
    _fetch(q_desc, q_smem, q_ready, 0, batch, head, row, True, SUB)
    _fetch(k_desc, k_smem, k_ready, 0, batch, kv_head, (blocks - 1) * BLOCK_N, blocks > 0, STAGES)
    if SUB == 2:
        _fetch(q_desc, q_smem, q_ready, 1, batch, head, row + ROWS, True, SUB)
    _fetch(v_desc, v_smem, v_ready, 0, batch, kv_head, (blocks - 1) * BLOCK_N, blocks > 0, STAGES)
    for i in gl.static_range(1, STAGES):
        _fetch(k_desc, k_smem, k_ready, i, batch, kv_head, (blocks - 1 - i) * BLOCK_N, blocks > i, STAGES)
        _fetch(v_desc, v_smem, v_ready, i, batch, kv_head, (blocks - 1 - i) * BLOCK_N, blocks > i, STAGES)

    m0 = gl.full([ROWS], float("-inf"), gl.float32, ROW_LAYOUT)
    l0 = gl.zeros([ROWS], gl.float32, ROW_LAYOUT)
    acc0 = gl.zeros([ROWS, D], gl.float32, O_LAYOUT)
    m1 = m0
    l1 = l0
    acc1 = acc0
    q0 = q_smem.index(0).reshape([ROWS, D])
    q1 = q_smem.index(SUB - 1).reshape([ROWS, D])
    mbarrier.wait(q_ready.index(0), 0)
    if SUB == 2:
        mbarrier.wait(q_ready.index(1), 0)
    if blocks > 0:
        last = blocks - 1
        masked = 0
        if MASKED:
            masked = gl.minimum(blocks - full, last)
        s0 = _scores(q0, k_smem, k_ready, 0, plan, S_LAYOUT)
        s0 = warpgroup_mma_wait(0, deps=[s0])
        if SUB == 1:
            p0, alpha0, m0, l0 = _probabilities(s0, m0, l0, row, 0, blocks, scale_log2, v_desc.dtype, problem, plan,
                                                MASKED, S_LAYOUT, O_LAYOUT)
            gl.thread_barrier()  # all four warps are done with K_0
            _refill(k_desc, k_smem, k_ready, STAGES, blocks, batch, kv_head, True, plan)
            if MASKED:
                for j in range(0, masked):
                    acc0, p0, m0, l0 = _solo_turn(acc0, p0, m0, l0, q0, k_smem, v_smem, k_ready, v_ready, k_desc,
                                                  v_desc, j, blocks, batch, kv_head, row, scale_log2, problem, plan,
                                                  True, S_LAYOUT, O_LAYOUT)
            for j in range(masked, last):
                acc0, p0, m0, l0 = _solo_turn(acc0, p0, m0, l0, q0, k_smem, v_smem, k_ready, v_ready, k_desc,
                                              v_desc, j, blocks, batch, kv_head, row, scale_log2, problem, plan,
                                              False, S_LAYOUT, O_LAYOUT)
            slot = last % STAGES
            mbarrier.wait(v_ready.index(slot), (last // STAGES) & 1)
            acc0 = warpgroup_mma(p0, v_smem.index(slot).reshape([BLOCK_N, D]), acc0, is_async=True)
            acc0 = warpgroup_mma_wait(0, deps=[acc0])
        else:
            s1 = _scores(q1, k_smem, k_ready, 0, plan, S_LAYOUT)
            p0, alpha0, m0, l0 = _probabilities(s0, m0, l0, row, 0, blocks, scale_log2, v_desc.dtype, problem, plan,
                                                MASKED, S_LAYOUT, O_LAYOUT)
            acc1_async = warpgroup_mma_init(acc1)
            if MASKED:
                for j in range(0, masked):
                    s1, acc0, acc1_async, p0, alpha0, m0, l0, m1, l1 = _pair_turn(
                        s1, acc0, acc1_async, p0, alpha0, m0, l0, m1, l1, q0, q1, k_smem, v_smem, k_ready, v_ready,
                        k_desc, v_desc, j, blocks, batch, kv_head, row, scale_log2, problem, plan, True, S_LAYOUT,
                        O_LAYOUT)
            for j in range(masked, last):
                s1, acc0, acc1_async, p0, alpha0, m0, l0, m1, l1 = _pair_turn(
                    s1, acc0, acc1_async, p0, alpha0, m0, l0, m1, l1, q0, q1, k_smem, v_smem, k_ready, v_ready,
                    k_desc, v_desc, j, blocks, batch, kv_head, row, scale_log2, problem, plan, False, S_LAYOUT,
                    O_LAYOUT)
            s1, acc1 = warpgroup_mma_wait(0, deps=[s1, acc1_async])
            acc0_async = _weigh(acc0, alpha0, p0, v_smem, v_ready, last, plan, O_LAYOUT)
            p1, alpha1, m1, l1 = _probabilities(s1, m1, l1, row + ROWS, last, blocks, scale_log2, v_desc.dtype,
                                                problem, plan, MASKED, S_LAYOUT, O_LAYOUT)
            acc0 = warpgroup_mma_wait(0, deps=[acc0_async])
            acc1_async = _weigh(acc1, alpha1, p1, v_smem, v_ready, last, plan, O_LAYOUT)
            acc1 = warpgroup_mma_wait(0, deps=[acc1_async])
    gl.thread_barrier()  # all warps are done with Q: its memory carries O out
    _write(acc0, m0, l0, o_desc, q_smem.index(0), lse, batch, bh, row, scale_log2, problem, plan, ROW_LAYOUT,
           O_LAYOUT)
    if SUB == 2:
        _write(acc1, m1, l1, o_desc, q_smem.index(1), lse, batch, bh, row + ROWS, scale_log2, problem, plan,
               ROW_LAYOUT, O_LAYOUT)
    tma.store_wait(0)
