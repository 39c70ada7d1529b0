"""
What the validation report is made of: the nine shapes with all timers, and beside PyTorch's own.

`pytest tests/perf/test_validation.py --kernelperf --kernelperf-record run.gz`, then
`kernelperf report --validation run.gz --beside docs/data/seed_report.json`.
"""

from __future__ import annotations

import pytest

from flashcore_kernels import attention
from flashcore_kernels.reference import attention_reference
from pytest_kernelperf import kernel_perf

torch = pytest.importorskip("torch")
F = torch.nn.functional

NHEADS, HEADDIM = 8, 64


@pytest.fixture
def inputs(batch, seqlen):
    """
    Return independent q, k, v of shape [batch, heads, seqlen, headdim] on the GPU.
    """
    generator = torch.Generator(device="cuda").manual_seed(42)
    shape = (batch, NHEADS, seqlen, HEADDIM)
    return tuple(
        torch.randn(shape, device="cuda", dtype=torch.float16, generator=generator)
        for _ in range(3)
    )


def restricted_sdpa(backend):
    """
    Return PyTorch's attention held to one backend.

    The choice is made inside the call: a CUDA graph keeps its kernels and not its host time, so the
    device timer does not see it.
    """
    from torch.nn.attention import sdpa_kernel

    def restricted(q, k, v):
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v)

    return restricted


def peers():
    """
    Return PyTorch's attention by default and by each of its fused backends.
    """
    from torch.nn.attention import SDPBackend

    return {
        "sdpa": F.scaled_dot_product_attention,
        "flash": restricted_sdpa(SDPBackend.FLASH_ATTENTION),
        "cudnn": restricted_sdpa(SDPBackend.CUDNN_ATTENTION),
        "efficient": restricted_sdpa(SDPBackend.EFFICIENT_ATTENTION),
    }


def relative_rmse(out, expected):
    """
    Return the root mean square error over the root mean square of the expected values.
    """
    return ((out.double() - expected.double()).norm() / expected.double().norm()).item()


nine_shapes = [
    pytest.mark.parametrize("batch", [8, 16, 32]),
    pytest.mark.parametrize("seqlen", [128, 256, 512]),
]


@nine_shapes[0]
@nine_shapes[1]
@kernel_perf(
    target_us=5,
    per="batch",
    percentiles=(50, 95, 99),
    timer=("device", "launch", "wall"),
    requires="sm_90",
)
def test_every_timer(kernelperf, inputs, seqlen, batch):
    """
    Device, launch and wall times of one call, and at most 5 µs per sequence at the device's P50.
    """
    out = kernelperf(attention, *inputs)

    expected, _ = attention_reference(*inputs)
    assert relative_rmse(out, expected) < 5e-4


@nine_shapes[0]
@nine_shapes[1]
@kernel_perf(timer="device", requires="sm_90")
def test_beside_sdpa(kernelperf, inputs, seqlen, batch):
    """
    Interleaved with PyTorch's attention, on the same inputs, with equal outputs.
    """
    compared = kernelperf.compare(
        {"flashcore": attention, **peers()}, tuple(inputs), reference="sdpa"
    )

    expected, _ = attention_reference(*inputs)
    assert relative_rmse(compared.outputs["flashcore"], expected) < 5e-4
