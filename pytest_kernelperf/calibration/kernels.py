"""
The built-in Triton kernels: each takes a run-time number that makes it slower in the same code.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

# No input ever holds it: comparing with it keeps extra work alive without changing a result.
_NEVER = tl.constexpr(12345.678)


# What slows is not specialised on: 0 and 16 would get other code than 17.
@triton.jit(do_not_specialize=["extra_blocks"])  # type: ignore[untyped-decorator]
def add_kernel(x_ptr, y_ptr, out_ptr, count, extra_blocks, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """
    Memory-bound: x + y; the first `extra_blocks` programs also read the second half of x.
    """
    block = tl.program_id(0)
    offsets = block * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < count
    total = tl.load(x_ptr + offsets, mask=inside) + tl.load(y_ptr + offsets, mask=inside)
    if block < extra_blocks:
        more = tl.load(x_ptr + count + offsets, mask=inside)
        total = tl.where(more == _NEVER, 0.0, total)
    tl.store(out_ptr + offsets, total, mask=inside)


@triton.jit(do_not_specialize=["worse_rows"])  # type: ignore[untyped-decorator]
def softmax_kernel(x_ptr, out_ptr, worse_rows, COLUMNS: tl.constexpr, NARROW: tl.constexpr):  # type: ignore[no-untyped-def]
    """
    A row per program; the first `worse_rows` go three times over narrow tiles instead of once.
    """
    row = tl.program_id(0)
    if row < worse_rows:
        narrow = row * COLUMNS + tl.arange(0, NARROW)
        peak = tl.full((), float("-inf"), tl.float32)
        for start in range(0, COLUMNS, NARROW):
            part = tl.load(x_ptr + narrow + start).to(tl.float32)
            peak = tl.maximum(peak, tl.max(part, 0))
        total = tl.full((), 0.0, tl.float32)
        for start in range(0, COLUMNS, NARROW):
            part = tl.load(x_ptr + narrow + start).to(tl.float32)
            total += tl.sum(tl.exp(part - peak), 0)
        for start in range(0, COLUMNS, NARROW):
            part = tl.load(x_ptr + narrow + start).to(tl.float32)
            tl.store(out_ptr + narrow + start, (tl.exp(part - peak) / total).to(tl.float16))
    else:
        columns = row * COLUMNS + tl.arange(0, COLUMNS)
        x = tl.load(x_ptr + columns).to(tl.float32)
        e = tl.exp(x - tl.max(x, 0))
        tl.store(out_ptr + columns, (e / tl.sum(e, 0)).to(tl.float16))


@triton.jit(do_not_specialize=["steps"])  # type: ignore[untyped-decorator]
def chain_kernel(x_ptr, out_ptr, steps, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """
    Latency-bound: a chain of dependent multiply-adds.
    """
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x_ptr + offsets)
    for _ in range(steps):
        value = value * 0.999 + 0.001
    tl.store(out_ptr + offsets, value)


@triton.jit(do_not_specialize=["steps"])  # type: ignore[untyped-decorator]
def matmul_kernel(  # type: ignore[no-untyped-def]
    a_ptr, b_ptr, out_ptr, N, K, steps,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """
    Compute-bound: a @ b in whole tiles; `steps` extra multiply-adds per row at the end.
    """
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    a_tile = a_ptr + rows[:, None] * K + inner[None, :]
    b_tile = b_ptr + inner[:, None] * N + columns[None, :]
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for _ in range(0, K, BLOCK_K):
        acc = tl.dot(tl.load(a_tile), tl.load(b_tile), acc)
        a_tile += BLOCK_K
        b_tile += BLOCK_K * N
    chain = rows * 1.0
    for _ in range(steps):
        chain = chain * 0.999 + 0.001
    acc = tl.where((chain == _NEVER)[:, None], 0.0, acc)
    tl.store(out_ptr + rows[:, None] * N + columns[None, :], acc.to(tl.float16))


ADD_BLOCK = 1024
NARROW = 64
CHAIN_BLOCK = 128
TILE = {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64}


def add(x: Any, y: Any, extra_blocks: int) -> Any:
    """
    Return the first half of x, shape (2 n,), plus y, shape (n,).
    """
    out = torch.empty_like(y)
    grid = (triton.cdiv(y.numel(), ADD_BLOCK),)
    add_kernel[grid](x, y, out, y.numel(), extra_blocks, BLOCK=ADD_BLOCK)
    return out


def softmax(x: Any, worse_rows: int) -> Any:
    """
    Return the softmax over the last axis of x, shape (rows, columns), float16.
    """
    out = torch.empty_like(x)
    softmax_kernel[(x.shape[0],)](x, out, worse_rows, COLUMNS=x.shape[1], NARROW=NARROW)
    return out


def chain(x: Any, steps: int) -> Any:
    """
    Return x after `steps` multiply-adds, shape (n,), n divisible by 128, float32.
    """
    out = torch.empty_like(x)
    chain_kernel[(x.numel() // CHAIN_BLOCK,)](x, out, steps, BLOCK=CHAIN_BLOCK, num_warps=4)
    return out


def matmul(a: Any, b: Any, steps: int) -> Any:
    """
    Return a @ b, shapes (m, k) and (k, n), multiples of the tile, float16, contiguous.
    """
    out = torch.empty((a.shape[0], b.shape[1]), device=a.device, dtype=a.dtype)
    grid = (a.shape[0] // TILE["BLOCK_M"], b.shape[1] // TILE["BLOCK_N"])
    matmul_kernel[grid](a, b, out, b.shape[1], a.shape[1], steps, **TILE, num_warps=8, num_stages=3)
    return out
