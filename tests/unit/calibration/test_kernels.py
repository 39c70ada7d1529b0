"""
The built-in kernels compile for an H100, without one.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

# In a process of its own: another test may have set Triton to interpret its kernels.
COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pytest_kernelperf.calibration import kernels


def compiled(kernel, arguments, constants, **options):
    signature = {**arguments, **dict.fromkeys(constants, "constexpr")}
    values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature, values)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


fp32, fp16 = "*fp32", "*fp16"
compiled(
    kernels.add_kernel,
    dict(x_ptr=fp32, y_ptr=fp32, out_ptr=fp32, count="i32", extra_blocks="i32"),
    {"BLOCK": kernels.ADD_BLOCK},
)
compiled(
    kernels.softmax_kernel,
    dict(x_ptr=fp16, out_ptr=fp16, worse_rows="i32"),
    {"COLUMNS": 1024, "NARROW": kernels.NARROW},
)
chain = compiled(
    kernels.chain_kernel,
    dict(x_ptr=fp32, out_ptr=fp32, steps="i32"),
    {"BLOCK": kernels.CHAIN_BLOCK},
    num_warps=4,
)
matmul = compiled(
    kernels.matmul_kernel,
    dict(a_ptr=fp16, b_ptr=fp16, out_ptr=fp16, N="i32", K="i32", steps="i32"),
    kernels.TILE,
    num_warps=8,
    num_stages=3,
)
print("fma" in chain.asm["ptx"], "wgmma" in matmul.asm["ptx"])
"""


def test_the_built_in_kernels_compile_for_hopper():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}

    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert "True True" == done.stdout.strip(), done.stderr
