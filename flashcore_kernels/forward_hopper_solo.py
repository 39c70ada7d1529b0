"""
Attention forward for Hopper without a producer warp: one warpgroup per program, 2 to 5 per SM.

A program is 128 threads and 64 query rows. It feeds itself: once its warps are done with a block of
K or V, one of its threads starts the TMA copy of the next. That costs no idle warps and no register
hand-over at the start, which is what short sequences pay for in ``forward_hopper_ws`` (about 4 us
of a launch); the price is that the programs of an SM do not share K and V.

There are two orders of work, ``S`` = Q K^T, ``O`` += P V:

    serial        S_j | softmax_j | O_j
    overlapping   issue S_{j+1}, O_j | wait S_{j+1} | softmax_{j+1}, under O_j | wait O_j, rescale

The serial one holds one block of scores at a time, not two: 128 keys then fit into 128 registers,
and four programs into an SM, which overlap each other better than three of the other order overlap
themselves (8 % less at 512x16 and 512x32, 5 % at 1024x16).
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
    _mask,
    _no_shares,
    _product_layout,
    _row_sum,
    _single_tile,
    _softmax,
)


@aggregate
class Tile:
    """The work of a program: 64 query rows of one head."""

    batch: gl.tensor
    head: gl.tensor
    row: gl.tensor
    blocks: gl.tensor  # key blocks to visit
    clear: gl.tensor  # keys from here on need the mask

    @gluon.constexpr_function
    def __init__(self, batch, head, row, blocks, clear):
        self.batch = batch
        self.head = head
        self.row = row
        self.blocks = blocks
        self.clear = clear


# What the functions below pass around: a ``feed`` is (descriptor, shared memory, barriers that say
# "filled"), of Q, K or V.


@gluon.jit
def _tile(problem, plan, GRID: gl.constexpr):
    """
    The tile of this program, see ``solo_grid``.

    Where the grid's own axes are tile, head and batch, nothing is divided: three divisions stood
    between a program's start and its first load. With fewer barriers there (see ``_ask``) 2 to 5 %
    less under a causal mask, 1 to 2 % without.
    """
    if GRID == "heads":
        m = gl.program_id(0)
        head = gl.program_id(1)
        batch = gl.program_id(2)
    elif GRID == "rows":
        head = gl.program_id(0)
        batch = gl.program_id(1)
        m = problem.num_m - 1 - gl.program_id(2)
    else:
        m, bh = _single_tile(gl.program_id(0), problem)
        head = bh % problem.nheads
        batch = bh // problem.nheads
    row = m * ROWS
    blocks, full = _key_blocks(row, problem, ROWS, plan)
    return Tile(batch, head, row, blocks, full * plan.BLOCK_N)


@gluon.jit
def _allocate(desc, slots: gl.constexpr):
    """Room for so many blocks of a tensor, with a barrier each: a feed."""
    smem = gl.allocate_shared_memory(desc.dtype, [slots] + desc.block_shape, desc.layout)  # noqa: RUF005 (Gluon knows no *)
    ready = gl.allocate_shared_memory(gl.int64, [slots, 1], mbarrier.MBarrierLayout())
    return desc, smem, ready


@gluon.jit
def _expect(feed, slot, pred):
    """Tell a slot's barrier how many bytes will come."""
    desc, _, ready = feed
    mbarrier.expect(ready.index(slot), desc.block_type.nbytes, pred=pred)


@gluon.jit
def _copy(feed, slot, batch, head, row, pred):
    """Start the copy of a block into a slot; its barrier expects it."""
    desc, smem, ready = feed
    where = [batch, head, row, 0]
    tma.async_copy_global_to_shared(desc, where, ready.index(slot), smem.index(slot), pred=pred)


@gluon.jit
def _ask_first(q_feed, feeds, tile, plan):
    """Ask for Q and as many blocks of K and V as the rings hold."""
    k_feed, v_feed = feeds
    head = tile.head // plan.GROUP
    for i in gl.static_range(plan.STAGES):
        # All are expected before any is asked for: the compiler puts a barrier of all warps between
        # the two.
        more = i < tile.blocks
        row = (tile.blocks - 1 - i) * plan.BLOCK_N
        if i == 0:
            _expect(q_feed, 0, True)
        _expect(k_feed, i, more)
        _expect(v_feed, i, more)
        if i == 0:
            _copy(q_feed, 0, tile.batch, tile.head, tile.row, True)
        _copy(k_feed, i, tile.batch, head, row, more)
        _copy(v_feed, i, tile.batch, head, row, more)


@gluon.jit
def _ask(feed, block, tile, plan):
    """Ask for a block, counted from the last key, if there is one; all warps let go of its slot."""
    more = block < tile.blocks
    slot = block % plan.STAGES
    row = (tile.blocks - 1 - block) * plan.BLOCK_N
    _expect(feed, slot, more)
    _copy(feed, slot, tile.batch, tile.head // plan.GROUP, row, more)


@gluon.jit
def _ask_both(feeds, of_k, of_v, tile, plan):
    """Ask for a block of K and one of V, with one barrier less than one by one."""
    k_feed, v_feed = feeds
    more_k = of_k < tile.blocks
    more_v = (of_v < tile.blocks) & (of_v >= plan.STAGES)  # the first were asked for at the start
    _expect(k_feed, of_k % plan.STAGES, more_k)
    _expect(v_feed, of_v % plan.STAGES, more_v)
    head = tile.head // plan.GROUP
    last = tile.blocks - 1
    _copy(k_feed, of_k % plan.STAGES, tile.batch, head, (last - of_k) * plan.BLOCK_N, more_k)
    _copy(v_feed, of_v % plan.STAGES, tile.batch, head, (last - of_v) * plan.BLOCK_N, more_v)


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
def _weights(s, row_max, shares, tile, block, scale_log2, problem, plan, LAST_KEYS: gl.constexpr):
    """
    Softmax of the scores of a block, counted from the last key, masked first if it needs that.

    Without a causal mask only ``LAST_KEYS``, the block visited first, can reach behind the end: the
    loop over the others knows no mask, which takes 15 % off 500x16 (registers for a third program).
    A causal one is a uniform branch inside the loop. A loop of its own for masked blocks costs two
    instructions more per pair of scores in both loops: P in float16 then crosses from one to the
    other one half at a time.
    """
    MASKED: gl.constexpr = plan.CAUSAL or (LAST_KEYS and not plan.EVEN_N)
    key = (tile.blocks - 1 - block) * plan.BLOCK_N
    if MASKED:  # noqa: SIM102 (the first test is the compiler's)
        if key >= tile.clear:
            s = _mask(s, tile.row, key, problem, plan, _product_layout(plan.BLOCK_N))
    return _softmax(s, row_max, shares, scale_log2, MASKED)


@gluon.jit
def _end_of_block(q_ready):
    """
    End a basic block, across which ptxas moves nothing: a wait for Q, which is there, and a branch.

    Without it ptxas moves the wait for O in front of the exponentials and nothing overlaps (2 to 4
    % more with 128 keys, nothing with 64), and, in the serial order, what asks for K behind most of
    them (1 to 5 % more at 512 keys).
    """
    mbarrier.wait(q_ready, 0)


@gluon.jit
def _in_series(acc, row_max, shares, q, q_ready, feeds, tile, scale_log2, problem, plan):
    """All blocks: scores, softmax and output of each before the next."""
    k_feed, v_feed = feeds
    for j in range(tile.blocks):
        s = _scores(q, k_feed, j, plan)
        s = warpgroup_mma_wait(0, deps=[s])
        gl.thread_barrier()  # all four warps are done with K_j
        _ask(k_feed, j + plan.STAGES, tile, plan)
        _end_of_block(q_ready)
        p, alpha, row_max, shares = _weights(
            s, row_max, shares, tile, j, scale_log2, problem, plan, True
        )
        p = _operand(p, v_feed[0].dtype, plan)
        acc = _output(p, _rescale(acc, alpha, plan), v_feed, j, plan)
        acc = warpgroup_mma_wait(0, deps=[acc])
        gl.thread_barrier()  # all four warps are done with V_j
        _ask(v_feed, j + plan.STAGES, tile, plan)
    return acc, row_max, shares


@gluon.jit
def _step(acc, p, row_max, shares, q, q_ready, feeds, j, tile, scale_log2, problem, plan,
          BLOCKS: gl.constexpr):  # fmt: skip
    """Scores of block j + 1 and output of block j."""
    k_feed, v_feed = feeds
    s = _scores(q, k_feed, j + 1, plan)
    acc = _output(p, acc, v_feed, j, plan)
    s = warpgroup_mma_wait(1, deps=[s])
    if BLOCKS > plan.STAGES:
        # all four warps are done with K_{j+1}, and with V_{j-1} since the last step
        gl.thread_barrier()
        _ask_both(feeds, j + 1 + plan.STAGES, j - 1 + plan.STAGES, tile, plan)
    p_new, alpha, row_max, shares = _weights(
        s, row_max, shares, tile, j + 1, scale_log2, problem, plan, False
    )
    _end_of_block(q_ready)
    acc = warpgroup_mma_wait(0, deps=[acc])
    return _rescale(acc, alpha, plan), _operand(p_new, v_feed[0].dtype, plan), row_max, shares


@gluon.jit
def _overlapping(acc, row_max, shares, q, q_ready, feeds, tile, scale_log2, problem, plan,
                 BLOCKS: gl.constexpr):  # fmt: skip
    """
    All blocks: the scores of the next are issued before the output of each.

    V_{j+1} is asked for when O_{j-1} is there, in the step that waits for V_j: more than one block
    takes two slots.
    """
    k_feed, v_feed = feeds
    if tile.blocks > 0:
        s = _scores(q, k_feed, 0, plan)
        s = warpgroup_mma_wait(0, deps=[s])
        if BLOCKS > plan.STAGES:
            gl.thread_barrier()  # all four warps are done with K_0
            _ask_both(feeds, plan.STAGES, 0, tile, plan)
        p, _, row_max, shares = _weights(
            s, row_max, shares, tile, 0, scale_log2, problem, plan, True
        )
        p = _operand(p, v_feed[0].dtype, plan)
        last = tile.blocks - 1
        if BLOCKS > 1:
            for j in range(last):
                acc, p, row_max, shares = _step(
                    acc, p, row_max, shares, q, q_ready, feeds, j, tile, scale_log2, problem, plan,
                    BLOCKS,
                )  # fmt: skip
        acc = _output(p, acc, v_feed, last, plan)
        acc = warpgroup_mma_wait(0, deps=[acc])
    return acc, row_max, shares


@gluon.jit
def _write(acc, row_max, shares, o_desc, o_tile, lse, tile, scale_log2, problem, plan):
    """Normalise, and send the tile out through shared memory."""
    row_sum = _row_sum(shares, _product_layout(plan.BLOCK_N))
    # a row that sees no key gives 0, not NaN
    inverse = 1.0 / gl.where(row_sum == 0.0, 1.0, row_sum)
    out = _rescale(acc, inverse, plan).to(o_desc.dtype)
    # Stores of the registers as they lie, 16 bytes of 8 rows each, take 10 to 25 % longer in all
    o_tile.reshape([ROWS, plan.HEADDIM]).store(out)
    fence_async_shared()
    tma.async_copy_shared_to_global(o_desc, [tile.batch, tile.head, tile.row, 0], o_tile)
    if plan.WRITE_LSE:
        layout: gl.constexpr = gl.SliceLayout(1, _product_layout(plan.BLOCK_N))
        rows = tile.row + gl.arange(0, ROWS, layout)
        natural = row_max * (scale_log2 * LN2) + gl.log(row_sum)
        value = gl.where(row_sum == 0.0, float("-inf"), natural)
        bh = tile.batch.to(gl.int64) * problem.nheads + tile.head
        gl.store(lse + bh * problem.seqlen_q + rows, value, mask=rows < problem.seqlen_q)


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
    PDL: gl.constexpr,
    GRID: gl.constexpr,
    BLOCKS: gl.constexpr,
    SERIAL: gl.constexpr,
):
    """One program: one tile of 64 query rows."""
    D: gl.constexpr = q_desc.block_shape[3]
    BLOCK_N: gl.constexpr = k_desc.block_shape[2]
    plan = Plan(D, GROUP, CAUSAL, BLOCK_N, STAGES, EVEN_N, WRITE_LSE)
    problem = Problem(seqlen_q, seqlen_k, offset, nheads, num_m, num_bh, section, total)
    q_feed = _allocate(q_desc, 1)
    k_feed = _allocate(k_desc, STAGES)
    v_feed = _allocate(v_desc, STAGES)
    q_ready = q_feed[2].index(0)
    mbarrier.init(q_ready, count=1)
    for i in gl.static_range(STAGES):
        mbarrier.init(k_feed[2].index(i), count=1)
        mbarrier.init(v_feed[2].index(i), count=1)
    fence_async_shared()
    gl.thread_barrier()

    feeds = (k_feed, v_feed)
    tile = _tile(problem, plan, GRID)
    if PDL:
        # All before it reads parameters only; all memory is read and written after it. The launch
        # overlaps the end of the kernel before: 0.2 us less at S = 128, 0.25 us at 512x32.
        gdc_wait()
    _ask_first(q_feed, feeds, tile, plan)

    ROW_LAYOUT: gl.constexpr = gl.SliceLayout(1, _product_layout(BLOCK_N))
    row_max = gl.full([ROWS], float("-inf"), gl.float32, ROW_LAYOUT)
    shares = _no_shares()
    acc = gl.zeros([ROWS, D], gl.float32, _product_layout(D))
    mbarrier.wait(q_ready, 0)
    q = q_feed[1].index(0).reshape([ROWS, D])
    if SERIAL:
        acc, row_max, shares = _in_series(
            acc, row_max, shares, q, q_ready, feeds, tile, scale_log2, problem, plan
        )
    else:
        acc, row_max, shares = _overlapping(
            acc, row_max, shares, q, q_ready, feeds, tile, scale_log2, problem, plan, BLOCKS
        )
    gl.thread_barrier()  # all warps are done with Q, whose memory carries O out
    _write(acc, row_max, shares, o_desc, q_feed[1].index(0), lse, tile, scale_log2, problem, plan)
    tma.store_wait(0)
