"""
The built-in set: about a dozen kernels from 2 µs to 1 ms, bound by memory, arithmetic or latency.

`kernelperf calibrate` without tests runs this file by its path; no pytest collects it by itself.
Without a GPU a small set for the CPU takes its place.
"""

from __future__ import annotations

import pytest

from pytest_kernelperf.calibration.slowdowns import Dialled

try:
    import torch
except ImportError:
    torch = None

ON_GPU = torch is not None and torch.cuda.is_available()
on_gpu = pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
on_cpu = pytest.mark.skipif(ON_GPU, reason="the GPU's set is measured")


def random(*shape, dtype="float16"):
    """
    Return the same random numbers in every process.
    """
    generator = torch.Generator(device="cuda").manual_seed(42)
    return torch.randn(shape, device="cuda", generator=generator, dtype=getattr(torch, dtype))


@on_gpu
@pytest.mark.parametrize("count", [1 << 18, 1 << 22, 1 << 25])
@pytest.mark.kernel_perf
def test_add(kernelperf, count):
    from pytest_kernelperf.calibration import kernels

    # An extra block reads 4 bytes where 12 are moved anyway.
    fn = Dialled(kernels.add, "extra bytes", share=kernels.ADD_BLOCK / count / 3)
    x, y = random(2 * count, dtype="float32"), random(count, dtype="float32")

    out = kernelperf(fn, x, y)

    torch.testing.assert_close(out, x[:count] + y)


@on_gpu
@pytest.mark.parametrize("rows", [4096, 16384])
@pytest.mark.kernel_perf
def test_softmax(kernelperf, rows):
    from pytest_kernelperf.calibration import kernels

    x = random(rows, 1024)

    out = kernelperf(Dialled(kernels.softmax, "a worse tile", share=1 / rows), x)

    torch.testing.assert_close(out, torch.softmax(x.float(), -1).half(), rtol=1e-2, atol=1e-4)


@on_gpu
@pytest.mark.parametrize("steps", [400, 10_000])
@pytest.mark.kernel_perf
def test_chain(kernelperf, steps):
    from pytest_kernelperf.calibration import kernels

    def chain(x, extra):
        return kernels.chain(x, steps + extra)

    x = random(128 * 132, dtype="float32")

    out = kernelperf(Dialled(chain, "extra arithmetic", share=1 / steps), x)

    assert out.isfinite().all()


@on_gpu
@pytest.mark.parametrize(("size", "share"), [(1024, 7e-4), (4096, 1.5e-4)])
@pytest.mark.kernel_perf
def test_matmul(kernelperf, size, share):
    from pytest_kernelperf.calibration import kernels

    a, b = random(size, size), random(size, size)

    out = kernelperf(Dialled(kernels.matmul, "extra arithmetic", share=share), a, b)

    torch.testing.assert_close(out, a @ b, rtol=2e-2, atol=0.5)


@on_gpu
@pytest.mark.kernel_perf
def test_torch_layer_norm(kernelperf):
    x = random(8192, 2048)

    kernelperf(torch.nn.functional.layer_norm, x, (2048,))


@on_gpu
@pytest.mark.kernel_perf
def test_torch_attention(kernelperf):
    q, k, v = (random(16, 8, 512, 64) for _ in range(3))

    kernelperf(torch.nn.functional.scaled_dot_product_attention, q, k, v)


@on_gpu
@pytest.mark.kernel_perf
def test_torch_copy(kernelperf):
    kernelperf(torch.clone, random(1 << 27, dtype="float32"))


@on_gpu
@pytest.mark.kernel_perf
def test_torch_matmul(kernelperf):
    a, b = random(8192, 4096), random(4096, 8192)

    kernelperf(torch.matmul, a, b)


@on_cpu
@pytest.mark.parametrize("turns", [1_000, 10_000])
@pytest.mark.kernel_perf
def test_host_sum(kernelperf, turns):
    assert kernelperf(sum, range(turns)) == turns * (turns - 1) // 2


@on_cpu
@pytest.mark.kernel_perf
def test_host_sort(kernelperf):
    values = [(7919 * index) % 10_007 for index in range(4_000)]

    assert kernelperf(sorted, values) == sorted(values)
