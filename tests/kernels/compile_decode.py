"""
Compiles the decode kernels without a GPU; prints JSON, {case: what the compiler made of it}.

Run as a program, because the tests' own process may have defined the kernels for the interpreter.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import ptxas
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from uniform_registers import disassemble, reads_unwritten

from flashcore_kernels.decode import decode_split_kernel
from flashcore_kernels.decode_plan import for_unaligned, plan_decode

KINDS = {
    "qk_scale": "fp32", "cache_seqlens_ptr": "*i32", "lse_ptr": "*fp32",
    "partial_out_ptr": "*fp32", "partial_lse_ptr": "*fp32",
}  # fmt: skip


class Split(NamedTuple):
    """One way to compile the split kernel, for 4 query heads per key/value head."""

    headdim: int
    seqlen_q: int
    append: bool
    keys_aligned: bool = True
    capability: int = 90

    def __str__(self) -> str:
        """Show only what differs from one decode step on a Hopper."""
        parts = [f"D{self.headdim} q{self.seqlen_q}"]
        parts += ["append"] if self.append else []
        parts += [] if self.keys_aligned else ["unaligned"]
        parts += [] if self.capability == 90 else [f"sm_{self.capability}"]
        return " ".join(parts)


ALIGNED = (Split(64, 1, False), Split(64, 1, True), Split(128, 1, True), Split(128, 16, True))
UNALIGNED = tuple(Split(d, 6, d != 40, keys_aligned=False) for d in (40, 64, 128))
OTHER_CARDS = tuple(Split(128, 1, True, capability=capability) for capability in (80, 100))


def _compiled(case: Split) -> Any:
    plan = plan_decode(
        batch=1, nheads_k=8, group=4, seqlen_q=case.seqlen_q, capacity=65536,
        headdim=case.headdim, num_sms=132,
    )  # fmt: skip
    plan = plan if case.keys_aligned else for_unaligned(plan)
    constants = {
        "HEADDIM": case.headdim,
        "BLOCK_D": triton.next_power_of_2(case.headdim),
        "GROUP": 4,
        "BLOCK_Q": plan.block_q,
        "BLOCK_N": plan.block_n,
        "CAUSAL": True,
        "APPEND": case.append,
        "SPLIT": True,
        "WRITE_LSE": False,
        "NUM_STAGES": plan.num_stages,
        "DEPENDENT_LAUNCH": case.capability >= 90,
    }
    signature, aligned = {}, {}
    for i, name in enumerate(decode_split_kernel.arg_names):
        kind = "*fp16" if name.endswith("_ptr") else "i32"
        signature[name] = "constexpr" if name in constants else KINDS.get(name, kind)
        holds_keys = name.startswith(("k_", "v_", "kc_", "vc_", "kn_", "vn_"))
        if ("_ptr" in name or "_stride_" in name) and (case.keys_aligned or not holds_keys):
            aligned[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(decode_split_kernel, signature, constants, aligned)
    target = GPUTarget("cuda", case.capability, 32)
    return triton.compile(source, target=target, options={"num_warps": plan.num_warps})


def _described(kernel: Any, capability: int) -> dict[str, Any]:
    ptx = kernel.asm["ptx"]
    described = ptxas.assembled(ptx, capability) | {
        "shared_bytes": kernel.metadata.shared,
        "wgmma": "wgmma.mma_async" in ptx,
        "asynchronous": "cp.async.cg" in ptx,
        "dependent": "griddepcontrol" in ptx,
    }
    if capability == 90:
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(kernel.asm["cubin"])
            file.flush()
            sass = disassemble(Path(file.name))
        described |= {"hgmma": "HGMMA" in sass, "reads_unwritten": reads_unwritten(sass)}
    return described


def main() -> None:
    """Compile every case; print JSON."""
    found = {}
    for case in (*ALIGNED, *UNALIGNED, *OTHER_CARDS):
        found[str(case)] = _described(_compiled(case), case.capability)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
