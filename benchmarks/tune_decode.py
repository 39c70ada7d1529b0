"""
Measure the neighbours of the chosen plan for decoding on a key/value cache, on a GPU.

One new token per sequence is appended and attended to; `attention_table.py --slice decode` says how
that compares. Here every callable sits in a CUDA graph of several calls over rotating caches (five
times the L2 together), replayed with idle gaps, all plans of a shape interleaved. The share is the
cache's bytes over the median time, relative to a device-to-device copy timed the same way.

    python benchmarks/tune_decode.py [--heads 32:8:128,8:2:64] [--out decode.json]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from decode_lines import Decode
from paced_graph import calls_per_sample, capture, interleaved
from triton.runtime.errors import OutOfResources

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flashcore_kernels.decode_launch import launch_decode
from flashcore_kernels.decode_plan import DecodePlan, plan_decode

REPLAYS = 13
ROTATION_BYTES = 256 * 2**20  # five times the L2 of an H100
SIZES = [(1, 65536), (1, 16384), (8, 4096), (64, 1024), (64, 8192)]  # batch, cache
TILES = [(64, 2, 4), (64, 3, 4), (64, 4, 4), (128, 2, 4), (128, 3, 4), (128, 2, 8), (128, 3, 8)]
ERROR_LIMIT = 1e-3
SHOWN = 6
Call = Callable[[], object]


class Inputs:
    """Rotating sets of tensors of one shape."""

    def __init__(self, shape: Decode) -> None:
        sets = max(1, min(16, math.ceil(ROTATION_BYTES / shape.cache_bytes)))
        cache = (shape.batch, shape.nheads_k, shape.cache, shape.headdim)
        new = (shape.batch, shape.nheads_k, 1, shape.headdim)
        self.caches = [(random(*cache), random(*cache)) for _ in range(sets)]
        self.q = random(shape.batch, shape.nheads, 1, shape.headdim)
        self.k, self.v = random(*new), random(*new)
        self.lens = torch.full((shape.batch,), shape.cache - 1, dtype=torch.int32, device="cuda")
        self.out = torch.empty_like(self.q)

    def planned(self, plan: DecodePlan) -> list[Call]:
        """Return one launch with a given plan per set."""
        scale = self.q.shape[3] ** -0.5

        def call(kc: torch.Tensor, vc: torch.Tensor) -> None:
            launch_decode(
                self.q, kc, vc, self.lens, self.k, self.v, self.out, None, scale, True, plan
            )

        return [lambda kc=kc, vc=vc: call(kc, vc) for kc, vc in self.caches]

    def error(self, call: Call) -> float:
        """Return the RMS distance of a call on the first set to float32 math, for one sequence."""
        self.out.fill_(float("nan"))
        call()
        q, kc, vc = (t[:1].float() for t in (self.q, *self.caches[0]))
        group = q.shape[1] // kc.shape[1]
        scores = q.unflatten(1, (-1, group)).squeeze(3) @ kc.transpose(2, 3) * q.shape[3] ** -0.5
        exact = (torch.softmax(scores, dim=-1) @ vc).flatten(1, 2)
        return float((self.out[0, :, 0] - exact[0]).norm() / exact.norm())


def random(*shape: int) -> torch.Tensor:
    """Draw fp16 numbers on the GPU."""
    return torch.randn(shape, dtype=torch.float16, device="cuda")


def measure(candidates: dict[str, list[Call]], expected_us: float) -> dict[str, float]:
    """Return each candidate's median time per call, in microseconds."""
    count = calls_per_sample(expected_us)
    graphs = {name: capture(calls, count) for name, calls in candidates.items()}
    taken = interleaved(graphs, REPLAYS)
    return {name: statistics.median(values) for name, values in taken.items() if values}


def copy_bandwidth() -> float:
    """Return the bandwidth of a 1 GiB copy, bytes per microsecond, read and written counted."""
    source = random(2**29)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)

    copy()
    return 2 * source.numel() * 2 / measure({"copy": [copy]}, 700.0)["copy"]


def plans(shape: Decode) -> dict[str, DecodePlan]:
    """Return the chosen plan and its neighbours, by a name that says what differs."""
    num_sms = torch.cuda.get_device_properties(0).multi_processor_count
    chosen = plan_decode(
        batch=shape.batch,
        nheads_k=shape.nheads_k,
        group=shape.nheads // shape.nheads_k,
        seqlen_q=1,
        capacity=shape.cache,
        headdim=shape.headdim,
        num_sms=num_sms,
        dependent_launch=True,
    )
    found = {f"chosen s{chosen.num_splits} n{chosen.block_n} st{chosen.num_stages}": chosen}
    for factor in (0.5, 1.5, 2, 4):
        splits = max(1, min(256, round(chosen.num_splits * factor)))
        found[f"splits {splits}"] = replace(chosen, num_splits=splits)
    found["no overlap"] = replace(chosen, dependent_launch=False)
    for block_n, stages, warps in TILES:
        name = f"n{block_n} st{stages} w{warps}"
        found[name] = replace(chosen, block_n=block_n, num_stages=stages, num_warps=warps)
        found[f"{name} splits x2"] = replace(
            found[name], num_splits=min(256, chosen.num_splits * 2)
        )
    return found


def right(inputs: Inputs, shape: Decode) -> dict[str, list[Call]]:
    """Run every plan once on every set; return those that fit and whose result is right."""
    good = {}
    for name, plan in plans(shape).items():
        calls = inputs.planned(plan)
        try:
            wrong = inputs.error(calls[0])
        except OutOfResources as problem:
            print(f"# {name}: {str(problem).splitlines()[0][:90]}")
            continue
        if not wrong <= ERROR_LIMIT:
            print(f"BAD {name}: relative error {wrong:.1e}")
            continue
        for call in calls:
            call()
        good[name] = calls
    return good


def tune(shape: Decode, bandwidth: float) -> dict[str, Any]:
    """Time every plan at one shape, and print the best."""
    floor_us = shape.cache_bytes / bandwidth
    times = measure(right(Inputs(shape), shape), floor_us + 5.0)
    chosen = next(iter(times))
    print(f"{shape.name} floor {floor_us:.1f} us; {chosen}: {times[chosen]:.1f}")
    for name, us in sorted(times.items(), key=lambda item: item[1])[:SHOWN]:
        print(f"    {us:8.2f} us  {floor_us / us:6.1%}  {name}", flush=True)
    return {"shape": asdict(shape), "times_us": times}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--heads", default="32:8:128,8:2:64", help="nheads:nheads_k:headdim,...")
    parser.add_argument("--budget-seconds", type=float, default=90.0)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    return parser.parse_args()


def main() -> None:
    """Print the best plans of every shape, and write all if asked."""
    arguments = parse_arguments()
    deadline_s = time.monotonic() + arguments.budget_seconds
    heads = [tuple(map(int, item.split(":"))) for item in arguments.heads.split(",")]
    torch.manual_seed(0)
    bandwidth = copy_bandwidth()
    name = torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}: copy {bandwidth / 1e3:.0f} GB/s")
    rows = []
    for shape in (Decode(*size, *three) for three in heads for size in SIZES):
        if time.monotonic() > deadline_s:
            print("# out of time: shapes left out")
            break
        rows.append(tune(shape, bandwidth))
    if arguments.out:
        document = {"copy_gb_per_s": bandwidth / 1e3, "rows": rows}
        arguments.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
