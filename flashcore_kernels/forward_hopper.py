"""
Host side of the Hopper attention kernels: what they can do, their configurations, their launch.

The kernels are written in Gluon, whose interface changes between Triton releases, so nothing here
imports them until ``is_supported`` has said yes: on another Triton or GPU this module is only data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import torch

LOG2E = 1.4426950408889634
ROWS_PER_WARPGROUP = 64
TRITON_RELEASE = "3.6."
MAX_GRID = 65535  # of a grid's second and third axis
Grid = tuple[int, int, int]


@dataclass(frozen=True)
class HopperConfig:
    """
    One compiled shape of a Hopper kernel.

    Args:
        family: "solo", one warpgroup per program, or "ws", a producer warp and 2 or 3 of them.
        groups: Tiles of 64 query rows per program.
        block_n: Keys per step.
        stages: Depth of the K and V rings.
        maxnreg: Registers per thread at launch; for "ws" it decides how many programs share an SM.
        consumer_regs: Registers of a consumer's thread after the hand-over ("ws" only).
        persistent: Programs per SM of a persistent grid; 0 starts one program per tile ("ws" only).
        pdl: The program may start before the previous kernel has ended, and waits for it inside.
        serial: Scores, softmax and output of a block before those of the next ("solo" only); else
            the next scores are issued first, which takes registers for two blocks, and two stages.
        ordered: The warpgroups take turns at issuing their products ("ws" only).
    """

    family: Literal["solo", "ws"]
    groups: int
    block_n: int
    stages: int
    maxnreg: int | None = None
    consumer_regs: int = 160
    persistent: int = 0
    pdl: bool = False
    serial: bool = False
    ordered: bool = False

    @property
    def block_m(self) -> int:
        """Query rows per program."""
        return ROWS_PER_WARPGROUP * self.groups

    @property
    def one_block(self) -> bool:
        """Whether keys must fit into one block: to issue the next scores early takes two stages."""
        return self.family == "solo" and self.stages == 1 and not self.serial

    @property
    def name(self) -> str:
        """A short name, unique per configuration, for tables."""
        parts = [f"{self.family}{self.groups}", f"n{self.block_n}", f"s{self.stages}"]
        parts += [f"r{self.maxnreg}"] if self.maxnreg else []
        parts += [f"c{self.consumer_regs}"] if self.family == "ws" else []
        parts += [f"p{self.persistent}"] if self.persistent else []
        parts += ["serial"] if self.serial else []
        parts += ["d1"] if self.pdl else []
        parts += ["o"] if self.ordered else []
        return "-".join(parts)


def is_supported(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, scale: float) -> bool:
    """
    Say whether ``hopper_forward`` can compute attention on these tensors.

    Args:
        q: [batch, heads, seqlen_q, headdim].
        k: [batch, heads_k, seqlen_k, headdim].
        v: as k.
        scale: Factor on the scores; the kernels fold it into the row maximum, so it must be > 0.

    Returns:
        False if another kernel must be used; never raises.
    """
    if q.device.type != "cuda" or not _hopper_with_gluon(q.device.index):
        return False
    if q.dtype not in (torch.float16, torch.bfloat16) or q.shape[-1] not in (64, 128):
        return False
    if not scale > 0 or not math.isfinite(scale) or 0 in q.shape or 0 in k.shape:
        return False
    return all(_fits_tma(t) for t in (q, k, v))


@cache
def _hopper_with_gluon(device_index: int | None) -> bool:
    """Whether this device is an sm_90, and Triton the release that the kernels were written for."""
    if torch.cuda.get_device_capability(device_index) != (9, 0):
        return False
    try:
        import triton
    except ImportError:
        return False
    return bool(triton.__version__.startswith(TRITON_RELEASE))


def _fits_tma(tensor: torch.Tensor) -> bool:
    """Whether start and strides are multiples of 16 bytes, and the last dimension contiguous."""
    size = tensor.element_size()
    steps = tensor.stride()
    return (
        tensor.data_ptr() % 16 == 0
        and steps[3] == 1
        and all(
            n == 1 or (step * size % 16 == 0 and step > 0)
            for n, step in zip(tensor.shape[:3], steps[:3], strict=True)
        )
    )


@cache
def _layout(rank: int) -> Any:
    from triton.experimental.gluon.language import NVMMASharedLayout

    return NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=rank)


def _descriptor(tensor: torch.Tensor, rows: int) -> Any:
    """A TMA descriptor of [batch, heads, seqlen, headdim] that moves `rows` rows of one head."""
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    headdim = tensor.shape[3]
    # the stride of a dimension of size 1 is never used, but must still be valid
    strides = [
        step if n > 1 else headdim for n, step in zip(tensor.shape, tensor.stride(), strict=True)
    ]
    strides[3] = 1
    return TensorDescriptor(tensor, list(tensor.shape), strides, [1, 1, rows, headdim], _layout(4))


def tile_order(causal: bool, num_bh: int, seqlen_k: int, headdim: int) -> int:
    """
    How many heads are walked together, see ``_single_tile``.

    Without a mask one: the tiles of a head follow each other and find its K and V in L2. Under a
    causal mask as many as keep their K and V in about a third of the 50 MB L2, so that heavy tiles
    can go first.
    """
    if not causal:
        return 1
    per_head = 2 * 2 * seqlen_k * headdim
    return max(1, min(num_bh, (16 << 20) // per_head))


def hopper_forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor | None,
    *,
    config: HopperConfig,
    **mask: Any,
) -> None:
    """
    Compute ``out = softmax(scale q k^T) v`` on an H100, and ``lse`` if asked, in one known way.

    Args:
        q: As for `launch_plan`, like all others.
        k: Likewise.
        v: Likewise.
        out: Likewise.
        lse: Likewise.
        config: Likewise.
        mask: `scale`, `causal` and `causal_offset`.
    """
    kernel, args, constants, options, grid = launch_plan(q, k, v, out, lse, config=config, **mask)
    with torch.cuda.device(q.device):
        kernel[grid](*args, **constants, **options)


def launch_plan(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor | None,
    *,
    scale: float,
    causal: bool,
    causal_offset: int,
    config: HopperConfig,
) -> tuple[Any, tuple[Any, ...], dict[str, Any], dict[str, Any], Grid]:
    """
    Return (kernel, arguments, constants, compiler options, grid) of a launch.

    Args:
        q: [batch, heads, seqlen_q, headdim], float16 or bfloat16, headdim 64 or 128.
        k: [batch, heads_k, seqlen_k, headdim]; heads is a multiple of heads_k.
        v: As k.
        out: As q; will be written.
        lse: [batch, heads, seqlen_q] float32 contiguous, will be written: natural log of each row's
            sum of exponentials; None if not wanted.
        scale: Factor on the scores, > 0.
        causal: Whether row i sees only keys j <= i + causal_offset.
        causal_offset: 0 aligns the diagonal top-left, seqlen_k - seqlen_q bottom-right.
        config: The tile; see `HOPPER_CONFIGS`.

    Raises:
        ValueError: The configuration takes one block of keys, and there are more.
    """
    batch, heads, seqlen_q, headdim = q.shape
    heads_k, seqlen_k = k.shape[1], k.shape[2]
    if config.one_block and seqlen_k > config.block_n:
        raise ValueError(f"{config.name} takes {config.block_n} keys at most, got {seqlen_k}")
    num_m = -(-seqlen_q // config.block_m)
    tiles = num_m * batch * heads
    section = tile_order(causal, batch * heads, seqlen_k, headdim)
    args = (
        _descriptor(q, ROWS_PER_WARPGROUP),
        _descriptor(k, config.block_n),
        _descriptor(v, config.block_n),
        _descriptor(out, ROWS_PER_WARPGROUP),
        q if lse is None else lse,
        scale * LOG2E,
        *(seqlen_q, seqlen_k, causal_offset, heads, num_m, batch * heads, section, tiles),
    )
    constants: dict[str, Any] = {
        "GROUP": heads // heads_k,
        "CAUSAL": causal,
        "STAGES": config.stages,
        "EVEN_N": seqlen_k % config.block_n == 0,
        "WRITE_LSE": lse is not None,
        "PDL": config.pdl,
    }
    options: dict[str, Any] = {"num_warps": 4, "launch_pdl": config.pdl}
    if config.maxnreg is not None:
        options["maxnreg"] = config.maxnreg
    if config.family == "solo":
        from .forward_hopper_solo import attention_solo_kernel as kernel

        axes, grid = solo_grid(num_m, heads, batch, causal=causal, section=section)
        blocks = -(-seqlen_k // config.block_n)
        constants.update(
            GRID=axes,
            BLOCKS=min(blocks, config.stages + 1),  # more than the ring holds are all alike
            SERIAL=config.serial,
        )
    else:
        from .forward_hopper_ws import attention_ws_kernel as kernel

        constants.update(
            CONSUMERS=config.groups,
            CONSUMER_REGS=config.consumer_regs,
            PERSISTENT=config.persistent > 0,
            ORDERED=config.ordered,
        )
        grid = (tiles, 1, 1)
        if config.persistent:
            grid = (min(tiles, config.persistent * _multiprocessors(q.device.index)), 1, 1)
    return kernel, args, constants, options, grid


def solo_grid(
    num_m: int, heads: int, batch: int, *, causal: bool, section: int
) -> tuple[Literal["heads", "rows", "line"], Grid]:
    """
    Return what the axes of the solo kernel's grid count, and the grid.

    Args:
        num_m: Row tiles per head.
        heads: Query heads.
        batch: Sequences.
        causal: Whether tiles of later rows see more keys.
        section: Heads walked together, see `tile_order`.

    Returns:
        "heads", tile by tile of each head, where all tiles weigh the same; "rows", the last and
        heaviest tiles of all heads first, where these heads fit into the cache; else "line", a
        single axis whose place the kernel looks up by `_single_tile`.
    """
    if not causal and max(heads, batch) <= MAX_GRID:
        return "heads", (num_m, heads, batch)
    if causal and section >= heads * batch and max(batch, num_m) <= MAX_GRID:
        return "rows", (heads, batch, num_m)
    return "line", (num_m * heads * batch, 1, 1)


@cache
def _multiprocessors(device_index: int | None) -> int:
    return int(torch.cuda.get_device_properties(device_index).multi_processor_count)


def _solos() -> list[HopperConfig]:
    make = partial(HopperConfig, "solo", 1, pdl=True)
    return [
        make(64, 2),
        make(128, 1),
        make(128, 2),
        make(64, 2, maxnreg=96, serial=True),
        make(128, 1, maxnreg=128, serial=True),
        make(128, 2, serial=True),
    ]


def _streamed() -> list[HopperConfig]:
    two = partial(HopperConfig, "ws", 2, consumer_regs=240)
    three = partial(HopperConfig, "ws", 3, consumer_regs=160)
    return [
        two(128, 4, persistent=1),
        two(128, 4, persistent=1, ordered=True),
        three(128, 4),
        three(128, 4, ordered=True),
        three(128, 3, persistent=1),
        three(128, 3, persistent=1, ordered=True),
        three(128, 5, persistent=1),
        three(128, 5, persistent=1, ordered=True),
    ]


def _wide_heads() -> list[HopperConfig]:
    two = partial(HopperConfig, "ws", 2, consumer_regs=240)
    three = partial(HopperConfig, "ws", 3, consumer_regs=160)
    return [
        HopperConfig("solo", 1, 64, 2),
        HopperConfig("solo", 1, 64, 1, maxnreg=128, serial=True),
        two(128, 2),
        two(128, 2, ordered=True),
        two(128, 2, persistent=1),
        two(128, 2, persistent=1, ordered=True),
        two(64, 4, persistent=1),
        two(64, 4, persistent=1, ordered=True),
        three(64, 3, persistent=1),
        three(64, 4, persistent=1, ordered=True),
    ]


# Candidates for benchmarks/tune_attention.py, by headdim.
HOPPER_CONFIGS: dict[int, tuple[HopperConfig, ...]] = {
    64: (*_solos(), *_streamed()),
    128: tuple(_wide_heads()),
}
