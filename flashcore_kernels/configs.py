"""
Which kernel and tile a shape gets. Nothing is tuned at call time: every row names its measurement.

Runs are docs/attention.md's, which has their commands and the losers: run 6 but for lone calls (the
host's share of a lone call, runs 4 and 5), few tiles at headdim 128 (runs 4 and 5, Gluon kernels of
that day) and the plain kernel (run 2). H100 80GB HBM3, fp16, device time per call in a paced CUDA
graph over rotating inputs, 8 heads of 64 (32 heads from S = 1024 on; 16 heads of 128) where no
other is named, beside SDPA held to cuDNN and, up to 256 keys, FLASH in the same comparison; bf16
takes the same rows. A plain tile beside a Gluon kernel, which runs where that can't, was not
measured at all of its row.
To override a row after a new measurement, change its one line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
        prefetch: Whether L2 is asked for the first keys before the queries are waited for.
    """

    BLOCK_M: int
    BLOCK_N: int
    num_warps: int
    num_stages: int
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


# The plain kernel. 64 rows, 4 warps: 108 registers, 4 programs per SM. Plain Triton overlaps no
# softmax with its own program's matrix products, so the overlap comes from the other programs.
_SMALL = TileConfig(64, 64, 4, 3)
# 156 registers, 3 programs per SM; half the rescaling.
_WIDE = TileConfig(64, 128, 4, 2)
# A lone small call: half the SMs are idle, its caller waits for the host and for first loads. Bare
# addresses spare the host a tensor map per new tensor, and L2 is asked for K and V at once. Half
# the steps of 64x128 gain 3 % on the device at S = 128 and cost 16 % at 512; callers see neither.
_LONE = TileConfig(64, 64, 4, 3, prefetch=True)
_LONE_TILES = 64

# The Gluon kernels. One block of 128 keys is all there is up to S = 128: a ring of one.
_ONE_BLOCK = HopperConfig("solo", 1, 128, 1, pdl=True)
# 40 KB, 128 registers: 4 programs per SM, 528 on the GPU.
_FOUR = HopperConfig("solo", 1, 128, 1, maxnreg=128, pdl=True, serial=True)
# 40 KB, 96 registers: 5 programs per SM; less waste on the diagonal.
_FIVE = HopperConfig("solo", 1, 64, 2, maxnreg=96, pdl=True, serial=True)
# 72 KB: 3 programs per SM, each of which overlaps its own work and asks for 256 keys at once.
_THREE = HopperConfig("solo", 1, 128, 2, pdl=True)
# 40 KB: 4 programs per SM that overlap their own work.
_SOLO_64 = HopperConfig("solo", 1, 64, 2, pdl=True)
# A producer warp, and 192 rows that share each K and V tile; one program per SM walks the tiles.
_SHARED = HopperConfig("ws", 3, 128, 3, consumer_regs=160, persistent=1)
_SHARED_CAUSAL = HopperConfig("ws", 3, 128, 5, consumer_regs=160, persistent=1)
# At headdim 128 two programs of 64 rows share an SM, or one of 128 rows has it to itself.
_D128_NARROW = HopperConfig("solo", 1, 64, 2)
_D128_SHORT_CAUSAL = HopperConfig("ws", 2, 64, 4, consumer_regs=240, persistent=1)
_D128 = HopperConfig("ws", 2, 128, 2, consumer_regs=240, persistent=1)
_D128_CAUSAL = HopperConfig("ws", 2, 128, 2, consumer_regs=240, persistent=1, ordered=True)

# What replaces a row's tile where more than a tenth of its rows would be padding: without a mask 64
# rows cost at most 2 % more per row than 192 at S = 4096, 6 % at 16384.
MAX_PADDING = 1.1
_NARROW = {64: _FOUR, 128: _D128_NARROW}

# Limits on the tiles are waves of the kernel before: a call that fits on the GPU at once wants the
# largest tile, one that just fits with a smaller tile wants that. Odd lengths go by the same rows:
# all kernels cut a last block by the same mask, and TMA reads zeros behind the end.
HEADDIM_64 = (
    # 128x1 3.77, 512x1 7.14 us, waited for 20.2 and 20.5; SDPA 6.52, 9.97, 48.9, 51.0. The solo
    # kernel's 3.34 and 6.14 are waited for 23.5 and 24.5 (lone_variants.py, card GPU-2b382370).
    Row(False, 512, _LONE_TILES, _LONE),
    Row(False, 128, ANY, _SMALL, _ONE_BLOCK),  # 128x8 4.04, x16 5.08, x32 7.59; FLASH 6.31 to 10.13
    Row(False, 256, 528, _SMALL, _FOUR),  # 256x8 6.05, x16 8.78 us; CUDNN 9.02, 12.20
    # 256x32 15.75, x64 28.64 us (four programs 16.35, 29.35); CUDNN 18.27, 31.01
    Row(False, 256, ANY, _SMALL, _THREE),
    # 512x8 12.69, x16 22.19, x32 41.15, 1024x16 278.3, 2048x8 534.7 us; CUDNN 16.11, 27.03, 48.83,
    # 315.8, 592.4. Few tiles: 512x4 8.12, H8 1024x1 9.96 (three programs 8.44, 10.49)
    Row(False, 2048, ANY, _SMALL, _FOUR),
    # Too few tiles of 192 rows to fill four rounds of the persistent grid: H8 4096x2 141.7, 4096x1
    # 73.49 us, H2 16384x1 277.2 (192 rows 369.5); CUDNN 151.0, 77.68, 286.8
    Row(False, ANY, 1584, _SMALL, _FOUR),
    Row(False, ANY, ANY, _SMALL, _SHARED),  # 4096x4 1024, 16384x1 3856 us; CUDNN 1143, 4568
    Row(True, 512, _LONE_TILES, _LONE),  # 128x1 3.86, 512x1 7.03 us; SDPA 6.93, 10.09
    Row(True, 128, 132, _SMALL, _ONE_BLOCK),  # 128x8 4.35 us; FLASH 6.97
    Row(True, 128, ANY, _SMALL, _SOLO_64),  # 128x16 5.28, x32 7.84 us; FLASH 7.81, 10.39
    Row(True, 256, 264, _SMALL, _FOUR),  # 256x8 6.40 us; CUDNN 9.31
    Row(True, 256, ANY, _SMALL, _FIVE),  # 256x16 8.98, x32 15.39, x64 28.93; CUDNN 13.06 to 29.58
    # At most two per SM, which do not overlap each other: 512x4 8.08, H8 1024x2 12.04, H4 4096x1
    # 34.21 us (four programs 8.54, 12.74, 37.65); CUDNN 11.00, 15.41, 41.67
    Row(True, ANY, 264, _SMALL, _THREE),
    # 512x8 12.50, x16 18.76, x32 35.82, H8 1024x3 15.06 us; CUDNN 16.61, 24.10, 39.72, 20.95
    Row(True, 1024, 2112, _SMALL, _FOUR),
    Row(True, 1024, ANY, _SMALL, _FIVE),  # 1024x16 189.0 us (four programs 192.0); CUDNN 203.6
    # H8 4096x1 47.03, H2 16384x1 171.4 us (four programs 50.98, 186.1); CUDNN 67.36, 234.4
    Row(True, ANY, 528, _WIDE, _THREE),
    # 2048x8 315.3, 4096x4 570.8, H8 4096x2 81.43 us; CUDNN 344.5, 631.8, 105.6
    Row(True, 4096, ANY, _WIDE, _FOUR),
    # Too few tiles of 192 rows to fill four rounds of the persistent grid. Not measured beyond 4096
    # keys, where 192 rows are 3 % behind with four times as many tiles.
    Row(True, ANY, 2112, _WIDE, _FOUR),
    Row(True, ANY, ANY, _WIDE, _SHARED_CAUSAL),  # 8192x2 1040, 16384x1 1996 us; CUDNN 1200, 2320
)
HEADDIM_128 = (
    # 128x1 4.52, 512x1 8.68 us, SDPA 7.56, 12.25; solo 4.26, 8.33, but on new tensors it is waited
    # for 36 us where 64x64 takes 24 (lone_variants.py --headdim 128, card GPU-13ab5362).
    Row(False, 512, _LONE_TILES, _SMALL),
    # 64 rows per program put a tile on every SM, 128 rows on half of them: H8 1024x1 14.42 us
    # (plain 14.84, 128 rows 19.18); CUDNN 18.49
    Row(False, ANY, 132, _SMALL, _D128_NARROW),
    # 512x32 125.6, 1024x16 215.7, 4096x4 789.4 us; CUDNN 132.9, 230.9, 835.2
    Row(False, ANY, ANY, _SMALL, _D128),
    # 128x1 4.54, 512x1 8.52 us, SDPA 7.93, 12.95; H8 1024x1 14.21 us (solo 15.34), CUDNN 19.91
    Row(True, 1024, 132, _SMALL),
    # Beyond 1024 keys not measured. At H8 1024x1 without a mask it takes 14.42 us, plain 14.84
    Row(True, ANY, 132, _SMALL, _D128_NARROW),
    Row(True, 512, ANY, _SMALL, _D128_SHORT_CAUSAL),  # 512x32 108.6 us; CUDNN 103.9
    # 1024x16 150.7, 4096x4 438.8 us; CUDNN 159.6, 489.6
    Row(True, ANY, ANY, _SMALL, _D128_CAUSAL),
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
        The first row of the table whose limits hold, with fewer query rows per program where too
        many of them would be padding.
    """
    if capability < (9, 0):
        return Row(causal, ANY, ANY, BEFORE_HOPPER)
    table = HEADDIM_64 if headdim <= 64 else HEADDIM_128
    tiles = batch_heads * -(-seqlen_q // 64)
    row = next(
        row
        for row in table  # the last row of each mask holds for every shape
        if row.causal == causal and seqlen_k <= row.max_seqlen and tiles <= row.max_tiles
    )
    if row.hopper is None or _padding(row.hopper.block_m, seqlen_q) <= MAX_PADDING:
        return row
    return replace(row, hopper=_NARROW[64 if headdim <= 64 else 128])


def _padding(block_m: int, seqlen_q: int) -> float:
    """Return how many rows tiles of `block_m` compute for each that tiles of 64 would."""
    return -(-seqlen_q // block_m) * block_m / (-(-seqlen_q // 64) * 64)
