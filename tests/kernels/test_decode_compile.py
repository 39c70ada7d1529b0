"""What the compiler makes of the decode kernels for Hopper; no GPU is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from flashcore_kernels.decode import decode_combine_kernel, decode_split_kernel
from flashcore_kernels.decode_plan import plan_decode

KINDS = {"qk_scale": "fp32", "cache_seqlens_ptr": "*i32", "lse_ptr": "*fp32",
         "partial_out_ptr": "*fp32", "partial_lse_ptr": "*fp32"}

def build(kernel, constants, num_warps):
    signature, aligned = {}, {}
    for i, name in enumerate(kernel.arg_names):
        kind = "*fp16" if name.endswith("_ptr") else "i32"
        signature[name] = "constexpr" if name in constants else KINDS.get(name, kind)
        if "_ptr" in name or "_stride_" in name:
            aligned[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32),
                              options={"num_warps": num_warps})
    return compiled.asm["ptx"], compiled.asm["cubin"], compiled.metadata.shared

headdim, seqlen_q, append = map(int, sys.argv[1:4])
plan = plan_decode(batch=1, nheads_k=8, group=4, seqlen_q=seqlen_q, capacity=65536,
                   headdim=headdim, num_sms=132)
ptx, cubin, shared = build(decode_split_kernel, dict(
    HEADDIM=headdim, BLOCK_D=headdim, GROUP=4, BLOCK_Q=plan.block_q, BLOCK_N=plan.block_n,
    CAUSAL=True, APPEND=bool(append), SPLIT=True, WRITE_LSE=False, NUM_STAGES=plan.num_stages,
    DEPENDENT_LAUNCH=True), plan.num_warps)
open(sys.argv[4], "wb").write(cubin)
print(shared, "wgmma.mma_async" in ptx, "cp.async.cg" in ptx, "griddepcontrol" in ptx)
"""


@pytest.mark.parametrize(
    ("headdim", "seqlen_q", "append", "programs_per_sm"),
    [(64, 1, 0, 2), (64, 1, 1, 2), (128, 1, 1, 2), (128, 16, 1, 1)],
)
def test_it_compiles_for_hopper_without_spills(
    headdim: int, seqlen_q: int, append: int, programs_per_sm: int, tmp_path: Path
) -> None:
    """Products from shared memory, asynchronous copies, room for the planned programs per SM."""
    cubin = tmp_path / "kernel.cubin"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    arguments = [str(headdim), str(seqlen_q), str(append), str(cubin)]

    run = subprocess.run(
        [sys.executable, "-c", COMPILE, *arguments],
        capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip

    assert run.returncode == 0, run.stderr
    shared_bytes, wgmma, asynchronous, dependent = run.stdout.split()
    assert (wgmma, asynchronous, dependent) == ("True", "True", "True")
    assert programs_per_sm * (int(shared_bytes) + 1024) <= 227 * 1024
    assert "C7510" not in run.stderr
    registers, stack_bytes = resources(cubin)
    assert stack_bytes == 0
    warps = 8 if seqlen_q == 16 else 4
    assert registers * 32 * warps * programs_per_sm <= 65_536


def resources(cubin: Path) -> tuple[int, int]:
    """Return registers per thread and stack bytes of a compiled kernel."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    text = subprocess.run(
        [str(tool), "-res-usage", str(cubin)], capture_output=True, text=True, check=True
    ).stdout
    fields = dict(field.split(":") for field in text.split() if field.count(":") == 1)
    return int(fields["REG"]), int(fields["STACK"])
