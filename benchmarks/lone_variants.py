"""
Which kernel a lone small call should get: every choice in wall mode and on the device.

    python benchmarks/lone_variants.py [--out lone.json]     # under 40 seconds

Each variant is the whole package, imported once more under a table that names one kernel only, so
that a call goes all the way that a user's call goes; candidates called "split" (`lone_split.py`)
are bare launches. "new" calls find new tensors each time, "same" calls the same again; "device" is
the kernel alone, on rotating inputs.
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
MODES = {"new": ("wall", "cold"), "same": ("wall", "warm"), "device": ("device", "cold")}


def fresh() -> Any:
    """Import the package anew: a tile table, plans and kernels of its own."""
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]
    return importlib.import_module(PACKAGE)


def held_to(row: Any) -> Callable[..., Any]:
    """Our attention with a table of one row; None: with its own table."""
    attention: Callable[..., Any] = fresh().attention
    if row is not None:
        sys.modules[f"{PACKAGE}.configs"].select = lambda *_: row  # type: ignore[attr-defined]
    importlib.import_module(f"{PACKAGE}.forward")  # imported at the first launch: of this copy
    importlib.import_module(f"{PACKAGE}.repeated_launch")
    importlib.import_module(f"{PACKAGE}.forward_hopper_solo")
    return lambda q, k, v: attention(q, k, v)


def variants(seqlen: int) -> Iterator[tuple[str, Any]]:
    """Return (name, row) of every choice."""
    from flashcore_kernels.configs import ANY, Row, TileConfig
    from flashcore_kernels.forward_hopper import HopperConfig

    tiles = [TileConfig(64, n, 4, s, prefetch=p) for n, s in ((64, 3), (128, 2)) for p in (0, 1)]
    for tile in tiles:
        name = f"plain 64x{tile.BLOCK_N}{' prefetch' if tile.prefetch else ''}"
        yield name, Row(False, ANY, ANY, tile)
    for pdl in (False, True):
        config = HopperConfig("solo", 1, 128, 1 if seqlen <= 128 else 2, pdl=pdl)
        yield config.name, Row(False, ANY, ANY, tiles[0], config)


def subjects(shape: Shape, bench: Bench) -> Callables:
    """Every variant, the table's own choice, SDPA, and the least that a call costs."""
    inputs = tensors(shape, bench.device)
    found: Callables = {SDPA: (torchs(shape), inputs), NOTHING: (lambda q, k, v: q, inputs)}
    if bench.device == "cuda":
        from empty_kernel import empty_call

        found[EMPTY] = (empty_call(inputs[0]), inputs)
        from lone_split import split_call, splits

        for split in splits(shape.seqlen):
            found[split.name] = (split_call(split, inputs[0]), inputs)
    for name, row in [("the table's", None), *variants(shape.seqlen)]:
        found[name] = (held_to(row), inputs)
    return {n: c for n, c in found.items() if n in (NOTHING, EMPTY) or is_right(n, *c)}


def is_right(name: str, call: Callable[..., Any], inputs: tuple[Any, ...]) -> bool:
    """Say whether the callable computes attention; one that doesn't must not cost the others."""
    expected = torch.nn.functional.scaled_dot_product_attention(*(x.double() for x in inputs))
    try:
        error = float((call(*inputs).double() - expected).norm() / expected.norm())
    except Exception as problem:  # a candidate may not compile here
        print(f"left out: {name}: {type(problem).__name__}: {str(problem)[:200]}", flush=True)
        return False
    if not error < MAX_ERROR:
        print(f"left out: {name}: rel-RMSE {error}, expected below {MAX_ERROR}", flush=True)
    return error < MAX_ERROR


def measured(shape: Shape, bench: Bench) -> Iterator[dict[str, Any]]:
    """Measure one shape in every mode; print and return a line per callable."""
    from pytest_kernelperf.analysis import compare

    calls = subjects(shape, bench)
    for mode, (timer, l2) in MODES.items():
        taken = {n: c for n, c in calls.items() if mode != "device" or n != NOTHING}
        # A sample on the device is a graph of hundreds of calls.
        amount = bench if timer == "wall" else replace(bench, samples=6)
        found = amount.measured(f"{shape.name} {mode}", taken, timer, l2)
        for one in compare(shape.name, found, SDPA).ratios:
            interval = one.speedup_interval
            size = (one.speedup, interval.low, interval.high)
            print(
                f"{shape.name:14s} {mode:7s} {one.name:24s} {one.time_us:8.2f} us  "
                f"sdpa's over it {size[0]:.3f} [{size[1]:.3f}, {size[2]:.3f}]",
                flush=True,
            )
            yield {"shape": shape.name, "mode": mode, "name": one.name, "us": one.time_us} | dict(
                zip(("ratio", "low", "high"), size, strict=True)
            )


def main() -> None:
    """Measure all shapes; write the lines if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--out", type=Path, help="write the lines as JSON")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--samples", type=int, default=50, help="per round and callable")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    bench = Bench(args.device, args.rounds, args.samples)
    lines = [
        line
        for seqlen in SEQLENS
        for line in measured(fitted(Shape(seqlen, 1), args.device), bench)
    ]
    if args.out:
        args.out.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
