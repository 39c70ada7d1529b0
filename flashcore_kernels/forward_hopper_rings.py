"""
What producer and consumers of the warp-specialised kernel share: rings of tiles in shared memory.

The producer's side is here, too: it streams Q, K and V tiles into the rings with TMA, as far ahead
as they are deep, and waits only for a slot that its consumers still hold.
"""

# no "from __future__ import annotations" here: Gluon aggregates read their annotations as types

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma
from triton.language.core import _aggregate as aggregate

from .forward_hopper_tiles import ROWS, _key_blocks, _tile_of_turn, _turns


@aggregate
class Ring:
    """Tiles in shared memory, each with a barrier that says "filled" and one that says "free"."""

    smem: gl.shared_memory_descriptor
    ready: gl.shared_memory_descriptor
    free: gl.shared_memory_descriptor

    @gluon.constexpr_function
    def __init__(self, smem, ready, free):
        self.smem = smem
        self.ready = ready
        self.free = free


@aggregate
class Rings:
    """All that producer and consumers share."""

    q: Ring  # per consumer one slot, or two if persistent
    k: Ring
    v: Ring
    order: gl.shared_memory_descriptor  # whose turn it is at the tensor cores

    @gluon.constexpr_function
    def __init__(self, q, k, v, order):
        self.q = q
        self.k = k
        self.v = v
        self.order = order


@gluon.jit
def _ring(desc, slots: gl.constexpr, consumers: gl.constexpr):
    """Allocate a ring of ``slots`` tiles, each let go by ``consumers`` arrivals."""
    bar: gl.constexpr = mbarrier.MBarrierLayout()
    smem = gl.allocate_shared_memory(desc.dtype, [slots] + desc.block_shape, desc.layout)  # noqa: RUF005
    ready = gl.allocate_shared_memory(gl.int64, [slots, 1], bar)
    free = gl.allocate_shared_memory(gl.int64, [slots, 1], bar)
    for i in gl.static_range(slots):
        mbarrier.init(ready.index(i), count=1)
        mbarrier.init(free.index(i), count=consumers)
    return Ring(smem, ready, free)


@gluon.jit
def _load(desc, ring, it, batch, head, row, SLOTS: gl.constexpr):
    """Fill ring slot ``it`` with the tile that starts at ``row``, once its consumers let go."""
    slot = it % SLOTS
    mbarrier.wait(ring.free.index(slot), ((it // SLOTS) & 1) ^ 1)
    mbarrier.expect(ring.ready.index(slot), desc.block_type.nbytes)
    tma.async_copy_global_to_shared(
        desc, [batch, head, row, 0], ring.ready.index(slot), ring.smem.index(slot)
    )


@gluon.jit
def _q_slot(turn, w, plan):
    """The Q slot of warpgroup ``w`` in a turn, and the phase of the barriers there."""
    if plan.PERSISTENT:
        return turn % 2 * plan.CONSUMERS + w, (turn // 2) & 1
    else:  # noqa: RET505 (the compiler drops a branch, not what follows it)
        return w, turn & 1


@gluon.jit
def _produce(q_desc, k_desc, v_desc, rings, problem, plan):
    """Stream every tile of this program into shared memory, ahead by the depth of the rings."""
    BLOCK_N: gl.constexpr = plan.BLOCK_N
    STAGES: gl.constexpr = plan.STAGES
    TILE_ROWS: gl.constexpr = ROWS * plan.CONSUMERS
    it = 0
    for turn in range(_turns(problem, plan)):
        m, bh = _tile_of_turn(turn, problem, plan)
        batch = bh // problem.nheads
        head = bh % problem.nheads
        kv_head = head // plan.GROUP
        row = m * TILE_ROWS
        blocks, _ = _key_blocks(row, problem, TILE_ROWS, plan)
        for w in gl.static_range(plan.CONSUMERS):
            slot, phase = _q_slot(turn, w, plan)
            mbarrier.wait(rings.q.free.index(slot), phase ^ 1)
            mbarrier.expect(rings.q.ready.index(slot), q_desc.block_type.nbytes)
            tma.async_copy_global_to_shared(
                q_desc,
                [batch, head, row + w * ROWS, 0],
                rings.q.ready.index(slot),
                rings.q.smem.index(slot),
            )
            if w == 0:  # noqa: SIM102 (the first test is the compiler's)
                # the first K rides directly behind the first Q: the two gate the first product
                if blocks > 0:
                    _load(k_desc, rings.k, it, batch, kv_head, (blocks - 1) * BLOCK_N, STAGES)
        for j in range(blocks):
            # K runs one block ahead of V, in the order in which the consumers need them
            key = (blocks - 1 - j) * BLOCK_N
            if j + 1 < blocks:
                _load(k_desc, rings.k, it + 1, batch, kv_head, key - BLOCK_N, STAGES)
            _load(v_desc, rings.v, it, batch, kv_head, key, STAGES)
            it += 1
