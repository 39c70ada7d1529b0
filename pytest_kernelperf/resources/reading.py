"""
Reads what the compiler produced from a kernel that Triton has compiled.

What takes a second (the assembler's words, the disassembly) is kept beside the kernel in Triton's
own cache, and so is read once per kernel and machine.
"""

from __future__ import annotations

import contextlib
import json
import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pytest_kernelperf.errors import FiguresUnreadableError
from pytest_kernelperf.model import Kernel
from pytest_kernelperf.resources.cubin import read_cubin
from pytest_kernelperf.resources.disassembly import count_instructions
from pytest_kernelperf.resources.launches import Launch
from pytest_kernelperf.resources.occupancy import RESERVED_BYTES, warps_per_sm

#: In Triton's cache; the number changes with what is kept.
_CACHED = "kernelperf-1.json"
_WARP = 32
_TOOL_TIMEOUT_S = 300


def read_kernel(launch: Launch) -> Kernel:
    """
    Return what is known of a launched kernel.

    Raises:
        FiguresUnreadableError: If it is no CUDA kernel, or a tool of Triton's is missing or fails.
    """
    compiled = launch.compiled
    try:
        return _read(launch)
    except (FiguresUnreadableError, ValueError, struct.error) as error:
        raise FiguresUnreadableError(f"kernel {compiled.metadata.name}: {error}") from error


def _read(launch: Launch) -> Kernel:
    compiled = launch.compiled
    if "cubin" not in compiled.asm:
        raise FiguresUnreadableError(
            "expected a cubin, which Triton makes for CUDA targets; got "
            f"{', '.join(compiled.asm) or 'nothing'}"
        )
    metadata = compiled.metadata
    target = f"sm_{metadata.target.arch}"
    words = _words(compiled, launch.log)
    cubin = read_cubin(compiled.asm["cubin"], metadata.name)
    # The driver leaves the system's part out too, and measured kernels carry the driver's numbers.
    reserved_bytes = RESERVED_BYTES if metadata.target.arch >= 90 else 0
    static_bytes = max(cubin.shared_bytes - reserved_bytes, 0)
    shared_bytes = metadata.shared + static_bytes
    threads = metadata.num_warps * _WARP
    return Kernel(
        name=metadata.name,
        registers=cubin.registers,
        spills=words["spills"],
        shared_bytes=shared_bytes,
        code_hash=cubin.code_hash,
        target=target,
        static_shared_bytes=static_bytes,
        threads=threads,
        warps_per_sm=warps_per_sm(target, threads, cubin.registers, shared_bytes),
        instructions=words["instructions"],
        warnings=tuple(words["warnings"]),
        grid=launch.grid,
        constants={name: str(value) for name, value in sorted(launch.constants.items())},
        compiler=words["compiler"],
        tuned=launch.tuned,
    )


def complete(kernels: Sequence[Kernel], read: Sequence[Kernel]) -> tuple[Kernel, ...]:
    """
    Return measured kernels with what was read of those of the same name.

    Args:
        kernels: As the driver names them, in the order of a call; names may be cut off.
        read: Of launches of the same call, in order; a call may be there several times.
    """
    waiting = list(read)
    found = []
    for kernel in kernels:
        match = next((one for one in waiting if kernel.name and _same(one, kernel)), None)
        if match is not None:
            waiting.remove(match)
        found.append(kernel if match is None else replace(match, name=kernel.name))
    return tuple(found)


def _same(read: Kernel, measured: Kernel) -> bool:
    return read.name.startswith(measured.name)


def _words(compiled: Any, log: str) -> dict[str, Any]:
    """
    Return what ptxas and nvdisasm say of a kernel, from Triton's cache if it is there.
    """
    from triton.runtime.cache import get_cache_manager

    manager = get_cache_manager(compiled.hash)
    kept = manager.get_file(_CACHED)
    if kept is not None:
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(Path(kept).read_text())
            return found
    words = _ask_tools(compiled, log)
    with contextlib.suppress(OSError):
        manager.put(json.dumps(words), _CACHED, binary=False)
    return words


def _ask_tools(compiled: Any, log: str) -> dict[str, Any]:
    import triton

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kernel.ptx").write_text(compiled.asm["ptx"])
        (folder / "kernel.cubin").write_bytes(compiled.asm["cubin"])
        ptxas = _assembler(compiled.metadata.target.arch)
        log = log if "ptxas info" in log else _assembled(ptxas, folder)
        listing = _run(_tool("nvdisasm"), "-ndf", "-c", str(folder / "kernel.cubin"))
    return {
        "spills": spilled_bytes(log),
        "warnings": serialisations(log),
        "instructions": count_instructions(listing),
        "compiler": f"triton {triton.__version__}, ptxas {_version(ptxas)}",
    }


def spilled_bytes(log: str) -> int:
    """
    Return how many bytes per thread `ptxas -v` says it spilled; loads and stores are one spill.
    """
    found = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    return max((max(int(stores), int(loads)) for stores, loads in found), default=0)


def serialisations(log: str) -> list[str]:
    """
    Return what ptxas says of products that it made wait for each other (C7510 and its kin).
    """
    found = re.findall(r"\((C75\d\d)\)[^:]*:?\s*(.*)", log)
    return sorted({f"{code}: {text.strip()}" for code, text in found})


def _assembled(ptxas: str, folder: Path) -> str:
    ptx = folder / "kernel.ptx"
    target = re.search(r"^\.target\s+(\w+)", ptx.read_text(), re.MULTILINE)
    assert target is not None, "every PTX text names its target"
    command = ("-v", f"--gpu-name={target.group(1)}", str(ptx), "-o", str(folder / "again.cubin"))
    return _run(ptxas, *command)


def _assembler(arch: int) -> str:
    """
    Return the path of the ptxas that Triton itself takes for a target.

    Another one may refuse the PTX text as too new: Triton 3.9 takes its newer one from sm_90 on,
    and Triton 3.6 from sm_100 on.
    """
    from triton.backends.nvidia import compiler

    if not hasattr(compiler, "get_ptxas"):
        return _tool("ptxas")
    try:
        return str(compiler.get_ptxas(arch).path)
    except (AttributeError, RuntimeError) as error:
        raise _missing("ptxas", error) from None


def _tool(name: str) -> str:
    """
    Return the path of one of the tools that Triton brings.
    """
    try:
        from triton import knobs

        return str(getattr(knobs.nvidia, name).path)
    except (ImportError, AttributeError, RuntimeError) as error:
        raise _missing(name, error) from None


def _missing(name: str, error: Exception) -> FiguresUnreadableError:
    return FiguresUnreadableError(
        f"Triton has no {name} here ({error}): install a Triton wheel for CUDA, which brings it"
    )


@cache
def _version(ptxas: str) -> str:
    found = re.search(r"V(\d[\d.]*)", _run(ptxas, "--version"))
    return found.group(1) if found else "unknown"


def _run(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TOOL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FiguresUnreadableError(f"{Path(command[0]).name} failed: {error}") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise FiguresUnreadableError(f"{Path(command[0]).name} failed: {lines[0]}")
    return done.stdout + done.stderr
