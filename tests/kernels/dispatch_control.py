"""
Kernels that do what `gl.warp_specialize` does and little more: the controls for racecheck.

Their warp groups are those of the `ws2` kernels, so the compiler dispatches them by the same
instructions. The first kernel only dispatches: every thread writes its number, no shared memory is
ours. Each further one adds one thing that the attention kernel has, in the order of `LEVELS`, so
the first in which racecheck reports a hazard tells what brings it about. None reads shared memory
by instructions of its own: what racecheck reports here is between Triton's own instructions.
"""

# no "from __future__ import annotations" here: Gluon reads the annotations as types

from racecheck_report import CONTROL_PREFIX
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

# What each level adds:
LEVELS = (
    "dispatch",  # warp groups, and registers moved between them
    "barriers",  # a group's own barrier, in front of the dispatch and in each group
    "partings",  # one thread in front of the dispatch parts from its warp and meets it again
    "handshakes",  # barriers in shared memory: a producer and two consumers pass slots around
    "loads",  # TMA fills the slots, which take 192 KiB
    "products",  # the consumers multiply what is in a slot
    "stores",  # and write the product into their part of it, from where TMA takes it
)
BARRIERS, PARTINGS, HANDSHAKES, LOADS, PRODUCTS, STORES = map(gl.constexpr, range(1, len(LEVELS)))
CONSUMERS = gl.constexpr(2)
ROWS = gl.constexpr(64)
COLUMNS = gl.constexpr(64)
TILE_ROWS = gl.constexpr(256)  # 32 KiB of float16
SLOTS = gl.constexpr(6)
TURNS = gl.constexpr(32)  # tiles per program: enough that the compiler keeps the loop
THREADS = 128 + 128 + 32


@gluon.jit
def _number(out, FIRST: gl.constexpr, WARPS: gl.constexpr):
    layout: gl.constexpr = gl.BlockedLayout([1], [32], [WARPS], [0])
    thread = FIRST + gl.arange(0, 32 * WARPS, layout)
    gl.store(out + gl.program_id(0) * (128 + 128 + 32) + thread, thread)


@gluon.jit
def _consume(out, target, tiles, ready, free, LEVEL: gl.constexpr, W: gl.constexpr):
    """Let go of every slot that is filled, behind what the level asks for."""
    _number(out, 128 * W, 4)
    if LEVEL >= BARRIERS:
        gl.thread_barrier()
    if LEVEL >= HANDSHAKES:
        for turn in range(TURNS):
            slot = turn % SLOTS
            mbarrier.wait(ready.index(slot), (turn // SLOTS) & 1)
            if LEVEL >= PRODUCTS:
                tile = tiles.index(slot)
                layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, ROWS, 16])
                rows = tile.slice(W * ROWS, ROWS)
                columns = tile.slice(CONSUMERS * ROWS, ROWS).permute((1, 0))
                zeros = gl.zeros([ROWS, ROWS], gl.float32, layout)
                product = warpgroup_mma(rows, columns, zeros, use_acc=False, is_async=True)
                product = warpgroup_mma_wait(0, deps=[product])
                if LEVEL >= STORES:
                    rows.store(product.to(gl.float16))
                    fence_async_shared()
                    first = (gl.program_id(0) * TURNS + turn) * TILE_ROWS + W * ROWS
                    tma.async_copy_shared_to_global(target, [first, 0], rows)
                    tma.store_wait(0)
            mbarrier.arrive(free.index(slot))


@gluon.jit
def _produce(out, source, tiles, ready, free, LEVEL: gl.constexpr):
    """Fill every slot that is free, or only say so."""
    _number(out, 256, 1)
    if LEVEL >= BARRIERS:
        gl.thread_barrier()
    if LEVEL >= HANDSHAKES:
        for turn in range(TURNS):
            slot = turn % SLOTS
            mbarrier.wait(free.index(slot), ((turn // SLOTS) & 1) ^ 1)
            if LEVEL >= LOADS:
                mbarrier.expect(ready.index(slot), source.block_type.nbytes)
                first = (gl.program_id(0) * TURNS + turn) * TILE_ROWS
                tma.async_copy_global_to_shared(
                    source, [first, 0], ready.index(slot), tiles.index(slot)
                )
            else:
                mbarrier.arrive(ready.index(slot))


@gluon.jit
def _part():
    """Let thread 0 sleep while the others of its warp go on to the barrier."""
    layout: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
    thread = gl.arange(0, 128, layout)
    gl.inline_asm_elementwise(
        """{
        .reg .pred another;
        mov.b32 $0, $1;
        setp.ne.u32 another, $1, 0;
        @another bra met;
        nanosleep.u32 400;
        met:
        }""",
        "=&r,r",
        [thread],
        dtype=gl.int32,
        is_pure=False,
        pack=1,
    )
    gl.thread_barrier()


@gluon.jit(repr=lambda known: CONTROL_PREFIX + LEVELS[known.constants["LEVEL"]])
def control_kernel(out, source, target, LEVEL: gl.constexpr):
    """
    Dispatch three warp groups, which do what the level asks for.

    Args:
        out: int32 [programs, 288]; every thread's number in its program.
        source: What is loaded, float16 [programs * 32 * 256, 64], by tiles of 256 rows.
        target: Where products go, like `source`, by 64 rows: of each tile the first 128 times the
            transposed third 64.
        LEVEL: Which of `LEVELS`, with all before it.
    """
    bar: gl.constexpr = mbarrier.MBarrierLayout()
    if LEVEL >= BARRIERS:
        gl.thread_barrier()
    if LEVEL >= PARTINGS:
        _part()
    if LEVEL >= HANDSHAKES:
        ready = gl.allocate_shared_memory(gl.int64, [SLOTS, 1], bar)
        free = gl.allocate_shared_memory(gl.int64, [SLOTS, 1], bar)
        for i in gl.static_range(SLOTS):
            mbarrier.init(ready.index(i), count=1)
            mbarrier.init(free.index(i), count=CONSUMERS)
            gl.thread_barrier()  # as the compiler does it in the attention kernel
        fence_async_shared()
    else:
        ready = out
        free = out
    if LEVEL >= LOADS:
        tiles = gl.allocate_shared_memory(source.dtype, [SLOTS, TILE_ROWS, COLUMNS], source.layout)
    else:
        tiles = out
    gl.warp_specialize(
        [
            (_consume, (out, target, tiles, ready, free, LEVEL, 0)),
            (_consume, (out, target, tiles, ready, free, LEVEL, 1)),
            (_produce, (out, source, tiles, ready, free, LEVEL)),
        ],
        [4, 1],
        [240, 24],
    )
