"""
A candidate for lone calls: the keys of a program are split over its warps, which never wait.

Each warp (a batch of `tl.dot` in three dimensions goes to one) has all rows of the program and a
share of the keys; what the warps found is combined at the end. So a short sequence is walked in one
or two steps where warps that share the keys take four to eight. Contiguous, without a mask, lengths
that are multiples of the tile: enough to know whether it wins.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import triton
import triton.language as tl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@dataclass(frozen=True)
class Split:
    """
    How the candidate cuts its work.

    Attributes:
        block_m: Query rows per program.
        block_n: Keys per step of one warp.
        warps: Warps per program, and shares of the keys.
    """

    block_m: int
    block_n: int
    warps: int

    @property
    def name(self) -> str:
        """A short name for tables."""
        return f"split {self.block_m}x{self.block_n} w{self.warps}"


@triton.jit
def split_keys_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    scale_log2e,
    seqlen_q,
    seqlen_k,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    SHARES: tl.constexpr,
    HEADDIM: tl.constexpr,
):
    """Compute BLOCK_M rows of one head; warp s takes blocks s, s + SHARES, ... of the keys."""
    head = tl.program_id(1)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.arange(0, HEADDIM)
    first = tl.arange(0, SHARES)[:, None, None] * BLOCK_N
    keys = tl.arange(0, BLOCK_N)
    tile = rows[:, None] * HEADDIM + columns[None, :]
    k_tile = (first + keys[None, None, :]) * HEADDIM + columns[None, :, None]
    v_tile = (first + keys[None, :, None]) * HEADDIM + columns[None, None, :]
    k_pointers = k_ptr + head * seqlen_k * HEADDIM + k_tile
    v_pointers = v_ptr + head * seqlen_k * HEADDIM + v_tile
    q = tl.load(q_ptr + head * seqlen_q * HEADDIM + tile)
    shared_q = tl.broadcast_to(q[None, :, :], (SHARES, BLOCK_M, HEADDIM))
    acc = tl.zeros([SHARES, BLOCK_M, HEADDIM], tl.float32)
    row_sum = tl.zeros([SHARES, BLOCK_M], tl.float32)
    row_max = tl.full([SHARES, BLOCK_M], float("-inf"), tl.float32)
    for _ in tl.range(0, seqlen_k, BLOCK_N * SHARES, num_stages=2):
        k = tl.load(k_pointers)
        v = tl.load(v_pointers)
        scores = tl.dot(shared_q, k)
        new_max = tl.maximum(row_max, tl.max(scores, 2) * scale_log2e)
        p = tl.math.exp2(scores * scale_log2e - new_max[:, :, None])
        rescale = tl.math.exp2(row_max - new_max)
        row_sum = row_sum * rescale + tl.sum(p, 2)
        acc = tl.dot(p.to(v.dtype), v, acc * rescale[:, :, None])
        row_max = new_max
        k_pointers += BLOCK_N * SHARES * HEADDIM
        v_pointers += BLOCK_N * SHARES * HEADDIM
    weight = tl.math.exp2(row_max - tl.max(row_max, 0)[None, :])
    total = tl.sum(row_sum * weight, 0)
    out = tl.sum(acc * weight[:, :, None], 0) / total[:, None]
    tl.store(out_ptr + head * seqlen_q * HEADDIM + tile, out.to(out_ptr.dtype.element_ty))


def splits(seqlen: int) -> list[Split]:
    """Return the candidates whose steps divide the sequence."""
    tried = [(32, 64, 8), (32, 64, 4), (16, 64, 4), (32, 32, 8), (32, 32, 4), (16, 32, 4)]
    found = [Split(*one) for one in tried]
    return [one for one in found if seqlen % (one.block_n * one.warps) == 0]


def split_call(split: Split, q: torch.Tensor) -> Callable[..., torch.Tensor]:
    """
    Return a callable that launches the candidate by the fastest way, without any check.

    Args:
        split: The tile.
        q: A contiguous CUDA tensor like those that it will be called with.
    """
    from flashcore_kernels import launch

    batch, heads, seqlen, headdim = q.shape
    scalars = (headdim**-0.5 * 1.4426950408889634, seqlen, seqlen)
    constants = (split.block_m, split.block_n, split.warps, headdim)
    grid = (seqlen // split.block_m, batch * heads, 1)
    pointers = tuple(torch.empty_like(q) for _ in range(4))
    arguments = (*pointers, *scalars, *constants)
    handle = launch.launch(split_keys_kernel, grid, arguments, {"num_warps": split.warps})
    prepared = launch.prepare(handle, grid, pointers, (*scalars, *constants))
    if prepared is None:
        raise RuntimeError(f"no prepared launch here: expected Triton {launch.KNOWN_TRITON}x")
    launched, stream, device = prepared.__call__, launch.current_stream, q.get_device()
    allocate = launch.allocator(q)

    def call(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = allocate()
        launched(stream(device), q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr())
        return out

    return call
