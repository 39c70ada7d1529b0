"""Compile one Hopper configuration for sm_90 without a GPU; print its PTX and what ptxas says of it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.experimental.gluon._runtime import GluonASTSource

from flashcore_kernels import forward_hopper

LENGTHS = ("seqlen_q", "seqlen_k", "offset", "nheads", "num_m", "num_bh", "section", "total")


def compiled(config: forward_hopper.HopperConfig, headdim: int, causal: bool) -> Any:
    """The kernel as it would be launched on [1, 8, 1024, headdim]."""
    q = torch.empty(1, 8, 1024, headdim, dtype=torch.float16)
    forward_hopper._multiprocessors = lambda device_index: 132  # type: ignore[assignment]
    kernel, args, constants, options, _ = forward_hopper.launch_plan(
        q, q, q, q, None, scale=0.125, causal=causal, causal_offset=0, config=config
    )
    signature = {
        name: f"tensordesc<fp16{arg.block_shape},{arg.layout!r}>"
        for name, arg in zip(("q_desc", "k_desc", "v_desc", "o_desc"), args)
    }
    signature |= {"lse": "*fp16", "scale_log2": "fp32", **dict.fromkeys(LENGTHS, "i32")}
    signature |= dict.fromkeys(constants, "constexpr")
    positions = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = GluonASTSource(kernel, signature, positions)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def main(name: str, causal: str, headdim: str = "64") -> None:
    config = next(c for c in forward_hopper.HOPPER_CONFIGS[int(headdim)] if c.name == name)
    ptx = compiled(config, int(headdim), causal == "1").asm["ptx"]
    ptxas = triton.knobs.nvidia.ptxas.path
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        run = subprocess.run(
            [ptxas, "-v", "-arch=sm_90a", str(source), "-o", str(Path(folder) / "kernel.cubin")],
            capture_output=True, text=True, check=True,
        )
    print(ptx)
    print(run.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
