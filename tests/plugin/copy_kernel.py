"""
A test of a kernel that copies: its source, for projects whose kernels are compiled without a GPU.
"""

from __future__ import annotations

COPY = """
    import torch, triton
    import triton.language as tl
    from pytest_kernelperf import kernel_perf

    @triton.jit
    def copy_kernel(x, y, n, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        {line}

    def copy(x):
        y = torch.empty_like(x)
        copy_kernel[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
        return y

    @kernel_perf(resources={limits})
    def test_copy(kernelperf):
        x = torch.zeros(5000, device="cuda")
        kernelperf(copy, x)
"""
GOOD = "tl.store(y + at, tl.load(x + at, mask=at < n), mask=at < n)"
