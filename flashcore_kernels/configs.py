"""
Which tile a shape gets. Nothing is tuned at call time: every row names the measurement behind it.

All figures: H100 80GB HBM3, fp16, device time in a paced CUDA graph over rotating inputs, 8 heads.
"16 tiles" below means 16 * 64 query rows over all sequences and heads.
To override a row after a new measurement, change its one line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from .forward_hopper import HopperConfig

ANY = 1 << 62


@dataclass(frozen=True)
class TileConfig:
    """
    How the plain kernel cuts its work.

    Attributes:
        BLOCK_M: Query rows per program.
        BLOCK_N: Keys per step.
        num_warps: Warps per program; 4 make one warpgroup, 64 rows of a tensor-core instruction.
        num_stages: Key tiles in flight.
        q_in_registers: Whether the queries are kept in registers instead of shared memory.
        prefetch: Whether L2 is asked for the first keys before the queries are waited for.
    """

    BLOCK_M: int
    BLOCK_N: int
    num_warps: int
    num_stages: int
    q_in_registers: bool = False
    prefetch: bool = False


@dataclass(frozen=True)
class Row:
    """
    One line of the table: up to these limits, take this tile.

    Attributes:
        causal: The mask it holds for.
        max_seqlen: Longest key sequence.
        max_tiles: Most 64-row query tiles in the call: how full the GPU is.
        tile: The plain kernel's tile: what runs wherever `hopper` can't.
        hopper: The Gluon kernel's configuration for an H100, if it is the faster one here.
    """

    causal: bool
    max_seqlen: int
    max_tiles: int
    tile: TileConfig
    hopper: HopperConfig | None = None


# 64 rows, 4 warps: 108 registers, 4 programs per SM. Plain Triton does not overlap a program's
# softmax with its own matrix products, so the overlap comes from the other programs on the SM.
_SMALL = TileConfig(64, 64, 4, 3)
# 156 registers, 3 programs per SM; half the rescaling.
_WIDE = TileConfig(64, 128, 4, 2)
# Two warpgroups read each key tile: half the L2 traffic.
_TALL = TileConfig(128, 64, 8, 3)

HEADDIM_64 = (
    Row(False, 128, ANY, _SMALL),  # 128x8: 3.38 us (whole row in one step: the same)
    Row(False, 256, 512, _WIDE),  # 256x8: 5.73 us
    Row(False, 256, ANY, _TALL),  # 256x32: 19.08 us
    Row(False, 2048, ANY, _SMALL),  # 512x8: 14.52 us; 512x32: 48.40 us
    Row(False, ANY, ANY, _WIDE),  # 4096x4: 302.9 us (through TMA; pointers not measured)
    Row(True, ANY, ANY, _SMALL),  # not measured: least waste on the diagonal
)
HEADDIM_128 = (
    Row(False, ANY, ANY, TileConfig(64, 64, 4, 3)),  # 2048x4: 142.7 us (through TMA)
    Row(True, ANY, ANY, TileConfig(64, 64, 4, 2)),  # not measured: 2 programs per SM
)
# What a sweep should try for these tables: tiles that compile for sm_90 without spills.
CANDIDATES_64 = (
    TileConfig(64, 64, 4, 2),
    TileConfig(64, 64, 4, 3),
    TileConfig(64, 64, 4, 3, prefetch=True),
    TileConfig(64, 64, 4, 3, q_in_registers=True),
    TileConfig(64, 64, 4, 3, q_in_registers=True, prefetch=True),
    TileConfig(64, 128, 4, 2),
    TileConfig(64, 128, 4, 2, prefetch=True),
    TileConfig(64, 128, 4, 2, q_in_registers=True, prefetch=True),
    TileConfig(128, 32, 4, 3, prefetch=True),
    TileConfig(128, 64, 4, 2, prefetch=True),
    TileConfig(128, 64, 8, 3),
    TileConfig(128, 64, 8, 3, q_in_registers=True, prefetch=True),
    TileConfig(128, 128, 8, 2, prefetch=True),
)
CANDIDATES_128 = (
    TileConfig(64, 64, 4, 2),
    TileConfig(64, 64, 4, 2, prefetch=True),
    TileConfig(64, 64, 4, 2, q_in_registers=True, prefetch=True),
    TileConfig(64, 64, 4, 3, prefetch=True),
    TileConfig(128, 64, 8, 2, prefetch=True),
    TileConfig(128, 64, 8, 2, q_in_registers=True, prefetch=True),
    TileConfig(128, 128, 8, 2, prefetch=True),
)
# Before Hopper there is no warpgroup product and less shared memory. Not measured.
BEFORE_HOPPER = TileConfig(64, 64, 4, 2)


@lru_cache(maxsize=4096)
def select(
    capability: tuple[int, int],
    headdim: int,
    causal: bool,
    seqlen_q: int,
    seqlen_k: int,
    batch_heads: int,
) -> Row:
    """
    Choose the kernel and its tile for a call.

    Args:
        capability: The GPU's compute capability, such as (9, 0).
        headdim: Elements per row, 1 to 128.
        causal: Whether the mask is causal.
        seqlen_q: Query rows per sequence.
        seqlen_k: Keys per sequence.
        batch_heads: batch * nheads.

    Returns:
        The first row of the table whose limits hold.
    """
    if capability < (9, 0):
        return Row(causal, ANY, ANY, BEFORE_HOPPER)
    tiles = batch_heads * -(-seqlen_q // 64)
    for row in HEADDIM_64 if headdim <= 64 else HEADDIM_128:
        if row.causal == causal and seqlen_k <= row.max_seqlen and tiles <= row.max_tiles:
            return row
    raise AssertionError("the last row of each mask holds for every shape")
