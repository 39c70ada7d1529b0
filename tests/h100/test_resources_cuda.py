"""
On a card: launched kernels are read as they are compiled elsewhere, and watching them ends in time.
"""

from __future__ import annotations

import json
from pathlib import Path

import needs
import pytest

torch = pytest.importorskip("torch")
needs.triton()

from flashcore_kernels import attention  # noqa: E402
from pytest_kernelperf.resources import read_kernel, watch_launches  # noqa: E402

pytestmark = pytest.mark.h100

STORED = (
    Path(__file__).parents[2] / "baselines" / "sm_90" / "tests" / "perf" / "test_attention.json"
)
COPY = """
    import torch, triton
    import triton.language as tl
    from pytest_kernelperf import kernel_perf

    @triton.jit
    def copy_kernel(x, y, n, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(y + at, tl.load(x + at, mask=at < n), mask=at < n)

    def copy(x):
        y = torch.empty_like(x)
        copy_kernel[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
        return y

    @kernel_perf(requires="cuda", resources={"spills": 0})
    def test_copy(kernelperf):
        x = torch.rand(1 << 20, device="cuda")
        assert torch.equal(kernelperf(copy, x), x)
"""


@pytest.fixture
def inputs():
    shape = (8, 8, 128, 64)
    return tuple(torch.randn(shape, device="cuda", dtype=torch.float16) for _ in range(3))


def test_a_launched_kernel_is_read_as_the_driver_loads_it(inputs):
    with watch_launches() as seen:
        attention(*inputs)

    (launch,) = seen
    kernel = read_kernel(launch)
    assert launch.compiled.n_regs == kernel.registers
    assert launch.compiled.metadata.shared == kernel.shared_bytes
    assert "sm_90" == kernel.target
    assert kernel.instructions["warpgroup"] > 0


def test_a_launched_kernel_has_the_hash_that_was_compiled_without_a_gpu(inputs):
    with watch_launches() as seen:
        attention(*inputs)

    kernel = read_kernel(seen[0])
    (stored,) = json.loads(STORED.read_text())["kernels"]["test_attention[128-8]"]
    if kernel.compiler != stored["compiler"]:
        pytest.skip(f"compiled by {kernel.compiler}, stored {stored['compiler']}")
    assert stored["code_hash"] == kernel.code_hash


def test_a_remembered_launch_is_seen_too(inputs):
    attention(*inputs)
    attention(*inputs)

    with watch_launches() as seen:
        attention(*inputs)

    assert 1 == len(seen)


def test_watching_ends_when_launches_repeat(inputs):
    from triton.runtime.jit import JITFunction

    before = JITFunction.run
    with watch_launches() as seen:
        for _ in range(5):
            attention(*inputs)
        assert before is JITFunction.run

    assert 3 == len(seen)


def test_a_measured_test_stores_what_was_launched(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("COLUMNS", "200")
    pytester.makeini("[pytest]")
    pytester.makepyfile(COPY)
    run = ("-p", "kernelperf", "--kernelperf-update")

    first = pytester.runpytest_subprocess(*run)
    second = pytester.runpytest_subprocess("-p", "kernelperf", "--kernelperf")

    first.assert_outcomes(passed=1)
    second.assert_outcomes(passed=1)
    second.stdout.fnmatch_lines(["*compile sm_90*UNCHANGED SAME_CODE*"])
    files = list((pytester.path / "baselines").rglob("*.json"))
    card = next(path for path in files if "sm_90" not in path.parts)
    (entry,) = json.loads(card.read_text())["entries"].values()
    (kernel,) = entry["reference"]["kernels"]
    assert "copy_kernel" == kernel["name"]
    assert kernel["code_hash"]
    assert [1024, 1, 1] == [*kernel["grid"], 1, 1][:3]
