"""
The attention kernels that the tile table chooses on an H100, compiled without one.

`kernelperf resources` shows them. Nothing is measured here: test_attention.py does that.
"""

from __future__ import annotations

import pytest

from flashcore_kernels import attention
from pytest_kernelperf import kernel_perf

torch = pytest.importorskip("torch")

NHEADS = 16


@pytest.mark.skipif(torch.cuda.is_available(), reason="compiled where there is no GPU")
@pytest.mark.parametrize(("seqlen", "batch"), [(128, 8), (512, 32), (1024, 16), (16384, 1)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("headdim", [64, 128])
@kernel_perf(
    requires="sm_90",
    resources={
        "spills": 0,
        "warnings": 0,
        "instructions": {"warpgroup": (1, None)},
        "targets": "sm_90",
    },
)
def test_attention_kernel(kernelperf, headdim, causal, seqlen, batch):
    """No spills, and warpgroup products that ptxas did not serialise."""
    shape = (batch, NHEADS, seqlen, headdim)
    q, k, v = (torch.empty(shape, device="cuda", dtype=torch.float16) for _ in range(3))

    kernelperf(attention, q, k, v, causal=causal)
