"""
Time decoding on a key/value cache against the card's copy bandwidth and torch's attention.

One new token per sequence is appended and attended to. Every callable sits in a CUDA graph of
several calls over rotating caches (more than twice the L2 together), replayed with idle gaps, all
callables of a shape interleaved; the figure is the median over replays, microseconds per call. The
share is the cache's bytes over that time, relative to a device-to-device copy timed the same way.

    python benchmarks/attention_decode.py [--heads 32:8:128,8:2:64] [--out decode.json]
    python benchmarks/attention_decode.py --sweep      # other plans for a few shapes
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from triton.runtime.errors import OutOfResources

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flashcore_kernels import attention_with_kv_cache
from flashcore_kernels.decode_launch import launch_decode
from flashcore_kernels.decode_plan import DecodePlan, plan_decode

GAP_S = 0.002
REPLAYS = 15
ROTATION_BYTES = 256 * 2**20  # five times the L2 of an H100
SAMPLE_US = 400.0  # what a graph should last, so that event overhead (about 2 us) does not matter
SLEEP_CYCLES = 1_000_000  # half a millisecond in which the host gets the graph into the queue
Call = Callable[[], object]
PEERS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


@dataclass(frozen=True)
class Shape:
    """One row of the table; `cache` counts the new token."""

    batch: int
    cache: int
    nheads: int
    nheads_k: int
    headdim: int

    @property
    def cache_bytes(self) -> int:
        """Bytes of the valid keys and values, fp16: what must be read once."""
        return self.batch * self.nheads_k * self.cache * self.headdim * 2 * 2


@dataclass(frozen=True)
class Row:
    """What came of one shape; times in microseconds per call."""

    shape: Shape
    cache_mb: float
    ours_us: float
    gb_per_s: float
    share_of_copy: float
    peers_us: dict[str, float]
    relative_error: float


class Inputs:
    """Rotating sets of tensors of one shape."""

    def __init__(self, shape: Shape) -> None:
        sets = max(1, min(16, math.ceil(ROTATION_BYTES / shape.cache_bytes)))
        cache = (shape.batch, shape.nheads_k, shape.cache, shape.headdim)
        new = (shape.batch, shape.nheads_k, 1, shape.headdim)
        self.k_caches = [random(*cache) for _ in range(sets)]
        self.v_caches = [random(*cache) for _ in range(sets)]
        self.q = random(shape.batch, shape.nheads, 1, shape.headdim)
        self.k, self.v = random(*new), random(*new)
        self.lens = torch.full((shape.batch,), shape.cache - 1, dtype=torch.int32, device="cuda")
        self.out = torch.empty_like(self.q)

    def ours(self) -> list[Call]:
        """Return one call of the public function per set."""
        return [
            lambda kc=kc, vc=vc: attention_with_kv_cache(
                self.q, kc, vc, self.lens, self.k, self.v, out=self.out
            )
            for kc, vc in self.sets()
        ]

    def planned(self, plan: DecodePlan) -> list[Call]:
        """Return one launch with a given plan per set."""
        scale = self.q.shape[3] ** -0.5
        return [
            lambda kc=kc, vc=vc: launch_decode(
                self.q, kc, vc, self.lens, self.k, self.v, self.out, None, scale, True, plan
            )
            for kc, vc in self.sets()
        ]

    def torchs(self, backend: SDPBackend) -> list[Call]:
        """Return one call of torch's attention per set; its cache is full, so the slice is all."""

        def call(kc: torch.Tensor, vc: torch.Tensor) -> torch.Tensor:
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(self.q, kc, vc, enable_gqa=True)

        return [lambda kc=kc, vc=vc: call(kc, vc) for kc, vc in self.sets()]

    def sets(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Iterate over the pairs of caches."""
        return iter(zip(self.k_caches, self.v_caches, strict=True))


def random(*shape: int) -> torch.Tensor:
    """Draw fp16 numbers on the GPU."""
    return torch.randn(shape, dtype=torch.float16, device="cuda")


@dataclass
class Graph:
    """Several calls captured as one, and what its replays took."""

    graph: torch.cuda.CUDAGraph
    calls: int
    samples_us: list[float]

    def replay(self) -> None:
        """Time one replay behind a short sleep, so that the queue is full when it starts."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        time.sleep(GAP_S)
        torch.cuda._sleep(SLEEP_CYCLES)
        start.record()
        self.graph.replay()
        end.record()
        end.synchronize()
        self.samples_us.append(start.elapsed_time(end) * 1e3 / self.calls)


def capture(calls: list[Call], expected_us: float) -> Graph:
    """Capture as many calls as fill a sample, rotating; at least one."""
    for call in calls:
        call()
    torch.cuda.synchronize()
    count = max(1, min(100, math.ceil(SAMPLE_US / expected_us)))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(count):
            calls[i % len(calls)]()
    return Graph(graph, count, [])


def measure(candidates: dict[str, list[Call]], expected_us: float) -> dict[str, float]:
    """Return each candidate's median time per call; what can't be captured is left out."""
    graphs = {}
    for name, calls in candidates.items():
        try:
            graphs[name] = capture(calls, expected_us)
        except (RuntimeError, OutOfResources) as error:  # a backend or plan that can't do it
            print(f"# {name}: {str(error).splitlines()[0][:90]}")
            torch.cuda.synchronize()
    for _ in range(REPLAYS):
        for graph in graphs.values():
            graph.replay()
    return {name: statistics.median(graph.samples_us[2:]) for name, graph in graphs.items()}


def copy_bandwidth() -> float:
    """Return the bandwidth of a 1 GiB copy, bytes per microsecond, read and written counted."""
    source = random(2**29)
    target = torch.empty_like(source)
    took_us = measure({"copy": [lambda: target.copy_(source)]}, 700.0)["copy"]
    return 2 * source.numel() * 2 / took_us


def run_shape(shape: Shape, bandwidth: float) -> Row:
    """Measure one shape against its peers, and check the result against torch's math."""
    inputs = Inputs(shape)
    candidates = {"ours": inputs.ours()}
    candidates |= {name: inputs.torchs(backend) for name, backend in PEERS.items()}
    times = measure(candidates, shape.cache_bytes / bandwidth + 5.0)
    ours_us = times.pop("ours")
    rate = shape.cache_bytes / ours_us
    return Row(
        shape=shape,
        cache_mb=shape.cache_bytes / 1e6,
        ours_us=ours_us,
        gb_per_s=rate / 1e3,
        share_of_copy=rate / bandwidth,
        peers_us=times,
        relative_error=relative_error(inputs),
    )


def relative_error(inputs: Inputs) -> float:
    """Return the RMS distance to float32 math for one sequence, relative to its size."""
    inputs.ours()[0]()
    q, kc, vc = (t[:1].float() for t in (inputs.q, inputs.k_caches[0], inputs.v_caches[0]))
    group = q.shape[1] // kc.shape[1]
    scores = q.unflatten(1, (-1, group)).squeeze(3) @ kc.transpose(2, 3) * q.shape[3] ** -0.5
    exact = (torch.softmax(scores, dim=-1) @ vc).flatten(1, 2)
    return float((inputs.out[0, :, 0] - exact[0]).norm() / exact.norm())


def print_row(row: Row) -> None:
    """Print one line of the table."""
    s = row.shape
    peers = "  ".join(
        f"{name} {us:8.1f} ({us / row.ours_us:.2f}x)" for name, us in row.peers_us.items()
    )
    print(
        f"B={s.batch:<3d} cache={s.cache:<6d} H={s.nheads}/{s.nheads_k} D={s.headdim:<4d}"
        f"{row.cache_mb:9.1f} MB {row.ours_us:8.1f} us {row.gb_per_s:6.0f} GB/s "
        f"{row.share_of_copy:6.1%} of copy  err {row.relative_error:.1e}  {peers}",
        flush=True,
    )


def plans(shape: Shape) -> dict[str, DecodePlan]:
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


TILES = [(64, 2, 4), (64, 3, 4), (64, 4, 4), (128, 2, 4), (128, 3, 4), (128, 2, 8), (128, 3, 8)]
SWEEP = [(1, 65536), (1, 16384), (8, 4096), (64, 1024), (64, 8192)]


def sweep(heads: list[tuple[int, int, int]], bandwidth: float, budget_s: float) -> list[dict]:
    """Time the neighbours of the chosen plan at a few shapes; print the best six of each."""
    deadline = time.monotonic() + budget_s
    found = []
    for (batch, cache), (nheads, nheads_k, headdim) in ((s, h) for h in heads for s in SWEEP):
        if time.monotonic() > deadline:
            print("# out of time")
            break
        shape = Shape(batch, cache, nheads, nheads_k, headdim)
        inputs = Inputs(shape)
        candidates = {name: inputs.planned(plan) for name, plan in plans(shape).items()}
        times = measure(candidates, shape.cache_bytes / bandwidth + 5.0)
        chosen = next(iter(times))
        print(
            f"{shape} floor {shape.cache_bytes / bandwidth:.1f} us; {chosen}: {times[chosen]:.1f}"
        )
        for name, us in sorted(times.items(), key=lambda item: item[1])[:6]:
            print(
                f"    {us:8.2f} us  {shape.cache_bytes / us / bandwidth:6.1%}  {name}", flush=True
            )
        found.append({"shape": asdict(shape), "times_us": times})
    return found


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--heads", default="32:8:128,8:2:64", help="nheads:nheads_k:headdim,...")
    parser.add_argument("--batches", default="1,8,64")
    parser.add_argument("--caches", default="1024,4096,16384,65536")
    parser.add_argument("--sweep", action="store_true", help="time other plans instead")
    parser.add_argument("--budget-seconds", type=float, default=90.0)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    return parser.parse_args()


def main() -> None:
    """Print the table, and write it if asked."""
    arguments = parse_arguments()
    heads = [tuple(map(int, item.split(":"))) for item in arguments.heads.split(",")]
    torch.manual_seed(0)
    bandwidth = copy_bandwidth()
    name = torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}: copy {bandwidth / 1e3:.0f} GB/s")
    if arguments.sweep:
        result = sweep(heads, bandwidth, arguments.budget_seconds)
    else:
        deadline = time.monotonic() + arguments.budget_seconds
        result = []
        for nheads, nheads_k, headdim in heads:
            for batch in map(int, arguments.batches.split(",")):
                for cache in map(int, arguments.caches.split(",")):
                    if time.monotonic() > deadline:
                        print("# out of time")
                        continue
                    row = run_shape(Shape(batch, cache, nheads, nheads_k, headdim), bandwidth)
                    print_row(row)
                    result.append(asdict(row))
    if arguments.out:
        document = {"copy_gb_per_s": bandwidth / 1e3, "rows": result}
        arguments.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
