"""
Attention forward for Hopper without a producer warp: one warpgroup per program, 3 or 4 per SM.

A program is 128 threads and 64 query rows. It feeds itself: the thread that finds a K or V slot
free again starts the TMA copy of the block that comes next. That costs no idle warps and no
register hand-over at the start, which is what short sequences pay for in ``forward_hopper_ws``
(12 % at 512x8, with one warpgroup there); the price is that the programs of an SM do not share K
and V.

Order of work, ``S`` = Q K^T, ``O`` += P V, each issued asynchronously:

    issue S_{j+1}, O_j | wait S_{j+1} | softmax_{j+1}, under O_j | wait O_j, rescale

A persistent program asks for the next tile's Q, K and V while it still works on this one, so that
only its first tile waits for memory.
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

from .forward_hopper_tiles import (
    LN2,
    ROWS,
    Plan,
    Problem,
    _key_blocks,
    _product_layout,
    _tile_of_turn,
    _turns,
    _weights,
)


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


# What the functions below pass around: ``tiles`` is (this tile, the following one), a ``feed`` is
# (descriptor, shared memory, barriers that say "filled"), ``feeds`` is (K's, V's).


@gluon.jit
def _tile_at(turn, turns, problem, plan):
    """The tile of turn ``turn``; one without key blocks behind the last turn."""
    m_tile, bh = _tile_of_turn(turn, problem, plan)
    row = m_tile * ROWS
    blocks, full = _key_blocks(row, problem, ROWS, plan)
    if turn >= turns:
        blocks = 0
        bh = 0
    return Tile(bh, bh // problem.nheads, bh % problem.nheads, row, blocks, full * plan.BLOCK_N)


@gluon.jit
def _ask_q(q_feed, tile, turn, pred):
    """Start the copy of a tile's Q into the slot of its turn."""
    desc, smem, ready = q_feed
    slot = turn % smem.shape[0]
    mbarrier.expect(ready.index(slot), desc.block_type.nbytes, pred=pred)
    where = [tile.batch, tile.head, tile.row, 0]
    tma.async_copy_global_to_shared(desc, where, ready.index(slot), smem.index(slot), pred=pred)


@gluon.jit
def _ask(feed, base, e, tiles, plan):
    """
    Start the copy of key block ``e`` of this tile, or of the following one if it has none such.

    Ring entries run on across tiles: ``base`` is the first of this tile. All warps are done with
    what the slot held.
    """
    desc, smem, ready = feed
    tile, following = tiles
    ahead = e - tile.blocks
    left = gl.where(ahead < 0, -1 - ahead, following.blocks - 1 - ahead)
    batch = gl.where(ahead < 0, tile.batch, following.batch)
    head = gl.where(ahead < 0, tile.head, following.head) // plan.GROUP
    slot = (base + e) % plan.STAGES
    pred = left >= 0
    mbarrier.expect(ready.index(slot), desc.block_type.nbytes, pred=pred)
    where = [batch, head, left * plan.BLOCK_N, 0]
    tma.async_copy_global_to_shared(desc, where, ready.index(slot), smem.index(slot), pred=pred)


@gluon.jit
def _allocate(desc, slots: gl.constexpr):
    """Room for so many blocks of a tensor, with a barrier each: a feed."""
    smem = gl.allocate_shared_memory(desc.dtype, [slots] + desc.block_shape, desc.layout)  # noqa: RUF005 (Gluon knows no *)
    ready = gl.allocate_shared_memory(gl.int64, [slots, 1], mbarrier.MBarrierLayout())
    return desc, smem, ready


@gluon.jit
def _scores(q, k_feed, entry, plan):
    """Issue S = Q K^T for a ring entry, without waiting for it."""
    slot = entry % plan.STAGES
    mbarrier.wait(k_feed[2].index(slot), (entry // plan.STAGES) & 1)
    k = k_feed[1].index(slot).reshape([plan.BLOCK_N, plan.HEADDIM])
    zeros = gl.zeros([ROWS, plan.BLOCK_N], gl.float32, _product_layout(plan.BLOCK_N))
    return warpgroup_mma(q, k.permute((1, 0)), zeros, use_acc=False, is_async=True)


@gluon.jit
def _output(p, acc, v_feed, entry, plan):
    """Issue O += P V for a ring entry, without waiting for it."""
    slot = entry % plan.STAGES
    mbarrier.wait(v_feed[2].index(slot), (entry // plan.STAGES) & 1)
    v = v_feed[1].index(slot).reshape([plan.BLOCK_N, plan.HEADDIM])
    return warpgroup_mma(p, v, acc, is_async=True)


@gluon.jit
def _operand(p, dtype: gl.constexpr, plan):
    """P as the first operand of O += P V."""
    layout: gl.constexpr = gl.DotOperandLayout(0, _product_layout(plan.HEADDIM), 2)
    return gl.convert_layout(p.to(dtype), layout)


@gluon.jit
def _rescale(acc, factor, plan):
    """Multiply each row of O."""
    layout: gl.constexpr = gl.SliceLayout(1, _product_layout(plan.HEADDIM))
    return acc * gl.convert_layout(factor, layout)[:, None]


@gluon.jit
def _step(acc, p, row_max, row_sum, q, feeds, base, j, tiles, scale_log2, problem, plan, EARLY_K):
    """Scores of block j + 1 (counted from the last key) and output of block j."""
    STAGES: gl.constexpr = plan.STAGES
    k_feed, v_feed = feeds
    tile = tiles[0]
    s = _scores(q, k_feed, base + j + 1, plan)
    acc = _output(p, acc, v_feed, base + j, plan)
    s = warpgroup_mma_wait(1, deps=[s])
    if EARLY_K:  # asked for behind the softmax, K comes 0.3 to 2.6 % later
        gl.thread_barrier()  # all four warps are done with K_{j+1}
        _ask(k_feed, base, j + 1 + STAGES, tiles, plan)
    key = (tile.blocks - 2 - j) * plan.BLOCK_N
    p_new, alpha, row_max, row_sum = _masked_weights(
        s, row_max, row_sum, tile, key, scale_log2, problem, plan, False
    )
    # Already filled, so this never waits: it ends a basic block. Without it ptxas moves the wait
    # for O_j up in front of the exponentials, and nothing overlaps. 2 to 4 % less with 128 keys,
    # nothing with 64, where four programs per SM overlap each other.
    mbarrier.wait(v_feed[2].index((base + j) % STAGES), ((base + j) // STAGES) & 1)
    acc = warpgroup_mma_wait(0, deps=[acc])
    gl.thread_barrier()  # all four warps are done with V_j
    if not EARLY_K:
        _ask(k_feed, base, j + 1 + STAGES, tiles, plan)
    _ask(v_feed, base, j + STAGES, tiles, plan)
    return _rescale(acc, alpha, plan), _operand(p_new, v_feed[0].dtype, plan), row_max, row_sum


@gluon.jit
def _masked_weights(
    s, row_max, row_sum, tile, key, scale_log2, problem, plan, LAST_KEYS: gl.constexpr
):
    """Mask and softmax of the scores of the block that starts at ``key``."""
    layout: gl.constexpr = _product_layout(plan.BLOCK_N)
    return _weights(
        s, row_max, row_sum, tile.row, key, tile.clear, scale_log2, problem, plan, layout, LAST_KEYS
    )


@gluon.jit
def _write(acc, row_max, row_sum, o_desc, o_tile, lse, tile, scale_log2, problem, plan):
    """Normalise, and send the tile out through shared memory."""
    # a row that sees no key gives 0, not NaN
    inverse = 1.0 / gl.where(row_sum == 0.0, 1.0, row_sum)
    out = _rescale(acc, inverse, plan).to(o_desc.dtype)
    o_tile.reshape([ROWS, plan.HEADDIM]).store(out)
    fence_async_shared()
    tma.async_copy_shared_to_global(o_desc, [tile.batch, tile.head, tile.row, 0], o_tile)
    if plan.WRITE_LSE:
        layout: gl.constexpr = gl.SliceLayout(1, _product_layout(plan.BLOCK_N))
        rows = tile.row + gl.arange(0, ROWS, layout)
        natural = row_max * (scale_log2 * LN2) + gl.log(row_sum)
        value = gl.where(row_sum == 0.0, float("-inf"), natural)
        lse_row = lse + tile.bh.to(gl.int64) * problem.seqlen_q
        gl.store(lse_row + rows, value, mask=rows < problem.seqlen_q)


@gluon.jit
def _attend(
    tiles,
    turn,
    more,
    base,
    q_feed,
    feeds,
    o_desc,
    lse,
    scale_log2,
    problem,
    plan,
    Q_IN_REGISTERS: gl.constexpr,
    EARLY_K: gl.constexpr,
):
    """One tile from first product to store; on the way, asks for what the following one needs."""
    D: gl.constexpr = plan.HEADDIM
    q_smem = q_feed[1]
    PERSISTENT: gl.constexpr = q_smem.shape[0] > 1
    tile, following = tiles
    k_feed, v_feed = feeds
    slot = turn % q_smem.shape[0]
    ROW_LAYOUT: gl.constexpr = gl.SliceLayout(1, _product_layout(plan.BLOCK_N))
    row_max = gl.full([ROWS], float("-inf"), gl.float32, ROW_LAYOUT)
    row_sum = gl.zeros([ROWS], gl.float32, ROW_LAYOUT)
    acc = gl.zeros([ROWS, D], gl.float32, _product_layout(D))
    mbarrier.wait(q_feed[2].index(slot), (turn // q_smem.shape[0]) & 1)
    q = q_smem.index(slot).reshape([ROWS, D])
    if Q_IN_REGISTERS:  # 0 to 1 % less without a mask, 1 to 3 % more with one: no row has it
        q = q.load(gl.DotOperandLayout(0, _product_layout(plan.BLOCK_N), 2))
    if tile.blocks > 0:
        last = tile.blocks - 1
        s = _scores(q, k_feed, base, plan)
        s = warpgroup_mma_wait(0, deps=[s])
        if PERSISTENT:
            tma.store_wait(0)  # the previous tile's O has left the slot for the following tile's Q
        gl.thread_barrier()  # all four warps are done with K_0
        if PERSISTENT:
            _ask_q(q_feed, following, turn + 1, more)
        _ask(k_feed, base, plan.STAGES, tiles, plan)
        p32, _, row_max, row_sum = _masked_weights(
            s, row_max, row_sum, tile, last * plan.BLOCK_N, scale_log2, problem, plan, True
        )
        p = _operand(p32, v_feed[0].dtype, plan)
        for j in range(last):
            state = (acc, p, row_max, row_sum)
            acc, p, row_max, row_sum = _step(
                *state, q, feeds, base, j, tiles, scale_log2, problem, plan, EARLY_K
            )
        acc = _output(p, acc, v_feed, base + last, plan)
        acc = warpgroup_mma_wait(0, deps=[acc])
    elif PERSISTENT:
        tma.store_wait(0)
        gl.thread_barrier()
        _ask_q(q_feed, following, turn + 1, more)
    gl.thread_barrier()  # all warps are done with Q, whose memory carries O out, and the last V
    if PERSISTENT:
        _ask(v_feed, base, tile.blocks - 1 + plan.STAGES, tiles, plan)
    _write(acc, row_max, row_sum, o_desc, q_smem.index(slot), lse, tile, scale_log2, problem, plan)


@gluon.jit(
    do_not_specialize=[
        "seqlen_q", "seqlen_k", "offset", "nheads", "num_m", "num_bh", "section", "total"
    ]
)  # fmt: skip
def attention_solo_kernel(
    q_desc,
    k_desc,
    v_desc,
    o_desc,
    lse,
    scale_log2,
    seqlen_q,
    seqlen_k,
    offset,
    nheads,
    num_m,
    num_bh,
    section,
    total,
    GROUP: gl.constexpr,
    CAUSAL: gl.constexpr,
    STAGES: gl.constexpr,
    EVEN_N: gl.constexpr,
    WRITE_LSE: gl.constexpr,
    POLY: gl.constexpr,
    PDL: gl.constexpr,
    PERSISTENT: gl.constexpr,
    Q_IN_REGISTERS: gl.constexpr,
    EARLY_K: gl.constexpr,
):
    """One program: one tile of 64 query rows, or, on a persistent grid, several in turn."""
    D: gl.constexpr = q_desc.block_shape[3]
    BLOCK_N: gl.constexpr = k_desc.block_shape[2]
    Q_SLOTS: gl.constexpr = 2 if PERSISTENT else 1
    plan = Plan(D, GROUP, CAUSAL, BLOCK_N, 1, STAGES, EVEN_N, WRITE_LSE, POLY, PERSISTENT)
    problem = Problem(seqlen_q, seqlen_k, offset, nheads, num_m, num_bh, section, total)
    q_feed = _allocate(q_desc, Q_SLOTS)
    k_feed = _allocate(k_desc, STAGES)
    v_feed = _allocate(v_desc, STAGES)
    for i in gl.static_range(Q_SLOTS):
        mbarrier.init(q_feed[2].index(i), count=1)
    for i in gl.static_range(STAGES):
        mbarrier.init(k_feed[2].index(i), count=1)
        mbarrier.init(v_feed[2].index(i), count=1)
    fence_async_shared()
    gl.thread_barrier()

    feeds = (k_feed, v_feed)
    turns = 1
    if PERSISTENT:
        turns = _turns(problem, plan)
    tile = _tile_at(0, turns, problem, plan)
    following = _tile_at(1, turns, problem, plan)
    tiles = (tile, following)
    if PDL:
        # All before it reads parameters only; all memory is read and written after it. The launch
        # overlaps the end of the kernel before: 0.2 us less at S = 128, 0.25 us at 512x32.
        gdc_wait()
    _ask_q(q_feed, tile, 0, True)
    if not PERSISTENT:
        for i in gl.static_range(STAGES):
            _ask(k_feed, 0, i, tiles, plan)
            _ask(v_feed, 0, i, tiles, plan)
        _attend(
            tiles, 0, False, 0, q_feed, feeds, o_desc, lse, scale_log2, problem, plan,
            Q_IN_REGISTERS, EARLY_K,
        )  # fmt: skip
    else:
        base = 0
        for i in gl.static_range(STAGES):
            if i < tile.blocks:
                _ask(k_feed, 0, i, tiles, plan)
                _ask(v_feed, 0, i, tiles, plan)
        for turn in range(turns):
            tiles = (tile, following)
            # a tile shorter than the ring leaves room for the following one's first blocks
            for i in gl.static_range(STAGES):
                if i >= tile.blocks:
                    _ask(k_feed, base, i, tiles, plan)
                    _ask(v_feed, base, i, tiles, plan)
            more = turn + 1 < turns
            _attend(
                tiles, turn, more, base, q_feed, feeds, o_desc, lse, scale_log2, problem, plan,
                Q_IN_REGISTERS, EARLY_K,
            )  # fmt: skip
            base += tile.blocks
            tile = following
            following = _tile_at(turn + 2, turns, problem, plan)
    tma.store_wait(0)
