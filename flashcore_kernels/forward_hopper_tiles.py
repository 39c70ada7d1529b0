"""
What the Hopper kernels share: the order of tiles, the keys a tile visits, mask and online softmax.

Everything here is called from inside a Gluon kernel and is compiled into it.
"""

# no "from __future__ import annotations" here: Gluon aggregates read their annotations as types

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.language.core import _aggregate as aggregate

ROWS = gl.constexpr(64)  # query rows of one warpgroup: the M of one wgmma instruction
# How the four threads of a row hold what each of them sums up: [64, 4].
SHARES = gl.constexpr(
    gl.DistributedLinearLayout(
        reg_bases=[[8, 0]],
        lane_bases=[[0, 1], [0, 2], [1, 0], [2, 0], [4, 0]],
        warp_bases=[[16, 0], [32, 0]],
        block_bases=[],
        shape=[64, 4],
    )
)
LN2 = gl.constexpr(0.6931471805599453)


@aggregate
class Plan:
    """What the compiler knows: the tile, the mask, and which tricks are on."""

    HEADDIM: gl.constexpr
    GROUP: gl.constexpr  # query heads per key/value head
    CAUSAL: gl.constexpr
    BLOCK_N: gl.constexpr
    STAGES: gl.constexpr
    EVEN_N: gl.constexpr  # seqlen_k is a multiple of BLOCK_N
    WRITE_LSE: gl.constexpr
    CONSUMERS: gl.constexpr  # warpgroups that share a program's K and V
    PERSISTENT: gl.constexpr  # a program works on several tiles, one per turn
    ORDERED: gl.constexpr  # consumer warpgroups issue their products in turn

    @gluon.constexpr_function
    def __init__(
        self,
        HEADDIM,
        GROUP,
        CAUSAL,
        BLOCK_N,
        STAGES,
        EVEN_N,
        WRITE_LSE,
        CONSUMERS=1,
        PERSISTENT=False,
        ORDERED=False,
    ):
        self.HEADDIM = gl.constexpr(HEADDIM)
        self.GROUP = gl.constexpr(GROUP)
        self.CAUSAL = gl.constexpr(CAUSAL)
        self.BLOCK_N = gl.constexpr(BLOCK_N)
        self.STAGES = gl.constexpr(STAGES)
        self.EVEN_N = gl.constexpr(EVEN_N)
        self.WRITE_LSE = gl.constexpr(WRITE_LSE)
        self.CONSUMERS = gl.constexpr(CONSUMERS)
        self.PERSISTENT = gl.constexpr(PERSISTENT)
        self.ORDERED = gl.constexpr(ORDERED)


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


@gluon.constexpr_function
def _product_layout(columns):
    """How a warpgroup holds a [64, columns] product in its registers."""
    return gl.NVMMADistributedLayout([3, 0], [4, 1], [16, columns, 16])


@gluon.jit
def _dealt(units):
    """How many of ``units``, dealt out in rounds, this program gets."""
    programs = gl.num_programs(0)
    return (units + programs - 1 - gl.program_id(0)) // programs


@gluon.jit
def _pairs(problem, plan):
    """
    Return (pairs of tiles to deal out, how many of those pairs lie in pairs of heads).

    None without a mask, where tiles are alike, nor if each tile has a program of its own. What is
    left over behind the last full round is dealt out singly if that ends sooner.
    """
    dealt = 0
    there = 0
    if plan.CAUSAL:
        programs = gl.num_programs(0)
        if programs < problem.total:
            there = problem.num_bh // 2 * problem.num_m
            dealt = there
            if 2 * (there % programs) <= programs:
                dealt -= there % programs
    return dealt, there


@gluon.jit
def _turns(problem, plan):
    """How many tiles this program works on."""
    pairs, _ = _pairs(problem, plan)
    return _dealt(pairs) + _dealt(problem.total - pairs)


@gluon.jit
def _tile_of_pair(pair, second, problem):
    """
    Return (m tile, batch*head) of the first or second tile of a pair.

    The j-th heaviest tile of one head goes with the j-th lightest of the next, so all pairs weigh
    the same; dealt backwards in every other round instead, programs walk different heads, whose K
    and V leave L2 (5 % more at S = 16384). The last few heads go together, pairs of unequal tiles
    first: those of two middling tiles, which come last, may be dealt out singly.
    """
    num_m = problem.num_m
    head_pairs = problem.num_bh // 2
    together = gl.maximum(gl.minimum(problem.section // 2, head_pairs), 1)
    head_pair = pair // num_m
    j = pair % num_m
    if head_pair >= head_pairs - together:
        rank = pair - (head_pairs - together) * num_m
        head_pair = head_pairs - together + rank % together
        j = rank // together // 2
        if rank // together % 2 == 1:
            j = num_m - 1 - j
    return gl.where(second == 0, num_m - 1 - j, j), head_pair * 2 + second


@gluon.jit
def _single_tile(place, problem):
    """
    Return (m tile, batch*head) of a place in the line of tiles of a grid that is not persistent.

    Heads are walked in sections small enough for their K and V to stay in L2; inside one, the tiles
    of all heads with the same m come together, the heaviest m first, so the last wave is light.
    """
    per_section = problem.section * problem.num_m
    first_head = (place // per_section) * problem.section
    rest = place % per_section
    heads = gl.maximum(gl.minimum(problem.section, problem.num_bh - first_head), 1)
    return problem.num_m - 1 - rest // heads, first_head + rest % heads


@gluon.jit
def _tile_of_turn(turn, problem, plan):
    """
    Return (m tile, batch*head) of this program's turn ``turn``.

    Without a mask the tiles of a head follow each other. Under a causal mask work grows with m: a
    persistent grid deals out pairs, then what is left of them and an odd last head singly.
    """
    programs = gl.num_programs(0)
    place = turn * programs + gl.program_id(0)
    if plan.CAUSAL:
        m, bh = _single_tile(place, problem)
        if programs < problem.total:
            pairs, there = _pairs(problem, plan)
            mine = _dealt(pairs)
            second = turn % 2
            pair = turn // 2 * programs + gl.program_id(0)
            if turn >= 2 * mine:
                single = place - mine * programs - pairs
                second = single % 2
                pair = pairs + single // 2
            m, bh = _tile_of_pair(pair, second, problem)
            if pair >= there:
                m = problem.num_m - 1 - (place - mine * programs - pairs - 2 * (there - pairs))
                bh = problem.num_bh - 1
        return m, bh
    else:  # noqa: RET505 (the compiler drops a branch, not what follows it)
        return place % problem.num_m, place // problem.num_m


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
def _mask(s, row, key, problem, plan, S_LAYOUT: gl.constexpr):
    """
    Put -inf where a key lies behind the end or, if causal, behind the row's diagonal.

    A thread's columns are 0, 1, 8, 9, ... plus its own 0, 2, 4 or 6. Its own goes to the other side
    of the comparison, so that each column is a constant of its one instruction; sums of the two
    took a register each, 27 more in ``solo1-n128``, and spilled 28 bytes in ``ws3``.
    """
    ROW_LAYOUT: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    columns = gl.arange(0, plan.BLOCK_N, gl.SliceLayout(0, S_LAYOUT))
    OWN: gl.constexpr = 6
    last = gl.full([s.shape[0]], problem.seqlen_k - 1 - key, gl.int32, ROW_LAYOUT)
    if plan.CAUSAL:
        # relative to the block, whose columns the compiler knows
        last = gl.minimum(last, gl.arange(0, s.shape[0], ROW_LAYOUT) + (row + problem.offset - key))
    seen = (columns & ~OWN)[None, :] <= last[:, None] - (columns & OWN)[None, :]
    return gl.where(seen, s, float("-inf"))


@gluon.jit
def _no_shares():
    """Sums of no weights."""
    return gl.zeros([ROWS, 4], gl.float32, SHARES)


@gluon.jit
def _shares(p):
    """
    Sum each row's weights within each of its four threads, [64, 4].

    The threads' sums meet once, at the end (``_row_sum``): ``ws`` takes 1 to 2 % less than with
    a whole sum, four shuffles, in every step.
    """
    # columns 0 and 1 are one thread's, 2 and 3 the next's, 8 and 9 again the first's
    p = p.reshape([p.shape[0], 4, p.shape[1] // 32, 4, 2])
    return gl.convert_layout(gl.sum(gl.sum(gl.sum(p, 4), 2), 1), SHARES)


@gluon.jit
def _row_sum(shares, S_LAYOUT: gl.constexpr):
    """The sum of each row's weights."""
    return gl.convert_layout(gl.sum(shares, 1), gl.SliceLayout(1, S_LAYOUT))


@gluon.jit
def _softmax(s, m, shares, scale_log2, MASKED: gl.constexpr):
    """
    One step of the online softmax on raw scores; returns (p, alpha, m, shares).

    What was tried here and lost: the maximum by a tree instead of a chain (half the latency, and 0
    to 4 % more in ``ws3``), leaving it, and O, alone while it grows by less than 2^8 (a branch
    spares 32 of 400 instructions of a step, and costs 0 to 8 %), and a share of the exponentials as
    polynomials on the FMA pipe (1 or 2 of 8 take 2 to 10 % longer: the special-function unit has as
    much to do as the tensor cores at headdim 64, but issue slots bind first).
    """
    m_new = gl.maximum(m, gl.max(s, 1))
    m_safe = m_new
    if MASKED:
        # a row that has seen no key yet: -inf - -inf would be NaN
        m_safe = gl.where(m_new == float("-inf"), 0.0, m_new)
    shift = m_safe * scale_log2
    p = gl.exp2(s * scale_log2 - shift[:, None])
    alpha = gl.exp2(m * scale_log2 - shift)
    shrink = gl.convert_layout(alpha, gl.SliceLayout(1, SHARES))
    return p, alpha, m_new, shares * shrink[:, None] + _shares(p)
