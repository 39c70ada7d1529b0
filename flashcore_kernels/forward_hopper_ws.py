"""
Warp-specialised attention forward for Hopper (sm_90), written in Gluon for Triton 3.6.

Per program: one producer warp streams Q, K and V tiles into shared memory with TMA; ``CONSUMERS`` warpgroups
of 128 threads each own 64 query rows and compute, with the online softmax,

    S_j = Q K_j^T,  m = max(m, rowmax(S_j)),  P_j = exp2(c S_j - c m),  O = O * exp2(c (m_old - m)) + P_j V_j

where ``c = softmax_scale * log2(e)`` is folded into the one FFMA in front of every exp2.

Sources: FlashAttention-3 (Shah et al., 2024) for the producer/consumer split and for issuing S_{j+1} before
O_j; FlashAttention-4 (2025) for computing a share of the exponentials on the FMA pipe; online softmax:
Milakov and Gimelshein (2018).
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
from triton.language.extra.cuda import gdc_wait
from triton.language.core import _aggregate as aggregate

ROWS = gl.constexpr(64)  # query rows of one warpgroup: the M of one wgmma instruction
LN2 = gl.constexpr(0.6931471805599453)


@aggregate
class Plan:
    """What the compiler knows: the tile, the mask, and which tricks are on."""

    HEADDIM: gl.constexpr
    GROUP: gl.constexpr  # query heads per key/value head
    CAUSAL: gl.constexpr
    BLOCK_N: gl.constexpr
    CONSUMERS: gl.constexpr
    STAGES: gl.constexpr
    EVEN_N: gl.constexpr  # seqlen_k is a multiple of BLOCK_N
    WRITE_LSE: gl.constexpr
    POLY: gl.constexpr  # of every 8 exponentials, how many go to the FMA pipe
    OWN_O: gl.constexpr  # O leaves through its own shared memory (else through Q's)

    @gluon.constexpr_function
    def __init__(self, HEADDIM, GROUP, CAUSAL, BLOCK_N, CONSUMERS, STAGES, EVEN_N, WRITE_LSE, POLY, OWN_O):
        self.HEADDIM = gl.constexpr(HEADDIM)
        self.GROUP = gl.constexpr(GROUP)
        self.CAUSAL = gl.constexpr(CAUSAL)
        self.BLOCK_N = gl.constexpr(BLOCK_N)
        self.CONSUMERS = gl.constexpr(CONSUMERS)
        self.STAGES = gl.constexpr(STAGES)
        self.EVEN_N = gl.constexpr(EVEN_N)
        self.WRITE_LSE = gl.constexpr(WRITE_LSE)
        self.POLY = gl.constexpr(POLY)
        self.OWN_O = gl.constexpr(OWN_O)


@aggregate
class Problem:
    """The runtime sizes."""

    seqlen_q: gl.tensor
    seqlen_k: gl.tensor
    offset: gl.tensor  # row i sees key j where j <= i + offset
    nheads: gl.tensor
    num_m: gl.tensor  # row tiles per head
    num_bh: gl.tensor
    section: gl.tensor  # heads walked together
    total: gl.tensor

    @gluon.constexpr_function
    def __init__(self, seqlen_q, seqlen_k, offset, nheads, num_m, num_bh, section, total):
        self.seqlen_q = seqlen_q
        self.seqlen_k = seqlen_k
        self.offset = offset
        self.nheads = nheads
        self.num_m = num_m
        self.num_bh = num_bh
        self.section = section
        self.total = total


@aggregate
class Ring:
    """Tiles in shared memory, each with a barrier that says "filled" and one that says "free again"."""

    smem: gl.shared_memory_descriptor
    ready: gl.shared_memory_descriptor
    free: gl.shared_memory_descriptor

    @gluon.constexpr_function
    def __init__(self, smem, ready, free):
        self.smem = smem
        self.ready = ready
        self.free = free


@gluon.jit
def _tile_coordinates(tile, problem, CAUSAL: gl.constexpr):
    """
    Map a tile number to (m tile, batch*head), in an order that is kind to L2 and to the tail.

    Without a mask the tiles of a head follow each other. Under a causal mask heads are walked in sections small
    enough for their K and V to stay in L2; inside one, all heads' tiles with the same m come together, the heaviest
    m first, so that the last wave is light.
    """
    if CAUSAL:
        per_section = problem.section * problem.num_m
        first_head = (tile // per_section) * problem.section
        rest = tile % per_section
        heads = gl.minimum(problem.section, problem.num_bh - first_head)
        return problem.num_m - 1 - rest // heads, first_head + rest % heads
    else:
        return tile % problem.num_m, tile // problem.num_m


@gluon.jit
def _tile_of_turn(turn, plan):
    """
    The tile that this program works on in its turn ``turn``.

    Causal tiles get lighter in the order of their numbers: walking every other round backwards balances programs.
    """
    place = gl.program_id(0)
    if plan.CAUSAL:
        if turn % 2 == 1:
            place = gl.num_programs(0) - 1 - place
    return turn * gl.num_programs(0) + place


@gluon.jit
def _turns(problem, plan):
    """How many tiles this program works on: a persistent grid deals them out in rounds, see ``_tile_of_turn``."""
    rounds = problem.total // gl.num_programs(0)
    if _tile_of_turn(rounds, plan) < problem.total:
        rounds += 1
    return rounds


@gluon.jit
def _key_blocks(row, problem, ROWS_SEEN: gl.constexpr, plan):
    """Return (key blocks to visit, how many of those, counted from the first key, need no mask)."""
    BLOCK_N: gl.constexpr = plan.BLOCK_N
    end = problem.seqlen_k
    if plan.CAUSAL:
        end = gl.maximum(gl.minimum(end, row + ROWS_SEEN + problem.offset), 0)
    blocks = (end + BLOCK_N - 1) // BLOCK_N
    full = blocks
    if not plan.EVEN_N:
        full = gl.minimum(full, problem.seqlen_k // BLOCK_N)
    if plan.CAUSAL:
        full = gl.minimum(full, gl.maximum(row + 1 + problem.offset, 0) // BLOCK_N)
    return blocks, full


@gluon.jit
def _load(desc, ring, it, batch, head, row, STAGES: gl.constexpr):
    """Fill ring slot ``it`` with the tile that starts at ``row``, once its consumers have let go of it."""
    slot = it % STAGES
    mbarrier.wait(ring.free.index(slot), ((it // STAGES) & 1) ^ 1)
    mbarrier.expect(ring.ready.index(slot), desc.block_type.nbytes)
    tma.async_copy_global_to_shared(desc, [batch, head, row, 0], ring.ready.index(slot), ring.smem.index(slot))


@gluon.jit
def _produce(q_desc, k_desc, v_desc, q_ring, k_ring, v_ring, problem, plan):
    """Stream every tile of this program into shared memory, running ahead by the depth of the rings."""
    BLOCK_N: gl.constexpr = plan.BLOCK_N
    STAGES: gl.constexpr = plan.STAGES
    TILE_ROWS: gl.constexpr = ROWS * plan.CONSUMERS
    it = 0
    for turn in range(_turns(problem, plan)):
        m, bh = _tile_coordinates(_tile_of_turn(turn, plan), problem, plan.CAUSAL)
        batch = bh // problem.nheads
        head = bh % problem.nheads
        kv_head = head // plan.GROUP
        row = m * TILE_ROWS
        blocks, full = _key_blocks(row, problem, TILE_ROWS, plan)
        for w in gl.static_range(plan.CONSUMERS):
            mbarrier.wait(q_ring.free.index(w), (turn & 1) ^ 1)
            mbarrier.expect(q_ring.ready.index(w), q_desc.block_type.nbytes)
            tma.async_copy_global_to_shared(q_desc, [batch, head, row + w * ROWS, 0], q_ring.ready.index(w),
                                            q_ring.smem.index(w))
            if w == 0:
                # the first K rides directly behind the first Q: the two gate the first product
                if blocks > 0:
                    _load(k_desc, k_ring, it, batch, kv_head, (blocks - 1) * BLOCK_N, STAGES)
        for j in range(blocks):
            # K runs one block ahead of V, in the order in which the consumers need them
            if j + 1 < blocks:
                _load(k_desc, k_ring, it + 1, batch, kv_head, (blocks - 2 - j) * BLOCK_N, STAGES)
            _load(v_desc, v_ring, it, batch, kv_head, (blocks - 1 - j) * BLOCK_N, STAGES)
            it += 1


@gluon.jit
def _mask(s, row, key, problem, plan, S_LAYOUT: gl.constexpr):
    """Put -inf where a key lies behind the end or, under the causal mask, after the row's diagonal."""
    ROW_LAYOUT: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    columns = gl.arange(0, plan.BLOCK_N, gl.SliceLayout(0, S_LAYOUT))
    last = gl.full([s.shape[0]], problem.seqlen_k - 1 - key, gl.int32, ROW_LAYOUT)
    if plan.CAUSAL:
        # relative to the block, so that every column is a constant plus the thread's own: one compare per score
        last = gl.minimum(last, gl.arange(0, s.shape[0], ROW_LAYOUT) + (row + problem.offset - key))
    return gl.where(columns[None, :] <= last[:, None], s, float("-inf"))


@gluon.constexpr_function
def _exp2_program(poly):
    """
    PTX for eight exp2, ``poly`` of them (spread evenly) on the FMA pipe.

    2^x = 2^n 2^f with n = round(x): adding 1.5 * 2^23 leaves n in the low mantissa bits, a cubic gives 2^f for f in
    [-1/2, 1/2] to 7.5e-5 (minimax; a seventh of what rounding P to float16 costs), n goes into the exponent.
    """
    lines = []
    for i in range(8):
        out, x = f"${i}", f"${i + 8}"
        if (i * poly) % 8 < poly:
            lines.append(f"""{{ .reg .f32 t, n, f, y; .reg .b32 e, b;
                max.ftz.f32 f, {x}, 0fC2FC0000; add.rn.f32 t, f, 0f4B400000; sub.rn.f32 n, t, 0f4B400000;
                sub.rn.f32 f, f, n; fma.rn.f32 y, f, 0f3D61FBB0, 0f3E786F0D; fma.rn.f32 y, y, f, 0f3F31798D;
                fma.rn.f32 y, y, f, 0f3F7FFB49; mov.b32 e, t; shl.b32 e, e, 23; mov.b32 b, y; add.s32 b, b, e;
                mov.b32 {out}, b; }}""")
        else:
            lines.append(f"ex2.approx.ftz.f32 {out}, {x};")
    return "\n".join(lines)


@gluon.jit
def _exp2(x, POLY: gl.constexpr):
    """
    2^x of a tile of scores; ``POLY`` of every 8 leave the special-function unit alone.

    That unit makes 16 results per clock and SM, which at headdim 64 costs as many clocks as both products together.
    """
    if POLY == 0:
        return gl.exp2(x)
    PROGRAM: gl.constexpr = _exp2_program(POLY)
    return gl.inline_asm_elementwise(PROGRAM, "=f,=f,=f,=f,=f,=f,=f,=f,f,f,f,f,f,f,f,f", [x], dtype=gl.float32,
                                     is_pure=True, pack=8)


@gluon.jit
def _softmax(s, m, l, scale_log2, MASKED: gl.constexpr, POLY: gl.constexpr):
    """One step of the online softmax on raw scores; returns (p, alpha, m, l)."""
    m_new = gl.maximum(m, gl.max(s, 1))
    m_safe = m_new
    if MASKED:
        # a row that has seen no key yet: -inf - -inf would be NaN
        m_safe = gl.where(m_new == float("-inf"), 0.0, m_new)
    shift = m_safe * scale_log2
    p = _exp2(s * scale_log2 - shift[:, None], 0 if MASKED else POLY)
    alpha = gl.exp2(m * scale_log2 - shift)
    l = l * alpha + gl.sum(p, 1)
    return p, alpha, m_new, l


@gluon.jit
def _skip(ring, it, STAGES: gl.constexpr):
    """Let go of a ring slot unread; its filling is awaited, so that this warpgroup never falls a phase behind."""
    mbarrier.wait(ring.ready.index(it % STAGES), (it // STAGES) & 1)
    mbarrier.arrive(ring.free.index(it % STAGES))


@gluon.jit
def _weights(s, m, l, row, key, clear, scale_log2, problem, plan, S_LAYOUT: gl.constexpr):
    """
    Mask, if this block of keys needs it, and softmax.

    The test is a uniform branch inside one loop. A loop of its own for masked blocks costs two extra instructions
    per pair of scores in both loops, because P in float16 then crosses from one to the other one half at a time.
    """
    MASKED: gl.constexpr = plan.CAUSAL or not plan.EVEN_N
    if MASKED:
        if key >= clear:
            s = _mask(s, row, key, problem, plan, S_LAYOUT)
    return _softmax(s, m, l, scale_log2, MASKED, plan.POLY)


@gluon.jit
def _step(q, acc, p, m, l, k_ring, v_ring, it, row, key, clear, scale_log2, problem, plan, S_LAYOUT: gl.constexpr,
          O_LAYOUT: gl.constexpr):
    """
    Key block ``it`` of the ring: S = Q K_it^T is issued first, O += P_{it-1} V_{it-1} behind it.

    The softmax of S then runs while the tensor cores are still busy with O.
    """
    STAGES: gl.constexpr = plan.STAGES
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, O_LAYOUT, 2)
    slot = it % STAGES
    before = (it - 1) % STAGES
    zeros = gl.zeros([ROWS, plan.BLOCK_N], gl.float32, S_LAYOUT)
    mbarrier.wait(k_ring.ready.index(slot), (it // STAGES) & 1)
    k = k_ring.smem.index(slot).reshape([plan.BLOCK_N, plan.HEADDIM])
    s = warpgroup_mma(q, k.permute((1, 0)), zeros, use_acc=False, is_async=True)
    mbarrier.wait(v_ring.ready.index(before), ((it - 1) // STAGES) & 1)
    v = v_ring.smem.index(before).reshape([plan.BLOCK_N, plan.HEADDIM])
    acc = warpgroup_mma(p, v, acc, is_async=True)
    s = warpgroup_mma_wait(1, deps=[s])
    mbarrier.arrive(k_ring.free.index(slot))
    p_new, alpha, m, l = _weights(s, m, l, row, key, clear, scale_log2, problem, plan, S_LAYOUT)
    # Already filled, so this never waits: it ends a basic block. Without it ptxas moves the wait for O_{it-1} up in
    # front of the exponentials, and nothing overlaps.
    mbarrier.wait(v_ring.ready.index(before), ((it - 1) // STAGES) & 1)
    acc = warpgroup_mma_wait(0, deps=[acc])
    mbarrier.arrive(v_ring.free.index(before))
    acc = acc * gl.convert_layout(alpha, gl.SliceLayout(1, O_LAYOUT))[:, None]
    p = gl.convert_layout(p_new.to(v_ring.smem.dtype), P_LAYOUT)
    return acc, p, m, l


@gluon.jit
def _consume(o_desc, lse, q_ring, k_ring, v_ring, o_smem, scale_log2, problem, plan, W: gl.constexpr):
    """Warpgroup ``W``: 64 rows of every tile of this program."""
    BLOCK_N: gl.constexpr = plan.BLOCK_N
    D: gl.constexpr = plan.HEADDIM
    STAGES: gl.constexpr = plan.STAGES
    TILE_ROWS: gl.constexpr = ROWS * plan.CONSUMERS
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, O_LAYOUT, 2)
    ROW_LAYOUT: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    it = 0
    for turn in range(_turns(problem, plan)):
        m_tile, bh = _tile_coordinates(_tile_of_turn(turn, plan), problem, plan.CAUSAL)
        row = m_tile * TILE_ROWS + W * ROWS
        steps, full = _key_blocks(row, problem, ROWS, plan)
        clear = full * BLOCK_N
        if plan.CAUSAL:
            # the last key blocks of the tile lie behind the diagonal of its first rows
            tile_steps, _ = _key_blocks(m_tile * TILE_ROWS, problem, TILE_ROWS, plan)
            for _ in range(tile_steps - steps):
                _skip(k_ring, it, STAGES)
                _skip(v_ring, it, STAGES)
                it += 1

        mbarrier.wait(q_ring.ready.index(W), turn & 1)
        q = q_ring.smem.index(W).reshape([ROWS, D])
        m = gl.full([ROWS], float("-inf"), gl.float32, ROW_LAYOUT)
        l = gl.zeros([ROWS], gl.float32, ROW_LAYOUT)
        acc = gl.zeros([ROWS, D], gl.float32, O_LAYOUT)
        if steps > 0:
            slot = it % STAGES
            key = (steps - 1) * BLOCK_N
            zeros = gl.zeros([ROWS, BLOCK_N], gl.float32, S_LAYOUT)
            mbarrier.wait(k_ring.ready.index(slot), (it // STAGES) & 1)
            k = k_ring.smem.index(slot).reshape([BLOCK_N, D])
            s = warpgroup_mma(q, k.permute((1, 0)), zeros, use_acc=False, is_async=True)
            s = warpgroup_mma_wait(0, deps=[s])
            mbarrier.arrive(k_ring.free.index(slot))
            p32, alpha, m, l = _weights(s, m, l, row, key, clear, scale_log2, problem, plan, S_LAYOUT)
            p = gl.convert_layout(p32.to(v_ring.smem.dtype), P_LAYOUT)
            it += 1
            for _ in range(steps - 1):
                key -= BLOCK_N
                acc, p, m, l = _step(q, acc, p, m, l, k_ring, v_ring, it, row, key, clear, scale_log2, problem, plan,
                                     S_LAYOUT, O_LAYOUT)
                it += 1
            before = (it - 1) % STAGES
            mbarrier.wait(v_ring.ready.index(before), ((it - 1) // STAGES) & 1)
            v = v_ring.smem.index(before).reshape([BLOCK_N, D])
            acc = warpgroup_mma(p, v, acc, is_async=True)
            if plan.OWN_O:
                mbarrier.arrive(q_ring.free.index(W))
            acc = warpgroup_mma_wait(0, deps=[acc])
            mbarrier.arrive(v_ring.free.index(before))
        else:
            if plan.OWN_O:
                mbarrier.arrive(q_ring.free.index(W))

        inverse = 1.0 / gl.where(l == 0.0, 1.0, l)  # a row that sees no key gives 0, not NaN
        acc = acc * gl.convert_layout(inverse, gl.SliceLayout(1, O_LAYOUT))[:, None]
        o_tile = o_smem.index(W)
        tma.store_wait(0)
        o_tile.reshape([ROWS, D]).store(acc.to(o_desc.dtype))
        fence_async_shared()
        batch = bh // problem.nheads
        tma.async_copy_shared_to_global(o_desc, [batch, bh % problem.nheads, row, 0], o_tile)
        if plan.WRITE_LSE:
            rows = row + gl.arange(0, ROWS, ROW_LAYOUT)
            value = gl.where(l == 0.0, float("-inf"), m * (scale_log2 * LN2) + gl.log(l))
            gl.store(lse + bh.to(gl.int64) * problem.seqlen_q + rows, value, mask=rows < problem.seqlen_q)
        if not plan.OWN_O:
            tma.store_wait(0)
            mbarrier.arrive(q_ring.free.index(W))
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["seqlen_q", "seqlen_k", "offset", "nheads", "num_m", "num_bh", "section", "total"])
def attention_ws_kernel(q_desc, k_desc, v_desc, o_desc, lse, scale_log2, seqlen_q, seqlen_k, offset, nheads,
                            num_m, num_bh, section, total, GROUP: gl.constexpr, CAUSAL: gl.constexpr,
                            CONSUMERS: gl.constexpr, STAGES: gl.constexpr, EVEN_N: gl.constexpr,
                            WRITE_LSE: gl.constexpr, POLY: gl.constexpr, PDL: gl.constexpr, OWN_O: gl.constexpr,
                            CONSUMER_REGS: gl.constexpr):
    """Allocate the rings, then split into one producer warp and ``CONSUMERS`` warpgroups."""
    D: gl.constexpr = q_desc.block_shape[3]
    BLOCK_N: gl.constexpr = k_desc.block_shape[2]
    plan = Plan(D, GROUP, CAUSAL, BLOCK_N, CONSUMERS, STAGES, EVEN_N, WRITE_LSE, POLY, OWN_O)
    problem = Problem(seqlen_q, seqlen_k, offset, nheads, num_m, num_bh, section, total)
    if PDL:
        gdc_wait()
    BAR: gl.constexpr = mbarrier.MBarrierLayout()
    q_ring = Ring(
        gl.allocate_shared_memory(q_desc.dtype, [CONSUMERS] + q_desc.block_shape, q_desc.layout),
        gl.allocate_shared_memory(gl.int64, [CONSUMERS, 1], BAR),
        gl.allocate_shared_memory(gl.int64, [CONSUMERS, 1], BAR))
    k_ring = Ring(
        gl.allocate_shared_memory(k_desc.dtype, [STAGES] + k_desc.block_shape, k_desc.layout),
        gl.allocate_shared_memory(gl.int64, [STAGES, 1], BAR),
        gl.allocate_shared_memory(gl.int64, [STAGES, 1], BAR))
    v_ring = Ring(
        gl.allocate_shared_memory(v_desc.dtype, [STAGES] + v_desc.block_shape, v_desc.layout),
        gl.allocate_shared_memory(gl.int64, [STAGES, 1], BAR),
        gl.allocate_shared_memory(gl.int64, [STAGES, 1], BAR))
    if OWN_O:
        o_smem = gl.allocate_shared_memory(q_desc.dtype, [CONSUMERS] + o_desc.block_shape, o_desc.layout)
    else:
        o_smem = q_ring.smem
    for w in gl.static_range(CONSUMERS):
        mbarrier.init(q_ring.ready.index(w), count=1)
        mbarrier.init(q_ring.free.index(w), count=1)
    for i in gl.static_range(STAGES):
        mbarrier.init(k_ring.ready.index(i), count=1)
        mbarrier.init(v_ring.ready.index(i), count=1)
        mbarrier.init(k_ring.free.index(i), count=CONSUMERS)
        mbarrier.init(v_ring.free.index(i), count=CONSUMERS)
    fence_async_shared()
    feed = (q_desc, k_desc, v_desc, q_ring, k_ring, v_ring, problem, plan)
    if CONSUMERS == 1:
        gl.warp_specialize(
            [(_consume, (o_desc, lse, q_ring, k_ring, v_ring, o_smem, scale_log2, problem, plan, 0)),
             (_produce, feed)], [1], [24])
    elif CONSUMERS == 2:
        gl.warp_specialize(
            [(_consume, (o_desc, lse, q_ring, k_ring, v_ring, o_smem, scale_log2, problem, plan, 0)),
             (_consume, (o_desc, lse, q_ring, k_ring, v_ring, o_smem, scale_log2, problem, plan, 1)),
             (_produce, feed)], [4, 1], [CONSUMER_REGS, 24])
    elif CONSUMERS == 3:
        gl.warp_specialize(
            [(_consume, (o_desc, lse, q_ring, k_ring, v_ring, o_smem, scale_log2, problem, plan, 0)),
             (_consume, (o_desc, lse, q_ring, k_ring, v_ring, o_smem, scale_log2, problem, plan, 1)),
             (_consume, (o_desc, lse, q_ring, k_ring, v_ring, o_smem, scale_log2, problem, plan, 2)),
             (_produce, feed)], [4, 4, 1], [CONSUMER_REGS, CONSUMER_REGS, 24])
    else:
        gl.warp_specialize(
            [(_consume, (o_desc, lse, q_ring, k_ring, v_ring, o_smem, scale_log2, problem, plan, 0)),
             (_consume, (o_desc, lse, q_ring, k_ring, v_ring, o_smem, scale_log2, problem, plan, 1)),
             (_consume, (o_desc, lse, q_ring, k_ring, v_ring, o_smem, scale_log2, problem, plan, 2)),
             (_consume, (o_desc, lse, q_ring, k_ring, v_ring, o_smem, scale_log2, problem, plan, 3)),
             (_produce, feed)], [4, 4, 4, 1], [CONSUMER_REGS, CONSUMER_REGS, CONSUMER_REGS, 24])
