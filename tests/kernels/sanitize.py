"""
Run the attention kernels under compute-sanitizer, on an H100: memcheck, then racecheck.

    python tests/kernels/sanitize.py [--seconds 100]

A plain run comes first: it compiles everything and checks the results, so that a tool only has to
execute our kernels. Racecheck, by far the slower one, gets one case of each. A persistent kernel is
told of 2 multiprocessors, so that few tiles make its programs walk. Memory is allocated without
PyTorch's cache, whose large blocks would hide a read past a tensor's end. Racecheck knows barriers
in shared memory, and no copies by TMA: it sees a hazard between threads, not one between a thread
and such a copy. Exit status: 0 clean, 1 errors or out of time, 2 no such tool here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = {"memcheck": "all", "racecheck": "few"}
ERRORS = 9


def find_tool() -> str | None:
    """Look where CUDA and its wheels put it."""
    site = Path(sysconfig.get_paths()["purelib"])
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    places = [f"{home}/bin", f"{home}/compute-sanitizer", *map(str, site.glob("nvidia/*/bin"))]
    path = os.pathsep.join([os.environ.get("PATH", ""), *places])
    return shutil.which("compute-sanitizer", path=path)


def cases(which: str, checked: bool) -> None:
    """Launch "all" kinds of kernels, or "few", on tensors whose last tiles are cut."""
    sys.path.insert(0, str(ROOT))
    sys.path.insert(0, str(Path(__file__).parent))
    import torch

    from flashcore_kernels import configs, forward_hopper

    forward_hopper._multiprocessors = lambda device_index: 2
    named = [
        (row.hopper, headdim, row.causal)
        for headdim, table in ((64, configs.HEADDIM_64), (128, configs.HEADDIM_128))
        for row in table
        if row.hopper is not None
    ]
    # Of each kernel and number of consumers one with a mask and one without.
    chosen = sorted({(c.family, c.groups, d, causal): c for c, d, causal in named}.items())
    if which == "few":
        chosen = list({key[0]: (key, config) for key, config in reversed(chosen)}.values())
    for (_, _, headdim, causal), config in chosen:
        _attend(config, headdim, causal, checked)
    if which == "all":
        _attend(None, 64, True, checked)
    _decode(checked)
    torch.cuda.synchronize()
    print("results are right" if checked else "done", flush=True)


def _attend(config, headdim: int, causal: bool, checked: bool) -> None:
    import torch
    from accuracy import assert_accurate

    from flashcore_kernels.configs import TileConfig
    from flashcore_kernels.forward import plain_forward
    from flashcore_kernels.forward_hopper import hopper_forward

    q, k, v = (torch.randn(2, h, 200, headdim, device="cuda").half() for h in (4, 2, 2))
    out, lse = torch.empty_like(q), torch.empty(2, 4, 200, device="cuda")
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


def sanitize(tool: str, name: str, deadline_s: float) -> bool:
    """Run the cases under one tool; print what it says last."""
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    command = [sys.executable, __file__, "--cases", TOOLS.get(name, "all")]
    if name:
        command = [tool, "--tool", name, "--error-exitcode", str(ERRORS), *command, "--unchecked"]
    began = time.monotonic()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            timeout=max(1.0, deadline_s - began),
        )
    except subprocess.TimeoutExpired as late:
        finished = (late.stdout or b"").decode().strip().splitlines()
        print(f"{name or 'plain run'}: out of time after", *finished, sep="\n  ")
        return False
    said = (done.stdout + done.stderr).strip().splitlines()
    shown = said[-1:] if done.returncode == 0 else said[-40:]
    took_s = time.monotonic() - began
    print(f"{name or 'plain run'}: exit {done.returncode} after {took_s:.0f} s", *shown, sep="\n  ")
    return done.returncode == 0


def main() -> int:
    """Run everything, within the time that is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seconds", type=float, default=100.0, help="for all of it")
    parser.add_argument("--cases", choices=("all", "few"), help="only launch the kernels")
    parser.add_argument("--unchecked", action="store_true", help="do not look at the results")
    args = parser.parse_args()
    if args.cases:
        cases(args.cases, checked=not args.unchecked)
        return 0
    tool = find_tool()
    deadline_s = time.monotonic() + args.seconds
    if not sanitize("", "", deadline_s):
        return 1
    if tool is None:
        print("compute-sanitizer is not here: expected it on PATH, under CUDA_HOME or in a wheel")
        return 2
    clean = [sanitize(tool, name, deadline_s) for name in TOOLS]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
