"""
Measure every candidate tile of the attention kernels against SDPA's backends, on an H100.

    python benchmarks/tune_attention.py --shapes nine --budget-seconds 150 --out tune.json

Candidates are compiled in parallel processes first. A worker process then checks each candidate
against float32 attention and times those that are right; a candidate that hangs costs its own
time-out, because the parent kills the worker and starts another one behind it. Times are medians
over paced, interleaved replays of a CUDA graph whose calls rotate over more input than the L2 cache
holds; a sample counts only if the whole graph was enqueued while the stream was still blocked.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

ROTATED_BYTES = 100 << 20
SAMPLE_US = 400.0
GAP_S = 0.002
BLOCK_CYCLES = 2_000_000
RMSE_LIMIT = 5e-4
STALL_S = 15.0
START_S = 60.0


@dataclass(frozen=True)
class Shape:
    """One attention problem: [batch, heads, seqlen, headdim], float16."""

    seqlen: int
    batch: int
    heads: int
    headdim: int
    causal: bool = False

    @property
    def name(self) -> str:
        mask = " causal" if self.causal else ""
        return f"{self.seqlen}x{self.batch} H{self.heads} D{self.headdim}{mask}"

    @property
    def flops(self) -> float:
        pairs = self.seqlen**2 * (0.5 if self.causal else 1.0)
        return 4.0 * self.batch * self.heads * self.headdim * pairs


SHAPES = {
    "nine": [Shape(s, b, 8, 64) for s in (128, 256, 512) for b in (8, 16, 32)],
    "causal": [Shape(s, b, 8, 64, True) for s in (128, 256, 512) for b in (8, 16, 32)],
    "long": [Shape(s, 16384 // s, 32, 64, c) for c in (False, True) for s in (1024, 4096, 16384)],
    "d128": [
        Shape(s, 16384 // s, 16, 128, c) for c in (False, True) for s in (512, 1024, 4096, 16384)
    ],
    # Where the table's rows meet.
    "between": [
        Shape(s, 16384 // s, 2048 // d, d, c)
        for c in (False, True)
        for d in (64, 128)
        for s in (2048, 8192)
    ],
}

Candidate = Callable[[Any, Any, Any, Any], None]


def candidates(shape: Shape, only: str) -> dict[str, Candidate]:
    """Every kernel that makes sense at this shape: name -> f(q, k, v, out)."""
    from flashcore_kernels.forward_hopper import HOPPER_CONFIGS, hopper_forward

    scale = shape.headdim**-0.5
    found: dict[str, Candidate] = {}

    def add(name: str, forward: Any, config: Any) -> None:
        def call(q: Any, k: Any, v: Any, out: Any) -> None:
            mask = {"scale": scale, "causal": shape.causal, "causal_offset": 0}
            forward(q, k, v, out, None, **mask, config=config)

        if only in name:
            found[name] = call

    for config in HOPPER_CONFIGS[shape.headdim]:
        if not worth_a_try(config, shape):
            continue
        add(config.name, hopper_forward, config)
    for name, config, forward in plain_candidates(shape):
        add(name, forward, config)
    return found


def worth_a_try(config: Any, shape: Shape) -> bool:
    """Whether earlier runs and arithmetic leave this tile a chance at this shape."""
    if config.block_m > shape.seqlen or config.block_n > shape.seqlen:
        return False  # mostly padding
    if config.block_m > 64 and config.block_n == 128 and shape.seqlen < 512:
        return False  # 20 to 60 % behind at S = 256
    if config.persistent and shape.seqlen == 128:
        return False  # one turn
    return not (config.pdl and shape.seqlen > 512)


def plain_candidates(shape: Shape) -> list[tuple[str, Any, Any]]:
    """The plain Triton kernel, where it is there."""
    try:
        from flashcore_kernels.configs import TileConfig
        from flashcore_kernels.forward import plain_forward
    except ImportError:
        return []
    tiles = [(64, 64, 4, 3), (64, 128, 4, 2)]
    return [
        (f"plain-{m}x{n}-w{w}-s{s}", TileConfig(m, n, w, s), plain_forward)
        for m, n, w, s in tiles
        if n <= shape.seqlen
    ]


def peers(shape: Shape) -> dict[str, Candidate]:
    """SDPA's backends, each behind the same signature; the result goes where SDPA puts it."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def on(backend: Any) -> Candidate:
        def call(q: Any, k: Any, v: Any, out: Any) -> None:
            with sdpa_kernel(backend):
                torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=shape.causal)

        return call

    def default(q: Any, k: Any, v: Any, out: Any) -> None:
        torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=shape.causal)

    named = {"sdpa": default, "FLASH": on(SDPBackend.FLASH_ATTENTION)}
    named["CUDNN"] = on(SDPBackend.CUDNN_ATTENTION)
    if shape.seqlen <= 512:
        named["EFFICIENT"] = on(SDPBackend.EFFICIENT_ATTENTION)
    return named


def inputs(shape: Shape) -> list[tuple[Any, Any, Any]]:
    """Independent (q, k, v) sets, together larger than the L2 cache."""
    import torch

    size = (shape.batch, shape.heads, shape.seqlen, shape.headdim)
    set_bytes = 3 * 2 * shape.batch * shape.heads * shape.seqlen * shape.headdim
    count = max(2, -(-ROTATED_BYTES // set_bytes))
    torch.manual_seed(0)

    def random() -> Any:
        return torch.randn(size, device="cuda", dtype=torch.float16)

    return [(random(), random(), random()) for _ in range(count)]


def reference(shape: Shape, q: Any, k: Any, v: Any) -> list[tuple[int, int, Any]]:
    """(batch, head, float32 attention) of a first, a middle and the last head."""
    import torch

    picks = {(0, 0), (shape.batch // 2, shape.heads // 2), (shape.batch - 1, shape.heads - 1)}
    found = []
    for b, h in sorted(picks):
        s = (q[b, h].float() @ k[b, h].float().T) * shape.headdim**-0.5
        if shape.causal:
            s.masked_fill_(torch.ones_like(s, dtype=torch.bool).triu_(1), float("-inf"))
        found.append((b, h, torch.softmax(s, -1) @ v[b, h].float()))
    return found


def error(expected: list[tuple[int, int, Any]], out: Any) -> float:
    """The worst rel-RMSE over the reference heads; infinity for NaN or a bad row anywhere."""
    import torch

    if not bool(torch.isfinite(out).all()):
        return float("inf")
    worst = 0.0
    for b, h, want in expected:
        got = out[b, h].float()
        worst = max(worst, float((got - want).norm() / want.norm()))
        rows = (got - want).norm(dim=-1) / want.norm(dim=-1)
        if float(rows.max()) > 10 * RMSE_LIMIT:
            return float("inf")
    return worst


def capture(call: Candidate, sets: list[Any], calls: int, peer: bool) -> Any:
    """
    A CUDA graph of ``calls`` calls that rotate over the input sets.

    Ours write into memory that the allocator hands out per call, as SDPA's outputs do.
    """
    import torch

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(calls):
            q, k, v = sets[i % len(sets)]
            call(q, k, v, None if peer else torch.empty_like(q))
    return graph


def sample_us(graph: Any, calls: int) -> float | None:
    """Time per call of one blocked replay; None if the host was not ahead of the device."""
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    time.sleep(GAP_S)
    torch.cuda._sleep(BLOCK_CYCLES)
    start.record()
    graph.replay()
    end.record()
    blocked = not start.query()
    torch.cuda.synchronize()
    return start.elapsed_time(end) * 1e3 / calls if blocked else None


def calls_per_sample(call: Candidate, sets: list[Any]) -> int:
    """How many calls fill about ``SAMPLE_US``; one number for all, taken from a typical kernel."""
    graph = capture(call, sets, 4, True)
    times = [sample_us(graph, 4) for _ in range(3)]
    typical = min(t for t in times if t is not None)
    return max(2, min(200, round(SAMPLE_US / typical)))


def measure_shape(
    shape: Shape, skip: set[str], only: str, samples: int, emit: Callable[..., None]
) -> None:
    """Check, then time, everything at one shape; ``emit`` writes one progress line."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    sets = inputs(shape)
    expected = reference(shape, *sets[0])
    out = torch.empty_like(sets[0][0])
    good: dict[str, Candidate] = {}
    for name, call in candidates(shape, only).items():
        if name in skip:
            continue
        emit(kind="start", shape=shape.name, name=name)
        out.fill_(float("nan"))
        try:
            call(*sets[0], out)
            torch.cuda.synchronize()
        except Exception as problem:  # one that does not compile or launch is a result too
            why = f"{type(problem).__name__}: {problem}"[:300]
            emit(kind="failed", shape=shape.name, name=name, why=why)
            torch.cuda.synchronize()  # raises, and ends this worker, if the context is lost
            continue
        rmse = error(expected, out)
        emit(kind="checked", shape=shape.name, name=name, rmse=rmse, ok=rmse <= RMSE_LIMIT)
        if rmse <= RMSE_LIMIT:
            good[name] = call
    others = peers(shape)
    emit(kind="start", shape=shape.name, name="timing")
    for call in others.values():
        call(*sets[0], None)
    calls = calls_per_sample(others["FLASH"], sets)
    every = {**others, **good}
    graphs = {name: capture(call, sets, calls, name in others) for name, call in every.items()}
    taken: dict[str, list[float]] = {name: [] for name in graphs}
    for turn in range(samples + 1):
        emit(kind="turn", shape=shape.name)
        for name, graph in graphs.items():
            value = sample_us(graph, calls)
            if turn and value is not None:
                taken[name].append(value)
    for name, values in taken.items():
        if values:
            figures = {"us": statistics.median(values), "low": min(values), "high": max(values)}
            about = {"peer": name in others, **figures, "n": len(values), "calls": calls}
            emit(kind="time", shape=shape.name, name=name, **about)
    emit(kind="shape", shape=shape.name)


def work(args: argparse.Namespace) -> None:
    """The worker process: measure the shapes it is given, one line of JSON per event."""
    skip: dict[str, set[str]] = {}
    done: set[str] = set()
    progress = Path(args.progress)
    for line in progress.read_text().splitlines() if progress.exists() else []:
        event = json.loads(line)
        if event["kind"] == "hung" or event["kind"] == "failed":
            # what hung once would cost its time-out again at every other shape
            hung = event["kind"] == "hung"
            for name in [s.name for s in SHAPES[args.shapes]] if hung else [event["shape"]]:
                skip.setdefault(name, set()).add(event["name"])
        if event["kind"] == "shape":
            done.add(event["shape"])
    with progress.open("a") as sink:

        def emit(**event: Any) -> None:
            sink.write(json.dumps(event) + "\n")
            sink.flush()

        for shape in SHAPES[args.shapes]:
            if shape.name not in done and args.match in shape.name:
                measure_shape(shape, skip.get(shape.name, set()), args.only, args.samples, emit)


def compile_slice(args: argparse.Namespace) -> None:
    """Compile every n-th candidate into Triton's cache, through the measurement's launch path."""
    import torch

    from flashcore_kernels.forward_hopper import HOPPER_CONFIGS, launch_plan

    index, count = (int(x) for x in args.slice.split("/"))
    jobs = []
    for headdim, causal in sorted({(s.headdim, s.causal) for s in SHAPES[args.shapes]}):
        chosen = [config for config in HOPPER_CONFIGS[headdim] if args.only in config.name]
        jobs += [(config, headdim, causal) for config in chosen]
    for config, headdim, causal in jobs[index::count]:
        q = torch.empty((2, 2, 1024, headdim), device="cuda", dtype=torch.float16)
        mask = {"scale": 1.0, "causal": causal, "causal_offset": 0}
        kernel, values, constants, options, grid = launch_plan(
            *(q, q, q, torch.empty_like(q), None), **mask, config=config
        )
        try:
            kernel.warmup(*values, grid=(grid,), **constants, **options)
        except Exception as problem:
            why = f"{config.name} D{headdim}: {type(problem).__name__}: {problem}"
            print(why[:400], file=sys.stderr)


PASSED_ON = ("shapes", "only", "match", "samples", "progress")


def child(args: argparse.Namespace, *extra: str) -> subprocess.Popen[bytes]:
    passed_on = {name: str(getattr(args, name)) for name in PASSED_ON}
    options = [word for name, value in passed_on.items() for word in (f"--{name}", value)]
    command = [sys.executable, __file__, *options, *extra]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})


def compile_all(args: argparse.Namespace) -> None:
    """Fill the compiler's cache from ``--jobs`` processes."""
    slices = [child(args, "--slice", f"{i}/{args.jobs}") for i in range(args.jobs)]
    deadline = time.monotonic() + 120
    for process in slices:
        try:
            process.wait(max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def supervise(args: argparse.Namespace) -> None:
    """Run workers until every shape is measured or the budget ends; kill one that hangs."""
    progress = Path(args.progress)
    end = time.monotonic() + args.budget_seconds
    while time.monotonic() < end:
        worker = child(args, "--worker")
        size = progress.stat().st_size if progress.exists() else 0
        changed, patience = time.monotonic(), START_S
        while worker.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
            now_size = progress.stat().st_size if progress.exists() else 0
            if now_size != size:
                size, changed, patience = now_size, time.monotonic(), STALL_S
            if time.monotonic() - changed > patience:
                break
        if worker.poll() == 0:
            return
        crashed = worker.poll() is not None
        worker.kill()
        worker.wait()
        if time.monotonic() >= end or not _blame(progress, crashed):
            return


def _blame(progress: Path, crashed: bool) -> bool:
    """Record the event under way as hung; False if the worker died before it began anything."""
    lines = progress.read_text().splitlines() if progress.exists() else []
    if not lines:
        return False
    last = json.loads(lines[-1])
    if last["kind"] == "failed":
        return True
    if last["kind"] != "start" or last["name"] == "timing":
        print(f"worker stopped at {last}", file=sys.stderr)
        return False
    with progress.open("a") as sink:
        sink.write(json.dumps({**last, "kind": "hung", "crashed": crashed}) + "\n")
    return True


def report(args: argparse.Namespace) -> None:
    """Print the small table, write everything to ``--out``."""
    progress = Path(args.progress)
    lines = progress.read_text().splitlines() if progress.exists() else []
    events = [json.loads(line) for line in lines]
    for event in events:
        if event["kind"] in ("failed", "hung") or event.get("ok") is False:
            print("BAD", {k: v for k, v in event.items() if k != "ok"})
    rows = []
    for shape in SHAPES[args.shapes]:
        times = [e for e in events if e["kind"] == "time" and e["shape"] == shape.name]
        ours = sorted((e for e in times if not e["peer"]), key=lambda e: e["us"])
        theirs = sorted((e for e in times if e["peer"]), key=lambda e: e["us"])
        if not ours or not theirs:
            continue
        best = "  ".join(f"{e['name']} {e['us']:.2f}" for e in ours[: args.top])
        rate = shape.flops / ours[0]["us"] / 1e6
        peer, peer_us = theirs[0]["name"], theirs[0]["us"]
        ratio = peer_us / ours[0]["us"]
        print(f"{shape.name:22s} x{ratio:.3f} {rate:4.0f}TF | {best} | {peer} {peer_us:.2f}")
        rows.append({"shape": shape.name, "ours": ours, "peers": theirs})
    if args.out:
        Path(args.out).write_text(json.dumps(rows, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--shapes", choices=sorted(SHAPES), default="nine")
    parser.add_argument("--budget-seconds", type=float, default=150.0, help="for measuring")
    parser.add_argument("--out", default="")
    parser.add_argument("--only", default="", help="candidates whose name contains this")
    parser.add_argument("--match", default="", help="shapes whose name contains this")
    parser.add_argument("--samples", type=int, default=11)
    parser.add_argument("--top", type=int, default=3, help="candidates to print per shape")
    parser.add_argument("--jobs", type=int, default=14, help="compiling processes")
    parser.add_argument("--progress", default="")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--slice", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.slice:
        compile_slice(args)
    elif args.worker:
        work(args)
    else:
        args.progress = args.progress or f"{args.out or 'tune'}.{os.getpid()}.lines"
        began = time.monotonic()
        compile_all(args)
        print(f"compiled in {time.monotonic() - began:.0f} s", flush=True)
        supervise(args)
        report(args)
        print(f"done in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
