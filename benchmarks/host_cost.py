"""
What one attention call costs the host, beside F.scaled_dot_product_attention.

    python benchmarks/host_cost.py [--out host.json]     # on a GPU: about 5 seconds
    python benchmarks/host_cost.py --device cpu          # without one: our Python alone

On a GPU, calls are enqueued in a row and not waited for; the queue takes about a thousand launches,
so the GPU never makes the host wait. Without one, Triton's C launcher is replaced by nothing: what
is left is our own Python, allocation included, and the parts of it one by one. `attention_table.py`
runs this program for its lines on the host.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

CALLS, REPEATS = 200, 25
SEQLENS = (128, 512)
MUST = 2.0  # SDPA's time over ours
Calls = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Compared:
    """Medians in microseconds; SDPA's time over ours, with its 95 % interval."""

    ours_us: float
    sdpa_us: float
    ratio: float
    low: float
    high: float


def compared(ours_us: list[float], sdpa_us: list[float]) -> Compared:
    """
    Compare the repeats pair by pair.

    Args:
        ours_us: Our time per call, one figure for each of the 25 repeats.
        sdpa_us: SDPA's in the same repeats.
    """
    pairs = sorted(b / a for a, b in zip(ours_us, sdpa_us, strict=True))
    ours, sdpa, ratio = map(statistics.median, (ours_us, sdpa_us, pairs))
    # Of 25 repeats the 8th and the 18th hold the median with 95.7 % (binomial).
    return Compared(ours, sdpa, ratio, pairs[7], pairs[-8])


def cost_us(calls: Calls) -> dict[str, list[float]]:
    """Return microseconds per call, one figure per repeat; the callables take turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(REPEATS + 1):
        for name, call in calls.items():
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            begin_ns = time.perf_counter_ns()
            for _ in range(CALLS):
                call()
            elapsed_us = (time.perf_counter_ns() - begin_ns) / 1e3 / CALLS
            if repeat:  # the first one warms up
                found[name].append(elapsed_us)
    return found


def on_gpu(seqlen: int) -> Calls:
    """Our attention, SDPA, and what any call must do, as a caller without gradients sees them."""
    from empty_kernel import empty_call

    from flashcore_kernels import attention

    q, k, v = (torch.randn(1, 8, seqlen, 64, device="cuda").half() for _ in range(3))
    out = torch.empty_like(q)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    empty = empty_call(q)
    return {
        "flashcore": lambda: attention(q, k, v),
        "flashcore, out=": lambda: attention(q, k, v, out=out),
        "sdpa": lambda: sdpa(q, k, v),
        "torch.empty_like": lambda: torch.empty_like(q),
        "an empty kernel": lambda: empty(q, k, v),
    }


def without_gpu(seqlen: int) -> Calls:
    """Our attention on CPU tensors with nothing behind it, and its parts."""
    from flashcore_kernels import attention, launch
    from flashcore_kernels.guards import guard_for
    from flashcore_kernels.plans import plan_key, plans
    from flashcore_kernels.repeated_launch import Plan

    launch.current_device, launch.current_stream = (lambda: 0), (lambda index: 7)
    q, k, v = (torch.randn(1, 8, seqlen, 64).half() for _ in range(3))
    runner = SimpleNamespace(
        launch=lambda *args: None,
        global_scratch_size=0,
        profile_scratch_size=0,
        launch_cooperative_grid=False,
        launch_pdl=False,
    )
    handle = SimpleNamespace(run=runner, function=1, packed_metadata=(4, 1, 0))
    # The plain kernel's arguments: 5 addresses, 29 scalars, and launch's own 13.
    prepared = launch.prepare(handle, (2, 8, 1), (q, k, v, q, None), tuple(range(29)))
    if prepared is None:
        raise SystemExit(f"no prepared launch with this Triton: expected {launch.KNOWN_TRITON}x")
    guard = guard_for(q, k, v)
    allocate = launch.allocator(q)
    plan = Plan(prepared, 0, False, q)
    plans.remember(plan_key(q, k, False, None, None, False), plan, guard)
    address = q.data_ptr()
    return {
        "attention": lambda: attention(q, k, v),
        "guard": lambda: guard(q, k, v),
        "allocate": allocate,
        "torch.empty_like": lambda: torch.empty_like(q),
        "four addresses": lambda: (q.data_ptr(), k.data_ptr(), v.data_ptr(), q.data_ptr()),
        "is_watched": launch.is_watched,
        "argument list": lambda: prepared(7, address, address, address, address, None),
        "an empty call": lambda: None,
    }


def main() -> None:
    """Print a table; write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    document: dict[str, Any] = {"device": args.device, "torch": torch.__version__, "us": {}}
    for seqlen in SEQLENS if args.device == "cuda" else SEQLENS[:1]:
        calls = on_gpu(seqlen) if args.device == "cuda" else without_gpu(seqlen)
        found = cost_us(calls)
        for name, times in found.items():
            middle, least = statistics.median(times), min(times)
            print(f"1x8x{seqlen}x64  {name:18s} median {middle:7.2f} us  least {least:7.2f} us")
        if "sdpa" in found:
            said = compared(found["flashcore"], found["sdpa"])
            verdict = "ok" if said.ratio >= MUST else "MISSED"
            interval = f"[{said.low:.3f}, {said.high:.3f}]"
            print(f"1x8x{seqlen}x64  x{said.ratio:.3f} {interval} must {MUST:.2f} {verdict}")
        document["us"][str(seqlen)] = found
    if args.out:
        args.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
