"""
Five planted slowdowns of one kernel on a real card: REGRESSED, and each names its own cause.
"""

from __future__ import annotations

import textwrap

import pytest

pytestmark = pytest.mark.h100

#: A product in Triton, with a place for each plant; `{...}` are filled with `PLAIN` or a plant.
PROJECT = """
    import time

    import torch
    import triton
    import triton.language as tl
    from pytest_kernelperf import kernel_perf


    @triton.jit
    def product_kernel(a, b, c, N, K, TILE: tl.constexpr, STEP: tl.constexpr):
        rows = tl.program_id(0) * TILE + tl.arange(0, TILE)
        columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
        ks = tl.arange(0, STEP)
        acc = tl.zeros((TILE, TILE), dtype=tl.float32)
        for start in range(0, K, STEP):
            left = tl.load(a + rows[:, None] * K + (start + ks)[None, :])
            right = tl.load(b + (start + ks)[:, None] * N + columns[None, :])
            acc = tl.dot(left, right, acc)
        at = rows[:, None] * N + columns[None, :]
        {bytes}
        tl.store(c + at, acc.to(tl.float16))


    def spin(seconds):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass


    def product(a, b):
        c = torch.empty_like(a)
        N, TILE = a.shape[0], {tile}
        {host}
        product_kernel[(N // TILE, N // TILE)](a, b, c, N, N, TILE, 64, num_warps=8{options})
        {launch}
        return c


    @kernel_perf(timer={timer!r}, l2="warm", requires="cuda", max_regression=0.03)
    def test_product(kernelperf):
        a, b = (torch.randn(2048, 2048, device="cuda", dtype=torch.float16) for _ in range(2))
        kernelperf(product, a, b)
"""
PLAIN = {"bytes": "", "tile": "128", "host": "", "options": "", "launch": "", "timer": "device"}
#: The bytes of c are written over and over, and each time read again.
MORE_BYTES = """for turn in range(4):
            tl.store(c + at, (acc + turn).to(tl.float16))
            tl.debug_barrier()
            acc += tl.load(c + at, volatile=True).to(tl.float32) * 0.0"""
#: A second tile of numbers lives beside the first: 128 registers where 96 are allowed.
TWICE_THE_TILE = """other = tl.exp2(acc * 1e-3)
    acc += other * tl.sum(tl.sum(other, 1), 0) * 0.0"""
PLANTS = {
    "tile": ({"tile": "32"}, "*Why: the machine code changed: *grid 16x16* -> 64x64*"),
    "spill": (
        {"options": ", maxnreg=96", "bytes": TWICE_THE_TILE},
        "*Why: the machine code changed: *spilled bytes 0 -> *",
    ),
    "extra launch": ({"launch": "c = c + 0"}, "*Why: *kernels per call 1 -> 2; launches *"),
    "extra bytes": ({"bytes": MORE_BYTES}, "*Why: the machine code changed: *global_memory * -> *"),
    "host overhead": (
        {"host": "spin(3e-4)"},
        "*Why: *identical, so the host's part of the call grew *",
    ),
}


def write(pytester: pytest.Pytester, **planted: str) -> None:
    """
    Write the project with its plants; Triton reads a kernel's source from its file.
    """
    source = textwrap.dedent(PROJECT).format(**{**PLAIN, **planted})
    pytester.path.joinpath("test_it.py").write_text(source, encoding="utf-8")


@pytest.mark.parametrize(("planted", "cause"), PLANTS.values(), ids=PLANTS)
def test_the_cause_of_a_planted_slowdown_is_named(pytester: pytest.Pytester, planted, cause):
    pytester.makeini("[pytest]")
    timer = "wall" if "host" in planted else "device"
    # A process of its own: CUDA and pytester's fresh imports do not go together.
    run = ("-p", "kernelperf")

    write(pytester, timer=timer)
    stored = pytester.runpytest_subprocess(
        *run, "--kernelperf-update", "--kernelperf-processes", "3", timeout=300
    )
    write(pytester, timer=timer, **planted)
    slower = pytester.runpytest_subprocess(*run, "--kernelperf", timeout=300)

    stored.assert_outcomes(passed=1)
    slower.assert_outcomes(failed=1)
    slower.stdout.fnmatch_lines(["REGRESSED *", cause])
