"""
Compiles Hopper configurations for sm_90 without a GPU, and lays their launches side by side.

Run as a program it prints JSON, {case: numbers}: what ptxas says of each row of the tile table, at
an aligned length and, where a mask is added or warp groups are dispatched, at an odd one; and what
reaches Triton's generated launcher by the public way and by the prepared one. With a
configuration's name, 0 or 1 for the causal mask, and a headdim, it prints PTX and ptxas' words.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from types import SimpleNamespace
from typing import Any

import dispatch_control
import dispatch_order
import ptxas
import racecheck_report
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import driver
from triton.experimental.gluon import language as gl
from triton.experimental.gluon._runtime import GluonASTSource

from flashcore_kernels import configs, dispatch, forward_hopper, launch

H100_SMS = 132
ALIGNED, ODD_BY = 1024, 24
STREAM, FUNCTION = 77, 1234
LENGTHS = ("seqlen_q", "seqlen_k", "offset", "nheads", "num_m", "num_bh", "section", "total")
MASK = {"scale": 0.125, "causal_offset": 0}


def rows() -> dict[tuple[forward_hopper.HopperConfig, int, bool], int]:
    """Return {(configuration, headdim, causal): keys} of every row that names a Hopper kernel."""
    tables = ((64, configs.HEADDIM_64), (128, configs.HEADDIM_128))
    found: dict[tuple[forward_hopper.HopperConfig, int, bool], int] = {}
    for row, d in ((row, d) for d, table in tables for row in table if row.hopper):
        case = (row.hopper, d, row.causal)
        found[case] = max(found.get(case, 0), min(row.max_seqlen, ALIGNED))
    return found


def inputs(
    headdim: int, dtype: torch.dtype = torch.float16, seqlen: int = ALIGNED
) -> tuple[torch.Tensor, ...]:
    """Return q, k, v, out: [1, 8, seqlen, headdim]."""
    return tuple(torch.empty(1, 8, seqlen, headdim, dtype=dtype) for _ in range(4))


def compiled(
    config: forward_hopper.HopperConfig,
    headdim: int,
    causal: bool,
    dtype: torch.dtype = torch.float16,
    seqlen: int = ALIGNED,
) -> Any:
    """Compile the kernel as it would be launched on `inputs`, without the log-sum-exp."""
    forward_hopper._multiprocessors = lambda device_index: H100_SMS
    tensors = inputs(headdim, dtype, seqlen)
    kernel, args, constants, options, _ = forward_hopper.launch_plan(
        *tensors, None, causal=causal, config=config, **MASK
    )
    element = {torch.float16: "fp16", torch.bfloat16: "bf16"}[dtype]
    signature = {
        name: f"tensordesc<{element}{arg.block_shape},{arg.layout!r}>"
        for name, arg in zip(("q_desc", "k_desc", "v_desc", "o_desc"), args[:4], strict=True)
    }
    signature |= {"lse": f"*{element}", "scale_log2": "fp32", **dict.fromkeys(LENGTHS, "i32")}
    signature |= dict.fromkeys(constants, "constexpr")
    positions = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = GluonASTSource(kernel, signature, positions)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def assembled(ptx: str) -> dict[str, Any]:
    """Return what ptxas says, and what stands in PTX."""
    return ptxas.assembled(ptx) | {
        "wgmma": ptx.count("wgmma.mma_async"),
        # The map itself lies among the kernel's parameters: nothing on the host is pointed to.
        "maps_by_value": len(re.findall(r"\.param \.align \d+ \.b8 \w+\[128\]", ptx)),
    }


def control(level: int) -> Any:
    """Compile one of the kernels that dispatch warp groups and little more."""
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    columns = dispatch_control.COLUMNS.value
    boxes = (dispatch_control.TILE_ROWS.value, columns), (dispatch_control.ROWS.value, columns)
    source, target = (f"tensordesc<fp16{list(box)},{layout!r}>" for box in boxes)
    signature = {"out": "*i32", "source": source, "target": target, "LEVEL": "constexpr"}
    source = GluonASTSource(dispatch_control.control_kernel, signature, {(3,): level})
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})


def shared_accesses(kernel: Any) -> list[str]:
    """Return the patterns of loads and stores in shared memory other than of matrices."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.nvdisasm.path, "-c", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    instructions = racecheck_report.listing(text)
    kinds = {"LDS": "Read", "STS": "Write"}
    accesses = [
        racecheck_report.Access(kinds[opcode], "", offset)
        for offset, words in instructions
        if (opcode := words.split()[0].split(".")[0]) in kinds
    ]
    return [str(racecheck_report.pattern(access, instructions)) for access in accesses]


def dispatched(kernel: Any) -> dict[str, Any]:
    """Return in which order a dispatch of warp groups writes and reads its state."""
    order = dispatch_order.order(kernel.asm["ptx"])
    times = {"writes": order.writes, "reads": order.reads, "exits": order.exits}
    return {
        "order": {what: sorted(passed) for what, passed in times.items()},
        "ordered": order.proven,
    }


class Launcher:
    """Triton's own launcher of a compiled kernel, with a recorder where its C function would be."""

    def __init__(self, kernel: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.source = ""
        driver.library_dirs = list
        driver.compile_module_from_src = self._module
        self.run = driver.CudaLauncher(kernel.src, kernel.metadata)
        self.handle = SimpleNamespace(
            run=self.run, function=FUNCTION, packed_metadata=kernel.packed_metadata
        )

    def _module(self, src: str, **_: Any) -> SimpleNamespace:
        self.source = src
        return SimpleNamespace(launch=lambda *args: self.calls.append(args))


def launches(
    kernel: Any, config: forward_hopper.HopperConfig, headdim: int, causal: bool, seqlen: int
) -> dict[str, Any]:
    """Launch by the public way and by the prepared one; return what the C function got."""
    launcher = Launcher(kernel)
    tensors = inputs(headdim, seqlen=seqlen)

    def by_triton(
        kernel: Any, grid: tuple[int, int, int], args: Any, options: dict[str, Any]
    ) -> Any:
        bound = [options[name] for name in kernel.arg_names[len(args) :]]
        packed = launcher.handle.packed_metadata
        launcher.run(*grid, STREAM, FUNCTION, packed, None, None, None, *args, *bound)
        return launcher.handle

    launch.launch = by_triton
    prepared = dispatch._launch_hopper(*tensors, None, config=config, causal=causal, **MASK)
    addresses = [tensor.data_ptr() for tensor in tensors]
    if prepared is not None:
        prepared(STREAM, *addresses, addresses[0])
    letters = launcher.source.split('PyArg_ParseTuple(args, "')[1].split('"')[0]
    declared = launcher.source.split("static void _launch(")[1].split(")")[0]
    return {
        "letters": letters,
        "maps_copied": declared.count("CUtensorMap arg"),
        "calls": [[_plain(value) for value in args] for args in launcher.calls],
    }


def _plain(value: Any) -> Any:
    return value.data_ptr() if isinstance(value, torch.Tensor) else value


def show(name: str, causal: str, headdim: str = "64") -> None:
    """Print one candidate's PTX and what ptxas says of it."""
    config = next(c for c in forward_hopper.HOPPER_CONFIGS[int(headdim)] if c.name == name)
    seqlen = config.block_n if config.one_block else ALIGNED
    ptx = compiled(config, int(headdim), causal == "1", seqlen=seqlen).asm["ptx"]
    print(ptx)
    print(ptxas.words(ptx))


def main() -> None:
    """Compile and launch every row; print JSON."""

    def fill(address: int, *rest: Any) -> str:
        return f"map of {address} {rest}"

    utils = SimpleNamespace(fill_tma_descriptor=fill)
    triton.runtime.driver._active = SimpleNamespace(utils=utils)
    found = {}
    for (config, headdim, causal), seqlen in rows().items():
        kernel = compiled(config, headdim, causal, seqlen=seqlen)
        numbers = assembled(kernel.asm["ptx"]) | launches(kernel, config, headdim, causal, seqlen)
        if config.family == "ws" or not causal:
            odd = compiled(config, headdim, causal, seqlen=seqlen - ODD_BY)
            numbers["odd"] = assembled(odd.asm["ptx"])
        if config.family == "ws":
            numbers |= dispatched(kernel)
            numbers["odd"] |= dispatched(odd)
        if config.name.startswith("ws2"):  # whose dispatch is all that does so
            numbers["shared_accesses"] = shared_accesses(kernel)
        found[f"{config.name} D{headdim} {'causal' if causal else 'full'}"] = numbers
    case, seqlen = next(iter(rows().items()))
    found["bf16"] = assembled(compiled(*case, torch.bfloat16, seqlen).asm["ptx"])
    for level, name in enumerate(dispatch_control.LEVELS):
        kernel = control(level)
        found[f"control {name}"] = dispatched(kernel) | {"shared_accesses": shared_accesses(kernel)}
    print(json.dumps(found))


if __name__ == "__main__":
    show(*sys.argv[1:]) if len(sys.argv) > 1 else main()
