"""
A kernel that leaves early on zeros, on a real card: `data_independence` tells it from others.
"""

from __future__ import annotations

import textwrap

import pytest

pytestmark = pytest.mark.h100

KERNELS = """
    import torch
    import triton
    import triton.language as tl
    from pytest_kernelperf import kernel_perf


    @triton.jit
    def _chain(x, out, turns, EARLY: tl.constexpr, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        value = tl.load(x + at)
        count = turns
        if EARLY:
            count = tl.where(tl.max(tl.abs(value), 0) > 0, turns, 0)
        for _ in range(count):
            # No library function: their branches may themselves take longer on some numbers.
            value = value * 0.999 + 0.001
        tl.store(out + at, value)


    def chain(early):
        def run(x):
            out = torch.empty_like(x)
            _chain[(x.numel() // 1024,)](x, out, 2000, EARLY=early, BLOCK=1024)
            return out

        return run


    @kernel_perf(requires="cuda")
    def test_it(kernelperf):
        x = torch.randn(1 << 20, device="cuda")
        kernelperf.data_independence(
            chain(early={early}), {{"zeros": (torch.zeros_like(x),), "random": (x,)}}, bound=0.02
        )
"""


@pytest.mark.parametrize(
    ("early", "verdict"), [(True, "*MISSED_TARGET*"), (False, "*UNCHANGED DATA_INDEPENDENT*")]
)
def test_an_early_exit_on_zeros_is_told_apart(
    pytester: pytest.Pytester, monkeypatch, early, verdict
):
    monkeypatch.setenv("COLUMNS", "200")
    pytester.makeini("[pytest]")
    # Triton reads a kernel's source from its file.
    pytester.path.joinpath("test_it.py").write_text(
        textwrap.dedent(KERNELS.format(early=early)), encoding="utf-8"
    )

    # A process of its own: CUDA and pytester's fresh imports do not go together.
    result = pytester.runpytest_subprocess("-p", "kernelperf", "--kernelperf", timeout=300)

    result.stdout.fnmatch_lines([verdict])
    assert int(early) == result.ret
