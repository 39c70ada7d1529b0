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
from pathlib import Path
from typing import Any

from attention_peers import Shape, tensors
from tune_candidates import (
    RMSE_LIMIT,
    SHAPES,
    Candidate,
    candidates,
    error,
    has_one_of,
    peers,
    reference,
)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

ROTATED_BYTES = 100 << 20  # twice the L2 of an H100
STALL_S = 15.0
START_S = 60.0

Emit = Callable[..., None]


# --- measuring, in the worker --------------------------------------------------------------------


def inputs(shape: Shape) -> list[tuple[Any, Any, Any]]:
    """Sets of (q, k, v), together larger than the L2 cache."""
    set_bytes = 3 * 2 * shape.batch * shape.heads * shape.seqlen * shape.headdim
    return [tensors(shape, "cuda") for _ in range(max(2, -(-ROTATED_BYTES // set_bytes)))]


def measure_shape(shape: Shape, skip: set[str], only: str, samples: int, emit: Emit) -> None:
    """Check, then time, everything at one shape; `emit` writes one progress line."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    sets = inputs(shape)
    tried = {name: c for name, c in candidates(shape, only).items() if name not in skip}
    good = right(shape, tried, sets[0], emit)
    emit(kind="start", shape=shape.name, name="timing")
    others = peers(shape, sets[0])
    for name, figures in timed({**others, **good}, sets, samples, others, emit).items():
        emit(kind="time", shape=shape.name, name=name, peer=name in others, **figures)
    emit(kind="shape", shape=shape.name)


def right(
    shape: Shape, tried: dict[str, Candidate], first: tuple[Any, Any, Any], emit: Emit
) -> dict[str, Candidate]:
    """Run every candidate once; return those whose result is right."""
    import torch

    expected = reference(shape, *first)
    out = torch.empty_like(first[0])
    good: dict[str, Candidate] = {}
    for name, call in tried.items():
        emit(kind="start", shape=shape.name, name=name)
        out.fill_(float("nan"))
        try:
            call(*first, out)
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
    return good


def timed(
    every: dict[str, Candidate],
    sets: list[tuple[Any, Any, Any]],
    samples: int,
    others: dict[str, Candidate],
    emit: Emit,
) -> dict[str, dict[str, float]]:
    """Time everything interleaved, with as many calls per sample as fit for FLASH."""
    import paced_graph

    def calls(name: str) -> list[Callable[[], object]]:
        return [_bound(every[name], one, name in others) for one in sets]

    trial = paced_graph.capture(calls("FLASH"), 4)
    typical_us = min(t for _ in range(3) if (t := trial.sample_us()) is not None)
    count = paced_graph.calls_per_sample(typical_us)
    graphs = {name: paced_graph.capture(calls(name), count) for name in every}
    taken = paced_graph.interleaved(graphs, samples, lambda: emit(kind="turn"))
    return {
        name: {
            "us": statistics.median(values),
            "low": min(values),
            "high": max(values),
            "n": len(values),
            "calls": count,
        }
        for name, values in taken.items()
        if values
    }


def _bound(call: Candidate, one: tuple[Any, Any, Any], peer: bool) -> Callable[[], object]:
    """Bind inputs; ours write into memory that the allocator hands out per call, as SDPA's do."""
    import torch

    return lambda: call(*one, None if peer else torch.empty_like(one[0]))


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
            if shape.name not in done and has_one_of(args.match, shape.name):
                measure_shape(shape, skip.get(shape.name, set()), args.only, args.samples, emit)


def compile_slice(args: argparse.Namespace) -> None:
    """Compile every n-th candidate into Triton's cache, through the measurement's launch path."""
    import torch

    from flashcore_kernels.forward_hopper import HOPPER_CONFIGS, launch_plan

    index, count = (int(x) for x in args.slice.split("/"))
    jobs = []
    for headdim, causal in sorted({(s.headdim, s.causal) for s in SHAPES[args.shapes]}):
        chosen = [
            config for config in HOPPER_CONFIGS[headdim] if has_one_of(args.only, config.name)
        ]
        jobs += [(config, headdim, causal) for config in chosen]
    for config, headdim, causal in jobs[index::count]:
        seqlen = config.block_n if config.one_block else 1024
        q = torch.empty((2, 2, seqlen, headdim), device="cuda", dtype=torch.float16)
        mask = {"scale": 1.0, "causal": causal, "causal_offset": 0}
        kernel, values, constants, options, grid = launch_plan(
            *(q, q, q, torch.empty_like(q), None), **mask, config=config
        )
        try:
            kernel.warmup(*values, grid=grid, **constants, **options)
        except Exception as problem:
            why = f"{config.name} D{headdim}: {type(problem).__name__}: {problem}"
            print(why[:400], file=sys.stderr)


# --- processes -----------------------------------------------------------------------------------


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


def flops(shape: Shape) -> int:
    from flashcore_kernels.cost import attention_flops

    size = (shape.batch, shape.heads, shape.seqlen, shape.seqlen, shape.headdim)
    return attention_flops(*size, causal=shape.causal)


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
        rate = flops(shape) / ours[0]["us"] / 1e6
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
    parser.add_argument("--only", default="", help="candidates with one of these words: ws3,solo")
    parser.add_argument("--match", default="", help="shapes with one of these words: 256x32,512x")
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
