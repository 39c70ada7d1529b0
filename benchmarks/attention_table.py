"""
The table of the attention kernels beside everything that PyTorch users can pick.

    python benchmarks/attention_table.py --out table.json
    python benchmarks/attention_report.py table.json > docs/attention-table.md

It takes about 150 seconds with flash-attn-4; `--slice ragged,lone` measures those alone, and
replaces them in the file where it exists.

Each line is one comparison by this project's own measurement: callables interleaved, paced, on
rotating inputs behind a blocker, judged by the ratio of their medians round by round. A ratio is
the other's time over ours, with its 95 % interval. Peers are SDPA's default and its backends, of
which the fastest has a line; flash-attn-4 (in its own layout) has one where it is installed, with a
limit of its own; where it is not, its figures from another card of this model stand beside ours.
"floor" is the largest of bytes over the copy bandwidth, products over the matrix rate, both
measured here, and exponentials over the special-function units' rate. A "?" behind a verdict: the
interval holds the limit.

Without a GPU, `--device cpu` goes through all of it on small tensors and the host's clock.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from attention_lines import OURS, Bench, Line, ceilings, show
from attention_peers import (
    FA4,
    FA4_ELSEWHERE_US,
    Callables,
    Shape,
    fitted,
    floor_us,
    long,
    nine,
    ours,
    peers,
    tensors,
    torchs,
)
from attention_report import MEAN_MUST, geometric_mean, least_by_shape
from decode_lines import decode
from lone_lines import lone

# Of flash-attn-4's time at 16384 tokens, measured here or elsewhere.
LONG_MUST_FA4 = 0.92
RAGGED = (1, 17, 100, 127, 129, 257, 384, 500, 513, 1000)
Lines = Iterator[Callable[[], list[Line]]]


# --- slices: each yields what measures one line, so that one that fails stands alone -------------


def beside_peers(
    bench: Bench, label: str, shapes: list[Shape], must: float, must_fa4: float | None
) -> Lines:
    """Ours against SDPA's best backend and, where it is installed, against flash-attn-4."""

    def measure(shape: Shape) -> list[Line]:
        inputs = tensors(shape, bench.device)
        others = peers(shape, inputs)
        subjects = {OURS: (ours(shape), inputs), **others}
        musts = [([name for name in others if name != FA4], must)]
        musts += [([FA4], must_fa4)] if FA4 in others else []
        floor = floor_us(shape, bench.limits)
        return bench.lines(label, shape.name, subjects, musts, floor_us=floor)

    for shape in shapes:
        yield partial(measure, fitted(shape, bench.device))


def long_rows(bench: Bench, label: str, headdim: int) -> Lines:
    """Ours at 16384 tokens; beside flash-attn-4's figures elsewhere where it is not installed."""
    shapes = long(headdim)
    lines = beside_peers(bench, label, shapes, 1.0, LONG_MUST_FA4)
    for shape, measure in zip(shapes, lines, strict=True):
        yield partial(_beside_fa4, measure, shape)


def _beside_fa4(measure: Callable[[], list[Line]], shape: Shape) -> list[Line]:
    lines = measure()
    elsewhere_us = FA4_ELSEWHERE_US.get((shape.seqlen, shape.headdim, shape.causal))
    if elsewhere_us is None or len(lines) > 1:
        return lines
    (line,) = lines
    times = {OURS: line.ours_us, "FA4 elsewhere": elsewhere_us}
    about = (line.slice, line.shape, "FA4 elsewhere", line.ours_us, elsewhere_us / line.ours_us)
    return [line, Line(*about, None, None, LONG_MUST_FA4, times)]


def same_speed_in_bf16(bench: Bench) -> Lines:
    """Ours in bfloat16 against ours in float16."""

    def measure(shape: Shape) -> list[Line]:
        half = replace(shape, dtype="float16")
        subjects: Callables = {
            OURS: (ours(shape), tensors(shape, bench.device)),
            "ours in fp16": (ours(half), tensors(half, bench.device)),
        }
        floor = floor_us(shape, bench.limits)
        return [bench.line("bf16", shape.name, subjects, must=1 / 1.02, floor_us=floor)]

    for shape in nine("bfloat16"):
        yield partial(measure, fitted(shape, bench.device))


def ragged(bench: Bench) -> Lines:
    """Odd lengths against the next larger multiple of 64."""

    def measure(odd: Shape, even: Shape) -> list[Line]:
        subjects: Callables = {
            OURS: (ours(odd), tensors(odd, bench.device)),
            f"ours at {even.seqlen}": (ours(even), tensors(even, bench.device)),
        }
        floor = floor_us(odd, bench.limits)
        return [bench.line("ragged", odd.name, subjects, must=1 / 1.15, floor_us=floor)]

    for seqlen in RAGGED:
        pair = (Shape(seqlen, 16), Shape((seqlen // 64 + 1) * 64, 16))
        yield partial(measure, *(fitted(shape, bench.device) for shape in pair))


def grouped(bench: Bench) -> Lines:
    """8 query heads on 1, 2 and 4 key heads, against as many key heads as queries'."""

    def measure(shape: Shape) -> list[Line]:
        full = replace(shape, heads_k=0)
        inputs = tensors(shape, bench.device)
        subjects: Callables = {
            OURS: (ours(shape), inputs),
            "ungrouped": (ours(full), tensors(full, bench.device)),
            "sdpa": (torchs(shape), inputs),
        }
        floor = floor_us(shape, bench.limits)
        about = {"must": 1.0, "against": "ungrouped", "floor_us": floor}
        return [bench.line("grouped", shape.name, subjects, **about)]

    for seqlen, causal in ((512, False), (512, True), (2048, False)):
        for heads_k in (1, 2, 4):
            shape = Shape(seqlen, 16, causal=causal, heads_k=heads_k)
            yield partial(measure, fitted(shape, bench.device))


SLICES: dict[str, Callable[[Bench], Lines]] = {
    "nine": lambda bench: beside_peers(bench, "nine", nine(), 1.05, 1.05),
    "bf16": same_speed_in_bf16,
    "causal": lambda bench: beside_peers(bench, "causal", nine(causal=True), 1.05, None),
    "long": lambda bench: long_rows(bench, "long", 64),
    "d128": lambda bench: long_rows(bench, "d128", 128),
    "ragged": ragged,
    "grouped": grouped,
    "lone": lone,
    "decode": decode,
}


# --- running -------------------------------------------------------------------------------------


def run(name: str, bench: Bench, deadline_s: float) -> dict[str, Any]:
    """Measure one slice and print each line as it comes; name what failed or found no time."""
    began = time.monotonic()
    lines: list[Line] = []
    failed: list[str] = []
    for measure in SLICES[name](bench):
        if time.monotonic() > deadline_s:
            failed.append("out of time: lines left out")
            break
        try:
            found = measure()
        except Exception as problem:  # one shape that can't be measured must not cost the others
            failed.append(f"{type(problem).__name__}: {str(problem)[:300]}")
            print(f"{name}: {failed[-1]}", file=sys.stderr, flush=True)
            continue
        for line in found:
            show(line)
        lines += found
    took_s = time.monotonic() - began
    print(f"{name}: {took_s:.1f} s", flush=True)
    return {
        "slice": name,
        "seconds": took_s,
        "summary": summary(name, lines),
        "failed": failed,
        "lines": [_record(line) for line in lines],
    }


def _record(line: Line) -> dict[str, Any]:
    found = {"verdict": line.verdict, "floor_share": line.floor_share, "bound_by": line.bound_by}
    return asdict(line) | found


def summary(name: str, lines: list[Line]) -> dict[str, Any]:
    """Of what was measured side by side: mean and least of the shapes' least ratios, and misses."""
    ratios = list(least_by_shape([asdict(line) for line in lines]).values())
    if not ratios:
        return {}
    mean, _, _ = geometric_mean(ratios)
    missed = [f"{line.shape} against {line.against}" for line in lines if "MISSED" in line.verdict]
    if mean < MEAN_MUST.get(name, 0.0):
        missed.append(f"geometric mean {mean:.3f}, must {MEAN_MUST[name]}")
    return {"mean": mean, "least": min(line["ratio"] for line in ratios), "missed": missed}


def add(file: Path, document: dict[str, Any]) -> None:
    """Put a slice into the file, in the place of an older one."""
    slices = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    slices[document["slice"]] = document
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(slices, indent=1) + "\n", encoding="utf-8")


def about_this_machine(device: str) -> dict[str, str]:
    """Card and versions."""
    import torch
    import triton

    versions = {"torch": torch.__version__, "triton": triton.__version__, "device": device}
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        versions |= {"card": card.name, "uuid": str(getattr(card, "uuid", ""))}
    return versions


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--slice", default=",".join(SLICES), help="comma-separated; default: all")
    parser.add_argument("--out", type=Path, help="JSON file, written anew or added to")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=4, help="per round and callable")
    parser.add_argument("--budget-seconds", type=float, default=240.0)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run")
    args = parser.parse_args()
    args.slices = args.slice.split(",")
    if unknown := sorted(set(args.slices) - set(SLICES)):
        parser.error(f"unknown slice {', '.join(unknown)}: expected some of {', '.join(SLICES)}")
    return args


def main() -> None:
    """Measure the slices, print the table, write it as JSON."""
    args = parse_arguments()
    deadline_s = time.monotonic() + args.budget_seconds
    import torch

    torch.set_grad_enabled(False)
    if args.device == "cpu":
        torch.set_num_threads(1)
    bench = Bench(args.device, args.rounds, args.samples)
    bench = replace(bench, limits=ceilings(bench))
    assert bench.limits is not None
    machine = about_this_machine(args.device)
    print(f"{machine}, ceilings per us: {asdict(bench.limits)}", flush=True)
    for name in args.slices:
        found = run(name, bench, deadline_s)
        print(f"{name}: {found['summary']}", flush=True)
        if args.out:
            add(args.out, {"machine": machine, "ceilings": asdict(bench.limits), **found})


if __name__ == "__main__":
    main()
