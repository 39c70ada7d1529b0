"""The table's lines on a lone call: what its caller waits, and what it costs the host."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from attention_lines import OURS, Bench, Line
from attention_peers import Callables, Shape, fitted, ours, tensors, torchs
from host_cost import MUST, SEQLENS, compared

WALL_MUST = 1 / 0.6
NOTHING, EMPTY = "no launch", "an empty kernel"
HOST_COST = Path(__file__).with_name("host_cost.py")
CHILD_TIMEOUT_S = 120


def lone(bench: Bench) -> Iterator[Callable[[], list[Line]]]:
    """A caller with new inputs each time, with the same again, and the host's share."""
    many = replace(bench, samples=max(50, bench.samples))
    for l2 in ("cold", "warm"):
        for seqlen in SEQLENS:
            yield partial(waited, many, fitted(Shape(seqlen, 1), bench.device), l2)
    if bench.device == "cuda":
        yield host_lines


def waited(bench: Bench, shape: Shape, l2: str) -> list[Line]:
    """
    What a caller waits, by event, call, event, synchronise.

    The floor is a callable that launches one empty kernel by the fastest way there is here; one
    that launches nothing shows what the protocol itself takes.
    """
    inputs = tensors(shape, bench.device)
    subjects: Callables = {
        OURS: (ours(shape), inputs),
        "sdpa": (torchs(shape), inputs),
        NOTHING: (lambda q, k, v: q, inputs),
    }
    if bench.device == "cuda":
        from empty_kernel import empty_call

        subjects[EMPTY] = (empty_call(inputs[0]), inputs)
    line = bench.line(
        "lone wall", f"{shape.name} {l2}", subjects,
        must=WALL_MUST, against="sdpa", timer="wall", l2=l2,
    )  # fmt: skip
    least_us = line.times_us.get(EMPTY, line.times_us[NOTHING])
    return [replace(line, floor_us={EMPTY: least_us})]


def host_lines() -> list[Line]:
    """The host's time per call as `host_cost.py` finds it, in a process without anything else."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "host.json")
        command = [sys.executable, str(HOST_COST), "--out", str(file)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=CHILD_TIMEOUT_S)
        measured = json.loads(file.read_text(encoding="utf-8"))["us"]
    return [_host_line(Shape(seqlen, 1).name, measured[str(seqlen)]) for seqlen in SEQLENS]


def _host_line(shape: str, times_us: dict[str, list[float]]) -> Line:
    found = compared(times_us[OURS], times_us["sdpa"])
    size = (found.ours_us, found.ratio, found.low, found.high)
    times = {OURS: found.ours_us, "sdpa": found.sdpa_us}
    return Line("lone host", f"{shape} host", "sdpa", *size, MUST, times)
