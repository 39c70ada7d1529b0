"""
Attention forward for Hopper without a producer warp: one warpgroup per program, three or four programs per SM.

A program is 128 threads and 64 query rows. It feeds itself: the thread that finds a K or V slot free again starts
the TMA copy of the block that comes next. That costs no idle warps and no register hand-over at the start, which is
what short sequences pay for in ``forward_hopper_ws``; the price is that the programs of an SM do not share K and V.

Order of work, ``S`` = Q K^T, ``O`` += P V, each issued asynchronously:

    issue S_{j+1}, O_j | wait S_{j+1} | softmax_{j+1}, under O_j | wait O_j, rescale

A persistent program asks for the next tile's Q, K and V while it still works on this one, so that only its first
tile waits for memory.
"""

# no "from __future__ import annotations" here: Gluon aggregates read their annotations as types

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.language.core import _aggregate as aggregate
from triton.language.extra.cuda import gdc_wait

from .forward_hopper_ws import LN2, ROWS, Plan, Problem, _key_blocks, _tile_coordinates, _tile_of_turn, _turns, _weights


@aggregate
class Tile:
    """One tile of work: 64 query rows of one head."""

    bh: gl.tensor
    batch: gl.tensor
    head: gl.tensor
    row: gl.tensor
    blocks: gl.tensor  # key blocks to visit
    clear: gl.tensor  # keys from here on need the mask

    @gluon.constexpr_function
    def __init__(self, bh, batch, head, row, blocks, clear):
        self.bh = bh
        self.batch = batch
        self.head = head
        self.row = row
        self.blocks = blocks
        self.clear = clear


@gluon.jit
def _tile_at(turn, turns, problem, plan):
    """The tile of turn ``turn``; one without key blocks behind the last turn."""
    m_tile, bh = _tile_coordinates(_tile_of_turn(turn, plan), problem, plan.CAUSAL)
    row = m_tile * ROWS
    blocks, full = _key_blocks(row, problem, ROWS, plan)
    if turn >= turns:
        blocks = 0
        bh = 0
    return Tile(bh, bh // problem.nheads, bh % problem.nheads, row, blocks, full * plan.BLOCK_N)


@gluon.jit
def _ask_q(q_desc, q_smem, q_ready, tile, turn, pred):
    """Start the copy of a tile's Q into the slot of its turn."""
    slot = turn % q_smem.shape[0]
    mbarrier.expect(q_ready.index(slot), q_desc.block_type.nbytes, pred=pred)
    tma.async_copy_global_to_shared(q_desc, [tile.batch, tile.head, tile.row, 0], q_ready.index(slot),
                                    q_smem.index(slot), pred=pred)


@gluon.jit
def _ask(feed, base, e, tile, following, plan):
    """
    Start the copy of key block ``e`` of this tile, or of the following one if this one has no such block.

    Ring entries run on across tiles: ``base`` is the first of this tile. All warps are done with what the slot held.
    """
    desc, smem, ready = feed
    ahead = e - tile.blocks
    left = gl.where(ahead < 0, -1 - ahead, following.blocks - 1 - ahead)
    batch = gl.where(ahead < 0, tile.batch, following.batch)
    head = gl.where(ahead < 0, tile.head, following.head) // plan.GROUP
    slot = (base + e) % plan.STAGES
    mbarrier.expect(ready.index(slot), desc.block_type.nbytes, pred=left >= 0)
    tma.async_copy_global_to_shared(desc, [batch, head, left * plan.BLOCK_N, 0], ready.index(slot), smem.index(slot),
                                    pred=left >= 0)


@gluon.jit
def _scores(q, k_feed, entry, plan, S_LAYOUT: gl.constexpr):
    """Issue S = Q K^T for a ring entry, without waiting for it."""
    slot = entry % plan.STAGES
    mbarrier.wait(k_feed[2].index(slot), (entry // plan.STAGES) & 1)
    k = k_feed[1].index(slot).reshape([plan.BLOCK_N, plan.HEADDIM])
    zeros = gl.zeros([ROWS, plan.BLOCK_N], gl.float32, S_LAYOUT)
    return warpgroup_mma(q, k.permute((1, 0)), zeros, use_acc=False, is_async=True)


@gluon.jit
def _output(p, acc, v_feed, entry, plan):
    """Issue O += P V for a ring entry, without waiting for it."""
    slot = entry % plan.STAGES
    mbarrier.wait(v_feed[2].index(slot), (entry // plan.STAGES) & 1)
    return warpgroup_mma(p, v_feed[1].index(slot).reshape([plan.BLOCK_N, plan.HEADDIM]), acc, is_async=True)


@gluon.jit
def _operand(p, dtype: gl.constexpr, O_LAYOUT: gl.constexpr):
    return gl.convert_layout(p.to(dtype), gl.DotOperandLayout(0, O_LAYOUT, 2))


@gluon.jit
def _rescale(acc, alpha, O_LAYOUT: gl.constexpr):
    return acc * gl.convert_layout(alpha, gl.SliceLayout(1, O_LAYOUT))[:, None]


@gluon.jit
def _step(acc, p, m, l, q, k_feed, v_feed, base, j, tile, following, scale_log2, problem, plan,
          EARLY_K: gl.constexpr, S_LAYOUT: gl.constexpr, O_LAYOUT: gl.constexpr):
    """Scores of block j + 1 (counted from the last key) and output of block j."""
    STAGES: gl.constexpr = plan.STAGES
    s = _scores(q, k_feed, base + j + 1, plan, S_LAYOUT)
    acc = _output(p, acc, v_feed, base + j, plan)
    s = warpgroup_mma_wait(1, deps=[s])
    if EARLY_K:
        gl.thread_barrier()  # all four warps are done with K_{j+1}
        _ask(k_feed, base, j + 1 + STAGES, tile, following, plan)
    key = (tile.blocks - 2 - j) * plan.BLOCK_N
    p_new, alpha, m, l = _weights(s, m, l, tile.row, key, tile.clear, scale_log2, problem, plan, S_LAYOUT)
    # Already filled, so this never waits: it ends a basic block. Without it ptxas moves the wait for O_j up in front
    # of the exponentials, and nothing overlaps.
    mbarrier.wait(v_feed[2].index((base + j) % STAGES), ((base + j) // STAGES) & 1)
    acc = warpgroup_mma_wait(0, deps=[acc])
    gl.thread_barrier()  # all four warps are done with V_j
    if not EARLY_K:
        _ask(k_feed, base, j + 1 + STAGES, tile, following, plan)
    _ask(v_feed, base, j + STAGES, tile, following, plan)
    return _rescale(acc, alpha, O_LAYOUT), _operand(p_new, v_feed[0].dtype, O_LAYOUT), m, l


@gluon.jit
def _write(acc, m, l, o_desc, o_tile, lse, tile, scale_log2, problem, plan, ROW_LAYOUT: gl.constexpr,
           O_LAYOUT: gl.constexpr):
    """Normalise, and send the tile out through shared memory."""
    inverse = 1.0 / gl.where(l == 0.0, 1.0, l)  # a row that sees no key gives 0, not NaN
    o_tile.reshape([ROWS, plan.HEADDIM]).store(_rescale(acc, inverse, O_LAYOUT).to(o_desc.dtype))
    fence_async_shared()
    tma.async_copy_shared_to_global(o_desc, [tile.batch, tile.head, tile.row, 0], o_tile)
    if plan.WRITE_LSE:
        rows = tile.row + gl.arange(0, ROWS, ROW_LAYOUT)
        value = gl.where(l == 0.0, float("-inf"), m * (scale_log2 * LN2) + gl.log(l))
        gl.store(lse + tile.bh.to(gl.int64) * problem.seqlen_q + rows, value, mask=rows < problem.seqlen_q)


@gluon.jit
def _attend(tile, following, turn, more, base, q_desc, q_smem, q_ready, k_feed, v_feed, o_desc, lse, scale_log2, problem,
            plan, Q_IN_REGISTERS: gl.constexpr, EARLY_K: gl.constexpr):
    """One tile from its first product to its store; what the following tile needs first is asked for on the way."""
    BLOCK_N: gl.constexpr = plan.BLOCK_N
    D: gl.constexpr = plan.HEADDIM
    STAGES: gl.constexpr = plan.STAGES
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    ROW_LAYOUT: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    PERSISTENT: gl.constexpr = q_smem.shape[0] > 1
    slot = turn % q_smem.shape[0]
    m = gl.full([ROWS], float("-inf"), gl.float32, ROW_LAYOUT)
    l = gl.zeros([ROWS], gl.float32, ROW_LAYOUT)
    acc = gl.zeros([ROWS, D], gl.float32, O_LAYOUT)
    mbarrier.wait(q_ready.index(slot), (turn // q_smem.shape[0]) & 1)
    q = q_smem.index(slot).reshape([ROWS, D])
    if Q_IN_REGISTERS:
        q = q.load(gl.DotOperandLayout(0, S_LAYOUT, 2))
    if tile.blocks > 0:
        last = tile.blocks - 1
        s = _scores(q, k_feed, base, plan, S_LAYOUT)
        s = warpgroup_mma_wait(0, deps=[s])
        if PERSISTENT:
            tma.store_wait(0)  # the previous tile's O has left the slot that the following tile's Q goes to
        gl.thread_barrier()  # all four warps are done with K_0
        if PERSISTENT:
            _ask_q(q_desc, q_smem, q_ready, following, turn + 1, more)
        _ask(k_feed, base, STAGES, tile, following, plan)
        p32, alpha, m, l = _weights(s, m, l, tile.row, last * BLOCK_N, tile.clear, scale_log2, problem, plan, S_LAYOUT)
        p = _operand(p32, v_feed[0].dtype, O_LAYOUT)
        for j in range(last):
            acc, p, m, l = _step(acc, p, m, l, q, k_feed, v_feed, base, j, tile, following, scale_log2, problem, plan,
                                 EARLY_K, S_LAYOUT, O_LAYOUT)
        acc = _output(p, acc, v_feed, base + last, plan)
        acc = warpgroup_mma_wait(0, deps=[acc])
    elif PERSISTENT:
        tma.store_wait(0)
        gl.thread_barrier()
        _ask_q(q_desc, q_smem, q_ready, following, turn + 1, more)
    gl.thread_barrier()  # all warps are done with Q, whose memory carries O out, and with the last V
    if PERSISTENT:
        _ask(v_feed, base, tile.blocks - 1 + STAGES, tile, following, plan)
    _write(acc, m, l, o_desc, q_smem.index(slot), lse, tile, scale_log2, problem, plan, ROW_LAYOUT, O_LAYOUT)


@gluon.jit(do_not_specialize=["seqlen_q", "seqlen_k", "offset", "nheads", "num_m", "num_bh", "section", "total"])
def attention_solo_kernel(q_desc, k_desc, v_desc, o_desc, lse, scale_log2, seqlen_q, seqlen_k, offset, nheads,
                          num_m, num_bh, section, total, GROUP: gl.constexpr, CAUSAL: gl.constexpr,
                          STAGES: gl.constexpr, EVEN_N: gl.constexpr, WRITE_LSE: gl.constexpr, POLY: gl.constexpr,
                          PDL: gl.constexpr, PERSISTENT: gl.constexpr, Q_IN_REGISTERS: gl.constexpr,
                          EARLY_K: gl.constexpr):
    """One program: one tile of 64 query rows, or, on a persistent grid, several in turn."""
    D: gl.constexpr = q_desc.block_shape[3]
    BLOCK_N: gl.constexpr = k_desc.block_shape[2]
    Q_SLOTS: gl.constexpr = 2 if PERSISTENT else 1
    plan = Plan(D, GROUP, CAUSAL, BLOCK_N, 1, STAGES, EVEN_N, WRITE_LSE, POLY, False)
    problem = Problem(seqlen_q, seqlen_k, offset, nheads, num_m, num_bh, section, total)
    BAR: gl.constexpr = mbarrier.MBarrierLayout()
    q_smem = gl.allocate_shared_memory(q_desc.dtype, [Q_SLOTS] + q_desc.block_shape, q_desc.layout)
    k_smem = gl.allocate_shared_memory(k_desc.dtype, [STAGES] + k_desc.block_shape, k_desc.layout)
    v_smem = gl.allocate_shared_memory(v_desc.dtype, [STAGES] + v_desc.block_shape, v_desc.layout)
    q_ready = gl.allocate_shared_memory(gl.int64, [Q_SLOTS, 1], BAR)
    k_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BAR)
    v_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BAR)
    for i in gl.static_range(Q_SLOTS):
        mbarrier.init(q_ready.index(i), count=1)
    for i in gl.static_range(STAGES):
        mbarrier.init(k_ready.index(i), count=1)
        mbarrier.init(v_ready.index(i), count=1)
    fence_async_shared()
    gl.thread_barrier()

    k_feed = (k_desc, k_smem, k_ready)
    v_feed = (v_desc, v_smem, v_ready)
    turns = 1
    if PERSISTENT:
        turns = _turns(problem, plan)
    tile = _tile_at(0, turns, problem, plan)
    following = _tile_at(1, turns, problem, plan)
    if PDL:
        gdc_wait()
    _ask_q(q_desc, q_smem, q_ready, tile, 0, True)
    if not PERSISTENT:
        for i in gl.static_range(STAGES):
            _ask(k_feed, 0, i, tile, following, plan)
            _ask(v_feed, 0, i, tile, following, plan)
        _attend(tile, following, 0, False, 0, q_desc, q_smem, q_ready, k_feed, v_feed, o_desc, lse, scale_log2, problem, plan,
                Q_IN_REGISTERS, EARLY_K)
    else:
        base = 0
        for i in gl.static_range(STAGES):
            if i < tile.blocks:
                _ask(k_feed, 0, i, tile, following, plan)
                _ask(v_feed, 0, i, tile, following, plan)
        for turn in range(turns):
            # a tile shorter than the ring leaves room for the following one's first blocks
            for i in gl.static_range(STAGES):
                if i >= tile.blocks:
                    _ask(k_feed, base, i, tile, following, plan)
                    _ask(v_feed, base, i, tile, following, plan)
            _attend(tile, following, turn, turn + 1 < turns, base, q_desc, q_smem, q_ready, k_feed, v_feed, o_desc,
                    lse, scale_log2, problem, plan, Q_IN_REGISTERS, EARLY_K)
            base += tile.blocks
            tile = following
            following = _tile_at(turn + 2, turns, problem, plan)
    tma.store_wait(0)
