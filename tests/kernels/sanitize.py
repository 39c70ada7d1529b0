"""
Run the attention kernels under compute-sanitizer, on an H100: memcheck, then racecheck.

    python tests/kernels/sanitize.py [--seconds 100]

A plain run comes first: it compiles everything and checks the results, so that a tool only has to
execute our kernels. Racecheck, by far the slower one, gets one case of each, and controls that
dispatch warp groups and little more (`dispatch_control.py`): hazards that one of them has too are
Triton's, all others are ours, and a last run shows the threads. A persistent kernel is
told of 2 multiprocessors, so that few tiles make its programs walk. Memory is allocated without
PyTorch's cache, whose large blocks would hide a read past a tensor's end. Racecheck knows barriers
in shared memory, and no copies by TMA: it sees a hazard between threads, not one between a thread
and such a copy.

Exit status: 0 clean, 1 errors, hazards of ours or out of time, 2 no such tool here.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import racecheck_report

ROOT = Path(__file__).resolve().parents[2]
# Programs of a control: each is one more chance for what happens now and then.
PROGRAMS = 8
# What remains of the time given when the last run is stopped: to end it, and to say so.
GRACE_S = 3.0


# --- inside the tool -----------------------------------------------------------------------------


def cases(which: str, checked: bool) -> None:
    """Launch "all" kinds of kernels, or "few" and the controls, on tensors with cut last tiles."""
    sys.path.insert(0, str(ROOT))
    import torch

    from flashcore_kernels import configs, forward_hopper

    forward_hopper._multiprocessors = lambda device_index: 2
    named = [
        (row.hopper, headdim, row.causal)
        for headdim, table in ((64, configs.HEADDIM_64), (128, configs.HEADDIM_128))
        for row in table
        if row.hopper is not None
    ]
    # Of each kernel, order of work and number of consumers one with a mask and one without.
    kinds = {(c.family, c.serial, c.one_block, c.groups, d, causal): c for c, d, causal in named}
    chosen = sorted(kinds.items())
    if which == "few":
        chosen = list({key[:2]: (key, config) for key, config in reversed(chosen)}.values())
    if which == "few" or checked:
        _controls(checked)
    for (*_, headdim, causal), config in chosen:
        _attend(config, headdim, causal, checked)
    if which == "all":
        _attend(None, 64, True, checked)
    _decode(checked)
    torch.cuda.synchronize()
    print("results are right" if checked else "done", flush=True)


def _controls(checked: bool) -> None:
    import dispatch_control as control
    import torch
    from triton.experimental.gluon.language import NVMMASharedLayout
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    layout = NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    tiles, rows, columns = PROGRAMS * control.TURNS.value, control.ROWS.value, control.COLUMNS.value
    shape = (tiles * control.TILE_ROWS.value, columns)
    # Few small integers: their products are exact.
    source = torch.randint(-1, 2, shape, device="cuda").half()
    for level, name in enumerate(control.LEVELS):
        out = torch.empty(PROGRAMS, control.THREADS, dtype=torch.int32, device="cuda")
        target = torch.zeros_like(source)
        maps = (
            TensorDescriptor.from_tensor(source, [control.TILE_ROWS.value, columns], layout),
            TensorDescriptor.from_tensor(target, [rows, columns], layout),
        )
        control.control_kernel[(PROGRAMS,)](out, *maps, level, num_warps=4)
        torch.cuda.synchronize()
        print("control", name, flush=True)
        if checked:
            numbers = torch.arange(control.THREADS, dtype=torch.int32, device="cuda")
            assert torch.equal(numbers.expand_as(out), out)
    if checked:
        parts = source.view(tiles, -1, rows, columns)  # the first for each consumer, then the other
        for consumer in range(control.CONSUMERS.value):
            products = parts[:, consumer] @ parts[:, control.CONSUMERS.value].mT
            assert torch.equal(products, target.view_as(parts)[:, consumer])


def _attend(config, headdim: int, causal: bool, checked: bool) -> None:
    import torch
    from accuracy import assert_accurate

    from flashcore_kernels.configs import TileConfig
    from flashcore_kernels.forward import plain_forward
    from flashcore_kernels.forward_hopper import hopper_forward

    seqlen = 104 if config is not None and config.one_block else 200
    q, k, v = (torch.randn(2, h, seqlen, headdim, device="cuda").half() for h in (4, 2, 2))
    out, lse = torch.empty_like(q), torch.empty(2, 4, seqlen, device="cuda")
    mask = {"scale": headdim**-0.5, "causal": causal, "causal_offset": 0}
    if config is None:
        plain_forward(q, k, v, out, lse, config=TileConfig(64, 64, 4, 3), **mask)
    else:
        hopper_forward(q, k, v, out, lse, config=config, **mask)
    torch.cuda.synchronize()
    print("plain" if config is None else config.name, headdim, causal, flush=True)
    if checked:
        assert_accurate(out, lse, q, k, v, causal=causal)


def _decode(checked: bool) -> None:
    import torch

    from flashcore_kernels import attention_with_kv_cache

    q, k, v = (torch.randn(2, heads, 1, 64, device="cuda").half() for heads in (8, 2, 2))
    caches = [torch.randn(2, 2, 1000, 64, device="cuda").half() for _ in range(2)]
    lens = torch.tensor([0, 999], dtype=torch.int32, device="cuda")
    out = attention_with_kv_cache(q, *caches, lens, k, v)
    torch.cuda.synchronize()
    print("decode", flush=True)
    if checked:
        # The first sequence sees its new key alone, whatever the query.
        assert torch.equal(v[0].repeat_interleave(4, dim=0), out[0])


def keep_cubins(folder: Path) -> None:
    """Copy the machine code of every kernel that is loaded from now on."""
    import triton

    def keep(module, function, name: str, files: dict[str, str], digest: str) -> None:
        shutil.copy(machine_code(files), folder / f"{name}.{digest}.cubin")

    triton.knobs.runtime.kernel_load_start_hook.add(keep)


def machine_code(files: dict[str, str]) -> str:
    """Pick it from a compiled kernel's files, named for the function, not for the kernel."""
    return next(path for file, path in files.items() if file.endswith(".cubin"))


# --- around it -----------------------------------------------------------------------------------


def find_tool() -> str | None:
    """Look where CUDA and its wheels put it."""
    site = Path(sysconfig.get_paths()["purelib"])
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    places = [f"{home}/bin", f"{home}/compute-sanitizer", *map(str, site.glob("nvidia/*/bin"))]
    path = os.pathsep.join([os.environ.get("PATH", ""), *places])
    return shutil.which("compute-sanitizer", path=path)


@dataclass(frozen=True)
class Outcome:
    """How a process ended; `status` is None if it was stopped because its time was over."""

    status: int | None
    said: str
    took_s: float


def run(command: list[str], deadline_s: float) -> Outcome:
    """
    Run a command until it ends or the time is over; then end it and all that it started.

    What it prints goes to a file: a pipe would be held open by a process that outlives it.
    """
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    began = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        child = subprocess.Popen(
            command, stdout=said, stderr=said, env=environment, start_new_session=True
        )
        try:
            status = child.wait(max(0.0, deadline_s - began))
        except subprocess.TimeoutExpired:
            status = None
            os.killpg(child.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # a driver may hold it for longer
                child.wait(GRACE_S / 2)
        said.seek(0)
        return Outcome(status, said.read(), time.monotonic() - began)


def told(name: str, outcome: Outcome, clean: bool) -> bool:
    """Print how a run ended, and at length if it was not clean; return whether it was."""
    lines = outcome.said.strip().splitlines()
    end = "out of time" if outcome.status is None else f"exit {outcome.status}"
    shown = lines[-1:] if clean else lines[-40:]
    print(f"{name}: {end} after {outcome.took_s:.0f} s", *shown, sep="\n  ", flush=True)
    return clean


def plain(deadline_s: float) -> bool:
    """Compile everything, and check the results."""
    outcome = run([sys.executable, __file__, "--cases", "all"], deadline_s)
    return told("plain run", outcome, outcome.status == 0)


def memcheck(tool: str, deadline_s: float) -> bool:
    """Run all cases; any error is ours."""
    options = ["--tool", "memcheck", "--error-exitcode", "9"]
    child = [sys.executable, __file__, "--cases", "all", "--unchecked"]
    outcome = run([tool, *options, *child], deadline_s)
    return told("memcheck", outcome, outcome.status == 0)


def racecheck(tool: str, deadline_s: float) -> bool:
    """Run few cases; a hazard is ours unless a control has it too."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*_racecheck(tool, "analysis"), "--cubins", folder]
        outcome = run(command, deadline_s)
        listings = disassembled(Path(folder), deadline_s) if outcome.status == 0 else {}
    found = racecheck_report.judged(outcome.said, listings)
    clean = outcome.status == 0 and found.complete and not found.ours
    told("racecheck", outcome, clean)
    controls = [name for name in listings if name.startswith(racecheck_report.CONTROL_PREFIX)]
    for whose, hazards in (
        *((name, [one for one in found.control if one.split()[0] == name]) for name in controls),
        ("our kernels that a control has too", found.shared),
        ("our kernels alone", found.ours),
    ):
        print(f"  hazards of {whose}: {len(hazards)}", *hazards, sep="\n    ", flush=True)
    if not found.complete:
        print("  the report's summary does not count what was read of it: not judged clean")
    interesting = (*found.ours, *found.shared, *found.control[:1])
    for kernel in dict.fromkeys(hazard.split()[0] for hazard in interesting):
        show_threads(tool, kernel, deadline_s)
    return clean


def _racecheck(tool: str, report: str, *options: str) -> list[str]:
    child = [sys.executable, __file__, "--cases", "few", "--unchecked"]
    return [tool, "--tool", "racecheck", "--racecheck-report", report, *options, *child]


def show_threads(tool: str, kernel: str, deadline_s: float) -> None:
    """Print the first hazards of a kernel by program, thread and address; it judges nothing."""
    options = ["--print-limit", "8", "--kernel-regex", f"kns={kernel}"]
    outcome = run(_racecheck(tool, "hazard", *options), deadline_s)
    records = racecheck_report.records(outcome.said)
    end = "out of time" if outcome.status is None else f"exit {outcome.status}"
    print(f"  threads of {kernel}: {end} after {outcome.took_s:.0f} s", *records, sep="\n    ")


def disassembled(folder: Path, deadline_s: float) -> dict[str, list[tuple[int, str]]]:
    """Return each kernel's instructions; none where two different kernels have one name."""
    import triton

    found: dict[str, list[tuple[int, str]]] = {}
    # In the order of their launches.
    for cubin in sorted(folder.glob("*.cubin"), key=lambda file: file.stat().st_mtime_ns):
        outcome = run([triton.knobs.nvidia.nvdisasm.path, "-c", str(cubin)], deadline_s)
        name = cubin.name.split(".")[0]
        found[name] = racecheck_report.listing(outcome.said) if name not in found else []
    return found


def main() -> int:
    """Run everything, within the time that is given."""
    deadline_s = time.monotonic() - GRACE_S
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seconds", type=float, default=100.0, help="for all of it")
    parser.add_argument("--cases", choices=("all", "few"), help="only launch the kernels")
    parser.add_argument("--unchecked", action="store_true", help="do not look at the results")
    parser.add_argument("--cubins", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cases:
        if args.cubins:
            keep_cubins(args.cubins)
        cases(args.cases, checked=not args.unchecked)
        return 0
    deadline_s += args.seconds
    if not plain(deadline_s):
        return 1
    tool = find_tool()
    if tool is None:
        print("compute-sanitizer is not here: expected it on PATH, under CUDA_HOME or in a wheel")
        return 2
    clean = [memcheck(tool, deadline_s), racecheck(tool, deadline_s)]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
