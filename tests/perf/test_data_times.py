"""
Attention's time against the content of its inputs: part of the validation report.
"""

from __future__ import annotations

import pytest

from flashcore_kernels import attention
from pytest_kernelperf import kernel_perf

torch = pytest.importorskip("torch")

NHEADS, HEADDIM = 8, 64


def inputs_of(batch, seqlen, device="cuda", dtype=None):
    """
    Return q, k, v of one shape and very different content, by name.

    * zeros: every score equal, no bit toggles.
    * random: what tests and models mostly see.
    * extreme: scores of several thousand, where a kernel that skips a rescaling would.
    * one_hot: each query meets one key alone, so that the softmax is 1 there and 0 elsewhere.
    * ascending: the running maximum grows with every block of keys.
    """
    dtype = dtype or torch.float16
    generator = torch.Generator(device=device).manual_seed(7)
    shape = (batch, NHEADS, seqlen, HEADDIM)

    def random():
        return torch.randn(shape, device=device, dtype=torch.float32, generator=generator)

    q, k, v = random(), random(), random()
    code = torch.sign(random())
    steps = torch.linspace(-8, 8, seqlen, device=device)[:, None].expand(shape)
    ones = torch.ones_like(q)
    found = {
        "zeros": (0 * q, 0 * k, 0 * v),
        "random": (q, k, v),
        "extreme": (30 * q, 30 * k, 1000 * v),
        "one_hot": (8 * code, 8 * code, v),
        "ascending": (ones, steps, v),
    }
    return {name: tuple(x.to(dtype) for x in args) for name, args in found.items()}


@pytest.mark.parametrize(("batch", "seqlen"), [(8, 128), (16, 256), (32, 512)])
@kernel_perf(timer="device", requires="sm_90")
def test_time_does_not_depend_on_the_data(kernelperf, seqlen, batch):
    """
    No two of five inputs differ by 2 % at P50.
    """
    kernelperf.data_independence(attention, inputs_of(batch, seqlen), bound=0.02)


@pytest.mark.parametrize(("batch", "seqlen"), [(16, 256)])
@kernel_perf(timer="launch", requires="sm_90")
def test_single_launches_do_not_depend_on_the_data(kernelperf, seqlen, batch):
    """
    Nor single launches: by 2 % at P50, by 5 % at P95.
    """
    kernelperf.data_independence(attention, inputs_of(batch, seqlen), bound={50: 0.02, 95: 0.05})
