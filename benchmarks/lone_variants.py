"""
Which kernel a lone small call should get: every choice in wall mode and on the device.

    python benchmarks/lone_variants.py [--headdim 128] [--causal] [--modes cold] [--out lone.json]

Each variant is the whole package, imported once more under a table that names one kernel only, so
that a call goes all the way that a user's call goes. "cold" is the table's own comparison: one
variant beside SDPA and the floors, new tensors and an empty L2 each time. In the other modes all
variants take turns: "new" calls find new tensors too, but the variants before have warmed up what
they share on the host; "same" calls find the same again; "device" is the kernel without the host.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from attention_lines import Bench
from attention_peers import Callables, Shape, fitted, tensors, torchs

PACKAGE = "flashcore_kernels"
SEQLENS = (128, 512)
MAX_ERROR = 5e-4
NOTHING, EMPTY, SDPA = "no launch", "an empty kernel", "sdpa"
BESIDE = (SDPA, NOTHING, EMPTY)
MODES = {
    "cold": ("wall", "cold"),
    "new": ("wall", "cold"),
    "same": ("wall", "warm"),
    "device": ("device", "cold"),
}
# (keys per step, stages, prefetch). Fewer keys and one stage for their shorter machine code, which
# a cold call has to fetch: 488 instructions for (64, 1, False), 735 for (128, 2, True) at D = 64.
TILES = {
    64: [(64, 3, True), (64, 3, False), (64, 1, False), (32, 3, True), (128, 2, True)],
    128: [(64, 3, True), (64, 3, False), (64, 2, True), (64, 1, False), (32, 3, True)],
}


def fresh() -> Any:
    """Import the package anew: a tile table, plans and kernels of its own."""
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]
    return importlib.import_module(PACKAGE)


def held_to(row: Any, causal: bool) -> Callable[..., Any]:
    """Our attention with a table of one row; None: with its own table."""
    attention: Callable[..., Any] = fresh().attention
    if row is not None:
        sys.modules[f"{PACKAGE}.configs"].select = lambda *_: row  # type: ignore[attr-defined]
    importlib.import_module(f"{PACKAGE}.forward")  # imported at the first launch: of this copy
    importlib.import_module(f"{PACKAGE}.repeated_launch")
    importlib.import_module(f"{PACKAGE}.forward_hopper_solo")
    return lambda q, k, v: attention(q, k, v, causal=causal)


def variants(shape: Shape) -> Iterator[tuple[str, Any]]:
    """Return (name, row) of every choice; the table's own has no row."""
    from flashcore_kernels.configs import ANY, Row, TileConfig
    from flashcore_kernels.forward_hopper import HopperConfig

    yield "the table's", None
    for keys, stages, prefetch in TILES[shape.headdim]:
        tile = TileConfig(64, keys, 4, stages, prefetch=prefetch)
        name = f"plain 64x{keys} s{stages}{' prefetch' if prefetch else ''}"
        yield name, Row(shape.causal, ANY, ANY, tile)
    keys = 128 if shape.headdim == 64 else 64
    solo = HopperConfig("solo", 1, keys, 1 if shape.seqlen <= keys else 2)
    yield solo.name, Row(shape.causal, ANY, ANY, tile, solo)


def subjects(shape: Shape, bench: Bench) -> Callables:
    """SDPA, the least that a call costs, and every variant that is right."""
    inputs = tensors(shape, bench.device)
    found: Callables = {SDPA: (torchs(shape), inputs), NOTHING: (lambda q, k, v: q, inputs)}
    if bench.device == "cuda":
        from empty_kernel import empty_call

        found[EMPTY] = (empty_call(inputs[0]), inputs)
    ours = {name: held_to(row, shape.causal) for name, row in variants(shape)}
    right = {n: (call, inputs) for n, call in ours.items() if is_right(shape, n, call, inputs)}
    return found | right


def is_right(shape: Shape, name: str, call: Callable[..., Any], inputs: tuple[Any, ...]) -> bool:
    """Say whether the callable computes attention; one that doesn't must not cost the others."""
    expected = torchs(shape)(*(tensor.double() for tensor in inputs))
    try:
        error = float((call(*inputs).double() - expected).norm() / expected.norm())
    except Exception as problem:  # a candidate may not compile here
        print(f"left out: {name}: {type(problem).__name__}: {str(problem)[:200]}", flush=True)
        return False
    if not error < MAX_ERROR:
        print(f"left out: {name}: rel-RMSE {error}, expected below {MAX_ERROR}", flush=True)
    return error < MAX_ERROR


def measured(shape: Shape, bench: Bench, modes: list[str]) -> Iterator[dict[str, Any]]:
    """Measure one shape in the modes; print and return a line per callable."""
    calls = subjects(shape, bench)
    beside = {name: calls[name] for name in BESIDE if name in calls}
    for mode in modes:
        groups = [calls]
        if mode == "cold":
            groups = [beside | {name: call} for name, call in calls.items() if name not in beside]
        if mode == "device":  # a graph of no kernel has no time
            groups = [{name: call for name, call in calls.items() if name != NOTHING}]
        for group in groups:
            yield from compared(shape, bench, mode, group)


def compared(shape: Shape, bench: Bench, mode: str, group: Callables) -> Iterator[dict[str, Any]]:
    """Compare callables with SDPA, interleaved."""
    from pytest_kernelperf.analysis import compare

    timer, l2 = MODES[mode]
    # A sample on the device is a graph of hundreds of calls.
    amount = bench if timer == "wall" else replace(bench, samples=6)
    found = amount.measured(f"{shape.name} {mode}", group, timer, l2)
    for one in compare(shape.name, found, SDPA).ratios:
        interval = one.speedup_interval
        size = {"ratio": one.speedup, "low": interval.low, "high": interval.high}
        print(
            f"{shape.name:22s} {mode:7s} {one.name:24s} {one.time_us:8.2f} us  "
            "sdpa's over it {ratio:.3f} [{low:.3f}, {high:.3f}]".format(**size),
            flush=True,
        )
        yield {"shape": shape.name, "mode": mode, "name": one.name, "us": one.time_us} | size


def main() -> None:
    """Measure all shapes; write the lines if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--out", type=Path, help="write the lines as JSON")
    parser.add_argument("--modes", default="cold,same,device", help="comma-separated; also: new")
    parser.add_argument("--headdim", type=int, choices=sorted(TILES), default=64)
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=50, help="per round and callable")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run")
    args = parser.parse_args()
    modes = args.modes.split(",")
    if unknown := sorted(set(modes) - set(MODES)):
        parser.error(f"unknown mode {', '.join(unknown)}: expected some of {', '.join(MODES)}")
    torch.set_grad_enabled(False)
    bench = Bench(args.device, args.rounds, args.samples)
    lines = []
    for seqlen in SEQLENS:
        shape = Shape(seqlen, 1, headdim=args.headdim, causal=args.causal)
        lines += measured(fitted(shape, args.device), bench, modes)
    if args.out:
        args.out.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
