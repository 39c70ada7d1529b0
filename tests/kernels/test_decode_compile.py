"""What the compiler makes of the decode kernels for Hopper; no GPU is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from uniform_registers import disassemble, reads_unwritten

COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from flashcore_kernels.decode import decode_combine_kernel, decode_split_kernel
from flashcore_kernels.decode_plan import for_unaligned, plan_decode

KINDS = {"qk_scale": "fp32", "cache_seqlens_ptr": "*i32", "lse_ptr": "*fp32",
         "partial_out_ptr": "*fp32", "partial_lse_ptr": "*fp32"}

def build(kernel, constants, num_warps):
    signature, aligned = {}, {}
    for i, name in enumerate(kernel.arg_names):
        kind = "*fp16" if name.endswith("_ptr") else "i32"
        signature[name] = "constexpr" if name in constants else KINDS.get(name, kind)
        holds_keys = name.startswith(("k_", "v_", "kc_", "vc_", "kn_", "vn_"))
        if ("_ptr" in name or "_stride_" in name) and (keys_aligned or not holds_keys):
            aligned[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32),
                              options={"num_warps": num_warps})
    return compiled.asm["ptx"], compiled.asm["cubin"], compiled.metadata.shared

headdim, seqlen_q, append, keys_aligned, capability = map(int, sys.argv[1:6])
plan = plan_decode(batch=1, nheads_k=8, group=4, seqlen_q=seqlen_q, capacity=65536,
                   headdim=headdim, num_sms=132)
plan = plan if keys_aligned else for_unaligned(plan)
ptx, cubin, shared = build(decode_split_kernel, dict(
    HEADDIM=headdim, BLOCK_D=triton.next_power_of_2(headdim), GROUP=4,
    BLOCK_Q=plan.block_q, BLOCK_N=plan.block_n,
    CAUSAL=True, APPEND=bool(append), SPLIT=True, WRITE_LSE=False, NUM_STAGES=plan.num_stages,
    DEPENDENT_LAUNCH=capability >= 90), plan.num_warps)
open(sys.argv[6], "wb").write(cubin)
print(shared, "wgmma.mma_async" in ptx, "cp.async.cg" in ptx, "griddepcontrol" in ptx)
"""


@pytest.mark.parametrize(
    ("headdim", "seqlen_q", "append", "programs_per_sm"),
    [(64, 1, 0, 2), (64, 1, 1, 2), (128, 1, 1, 2), (128, 16, 1, 1)],
)
def test_it_compiles_for_hopper_without_spills(
    headdim: int, seqlen_q: int, append: int, programs_per_sm: int, tmp_path: Path
) -> None:
    """
    Products from shared memory, asynchronous copies, room for the planned programs per SM.

    And no uniform register is read unwritten: ptxas broke the 16-column tiles that append when the
    new keys had a loop of their own.
    """
    cubin = tmp_path / "kernel.cubin"

    run = compile_split_kernel(headdim, seqlen_q, append, True, cubin)

    assert run.returncode == 0, run.stderr
    shared_bytes, wgmma, asynchronous, dependent = run.stdout.split()
    assert (wgmma, asynchronous, dependent) == ("True", "True", "True")
    assert programs_per_sm * (int(shared_bytes) + 1024) <= 227 * 1024
    assert "C7510" not in run.stderr
    registers, stack_bytes = resources(cubin)
    assert stack_bytes == 0
    warps = 8 if seqlen_q == 16 else 4
    assert registers * 32 * warps * programs_per_sm <= 65_536
    sass = disassemble(cubin)
    assert "HGMMA" in sass
    assert reads_unwritten(sass) == []


@pytest.mark.parametrize(("headdim", "append"), [(40, 0), (64, 1), (128, 1)])
def test_unaligned_keys_compile_to_sound_code(headdim: int, append: int, tmp_path: Path) -> None:
    """No spills, and no uniform register is read unwritten, as in the tiles for aligned keys."""
    cubin = tmp_path / "kernel.cubin"

    run = compile_split_kernel(headdim, 6, append, False, cubin)

    assert run.returncode == 0, run.stderr
    assert resources(cubin)[1] == 0
    assert reads_unwritten(disassemble(cubin)) == []


@pytest.mark.parametrize("capability", [80, 100])
def test_other_architectures_compile_without_spills(capability: int, tmp_path: Path) -> None:
    cubin = tmp_path / "kernel.cubin"

    run = compile_split_kernel(128, 1, 1, True, cubin, capability)

    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[1:] == ["False", "True", str(capability >= 90)]
    assert resources(cubin)[1] == 0


def compile_split_kernel(
    headdim: int,
    seqlen_q: int,
    append: int,
    keys_aligned: bool,
    cubin: Path,
    capability: int = 90,
) -> subprocess.CompletedProcess[str]:
    """Compile in a child process: this one may have defined the kernels for the interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    numbers = (headdim, seqlen_q, append, int(keys_aligned), capability)
    return subprocess.run(
        [sys.executable, "-c", COMPILE, *map(str, numbers), str(cubin)],
        capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip


# What ptxas 12.8 made of the append loop: UR50 and UR11 should first have been copied.
BROKEN = """
        /*0000*/                   ULDC.64 UR6, c[0x0][0x208] ;
        /*0010*/                   UMOV UR4, 0x400 ;
        /*0020*/              @P0 BRA `(.L_x_0) ;
        /*0030*/                   UIADD3.64 UR50, UR6, 0xc0, URZ ;
        /*0040*/                   UMOV UR11, 0x40000040 ;
.L_x_0:
        /*0050*/                   USHF.R.U32.HI UR36, URZ, 0x4, UR4 ;
        /*0060*/                   UIADD3 UR50, UP0, {source}, 0x20, URZ ;
        /*0070*/                   UIADD3.X UR11, {high}, -0x3ffffff0, URZ, UP0, !UPT ;
        /*0080*/                   UMOV UR10, UR50 ;
        /*0090*/                   UMOV UR8, UR36 ;
        /*00a0*/                   UMOV UR9, 0x40000040 ;
        /*00b0*/                   HGMMA.64x16x16.F32 R40, gdesc[UR8].tnspA.tnspB, R40 ;
        /*00c0*/                   STG.E desc[UR6][R2.64], R5 ;
        /*00d0*/                   EXIT ;
.L_x_1:
        /*00e0*/                   BRA `(.L_x_1);
"""


def test_a_uniform_register_that_one_path_leaves_unwritten_is_found() -> None:
    broken = BROKEN.format(source="UR50", high="UR11")

    found = reads_unwritten(broken)

    assert found == [
        ("UIADD3 UR50, UP0, UR50, 0x20, URZ", [50]),
        ("UIADD3.X UR11, UR11, -0x3ffffff0, URZ, UP0, !UPT", [11]),
    ]


def test_machine_code_that_writes_before_it_reads_passes() -> None:
    mended = BROKEN.format(source="UR36", high="URZ")

    assert reads_unwritten(mended) == []


def resources(cubin: Path) -> tuple[int, int]:
    """Return registers per thread and stack bytes of a compiled kernel."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    text = subprocess.run(
        [str(tool), "-res-usage", str(cubin)], capture_output=True, text=True, check=True
    ).stdout
    fields = dict(field.split(":") for field in text.split() if field.count(":") == 1)
    return int(fields["REG"]), int(fields["STACK"])
