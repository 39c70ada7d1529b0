"""
Three kernels gated: by time where there is a GPU, by what the compiler makes of them everywhere.
"""

from __future__ import annotations

import torch
from kernels import layer_norm, matmul, softmax

from pytest_kernelperf import kernel_perf


@kernel_perf(requires="sm_80", resources={"spills": 0})
def test_softmax(kernelperf):
    x = torch.randn(4096, 1024, device="cuda")
    torch.testing.assert_close(kernelperf(softmax, x), torch.softmax(x, -1))


@kernel_perf(requires="sm_80", resources={"spills": 0})
def test_layer_norm(kernelperf):
    x, w, b = (torch.randn(n, 1024, device="cuda") for n in (4096, 1, 1))
    expected = torch.nn.functional.layer_norm(x, (1024,), w[0], b[0])
    torch.testing.assert_close(kernelperf(layer_norm, x, w[0], b[0]), expected)


@kernel_perf(requires="sm_80", resources={"spills": 0, "instructions": {"tensor_core": (1, None)}})
def test_matmul(kernelperf):
    a, b = (torch.randn(1024, 1024, device="cuda", dtype=torch.float16) for _ in range(2))
    torch.testing.assert_close(kernelperf(matmul, a, b), a @ b, rtol=1e-2, atol=1e-1)
