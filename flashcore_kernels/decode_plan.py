"""How a decode call is cut into programs: pure arithmetic on numbers that the host knows."""

from __future__ import annotations

from dataclasses import dataclass, replace

# Programs that fit on one SM at once: three stages of 32 KB in 227 KB of shared memory.
PROGRAMS_PER_SM = 2
# A split shorter than this spends its time filling the pipeline, and leaves more to combine.
MIN_BLOCKS_PER_SPLIT = 4
# The combine kernel holds one query's partial results in registers.
MAX_SPLITS = 256
# Elements between positions: offsets inside a block, of up to 128 keys, are 32-bit.
MAX_ROW_STRIDE = 2**31 // 128 - 1
# More splits than the fewest are worth their cost only when they fill the card this much better.
GOOD_ENOUGH = 0.95


@dataclass(frozen=True)
class DecodePlan:
    """
    How one decode call is cut into programs: everything the launch needs, from host-known numbers.

    Attributes:
        block_q: Packed queries (query x head of the group) per tile.
        block_n: Keys per block.
        num_q_tiles: Tiles that cover the packed queries; at least 1, so that a call that only
            appends has a program to do it.
        num_splits: Runs of blocks that a sequence's keys are cut into.
        num_warps: Warps per program.
        num_stages: Blocks in flight per program, the one in work included.
        dependent_launch: Launch the combine kernel before the split kernel has ended (sm_90 and
            up); it waits on the device.
    """

    block_q: int
    block_n: int
    num_q_tiles: int
    num_splits: int
    num_warps: int
    num_stages: int
    dependent_launch: bool = False


def plan_decode(
    *,
    batch: int,
    nheads_k: int,
    group: int,
    seqlen_q: int,
    capacity: int,
    headdim: int,
    num_sms: int,
    dependent_launch: bool = False,
) -> DecodePlan:
    """
    Choose tiles and the number of splits. Pure; only numbers that the host knows.

    Args:
        batch: Sequences.
        nheads_k: Key/value heads.
        group: Query heads per key/value head.
        seqlen_q: Queries per sequence.
        capacity: Positions in the cache; the valid length is unknown here, and the splits share
            out whatever it turns out to be.
        headdim: Elements per row.
        num_sms: Streaming multiprocessors of the card.
        dependent_launch: Whether card and compiler can overlap the two launches.

    Returns:
        The plan.
    """
    block_q, block_n, num_warps, num_stages = _tile(seqlen_q * group, headdim)
    num_q_tiles = max(1, -(-seqlen_q * group // block_q))
    blocks = -(-capacity // block_n)
    num_splits = choose_num_splits(
        programs=batch * nheads_k * num_q_tiles,
        slots=num_sms * PROGRAMS_PER_SM,
        max_splits=max(1, min(MAX_SPLITS, blocks // MIN_BLOCKS_PER_SPLIT)),
    )
    return DecodePlan(
        block_q=block_q,
        block_n=block_n,
        num_q_tiles=num_q_tiles,
        num_splits=num_splits,
        num_warps=num_warps,
        num_stages=num_stages,
        dependent_launch=dependent_launch and num_splits > 1,
    )


def for_unaligned(plan: DecodePlan) -> DecodePlan:
    """
    Return the plan for keys or values that can't be copied to shared memory asynchronously.

    Then there is no ring of buffers, and the probabilities take the place that K has left in shared
    memory. If both are operands of wgmma, ptxas 12.8 (Triton 3.6) makes their descriptors from one
    uniform register that it forgets to write: an illegal memory access. Blocks of 32 keys are too
    few rows for wgmma, so K goes to mma.sync instead; and a thread has registers for no more.

    Args:
        plan: The plan for aligned tensors.

    Returns:
        The same split, in smaller tiles; the last of them may be empty.
    """
    return replace(
        plan,
        block_q=16,
        block_n=32,
        num_q_tiles=-(-plan.num_q_tiles * plan.block_q // 16),
        num_warps=4,
        num_stages=1,
    )


def choose_num_splits(*, programs: int, slots: int, max_splits: int) -> int:
    """
    Return the smallest number of splits that fills the card nearly as well as the best one.

    Args:
        programs: Programs without splitting.
        slots: Programs that the card runs at once.
        max_splits: The most splits allowed.

    Returns:
        Between 1 and `max_splits`.
    """
    if programs == 0:
        return 1

    def filled(splits: int) -> float:
        waves = programs * splits / slots
        return waves / -(-programs * splits // slots)

    best = max(filled(splits) for splits in range(1, max_splits + 1))
    return next(s for s in range(1, max_splits + 1) if filled(s) >= GOOD_ENOUGH * best)


def _tile(packed_queries: int, headdim: int) -> tuple[int, int, int, int]:
    """
    Return (block_q, block_n, num_warps, num_stages) for a number of packed queries.

    A block of keys is 16 KB, K and V together 32 KB a stage. 16 columns at least: narrower products
    leave wgmma for mma.sync and the asynchronous copy of one operand with it. From 64 columns on
    two warpgroups share the accumulators at headdim 128, or they spill.
    """
    if packed_queries <= 16:
        return 16, 64 if headdim > 64 else 128, 4, 3
    if packed_queries <= 32:
        return 32, 64, 4, 3
    return (64, 64, 8, 2) if headdim > 64 else (64, 64, 4, 3)
