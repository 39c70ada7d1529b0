"""
The table of the attention kernels beside everything that PyTorch users can pick.

    python benchmarks/attention_table.py --slice nine,bf16,causal --out nine.json
    python benchmarks/attention_table.py --slice long,d128 --out long.json
    python benchmarks/attention_table.py --slice ragged,grouped,lone --out rest.json

Each line is one comparison by this project's own measurement: callables interleaved, paced, on
rotating inputs behind a blocker, judged by the ratio of their medians round by round. A ratio is
the other's time over ours, with its 95 % interval; peers are SDPA's default and its backends, and
flash-attn-4 (in its own layout) where it is installed. "floor" is the largest of bytes over the
copy bandwidth, products over the matrix rate, both measured here, and exponentials over the
special-function units' rate; "share" is that over our time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attention_peers import (
    Callables,
    Ceilings,
    Shape,
    floor_us,
    long,
    nine,
    ours,
    peers,
    tensors,
    torchs,
)

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

COPY_BYTES = 256 << 20
MATMUL_SIZE = 4096
EXPONENTIALS_PER_CLOCK = 16  # per SM
FALLBACK_CLOCK_MHZ = 1980.0
HOST_CALLS, HOST_REPEATS = 200, 15
RAGGED = (1, 17, 100, 127, 129, 257, 384, 500, 513, 1000)
OURS = "flashcore"
PEERS = ("sdpa", "FLASH", "CUDNN", "EFFICIENT", "FA4")


@dataclass
class Line:
    """
    One comparison.

    Attributes:
        against: The callable that ours is compared with.
        ratio: Its time over ours.
        must: The smallest ratio that the project asks for; None where nothing is asked.
    """

    slice: str
    shape: str
    against: str
    ours_us: float
    ratio: float
    low: float
    high: float
    must: float | None
    times_us: dict[str, float] = field(default_factory=dict)
    floor_us: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def met(self) -> bool:
        """Whether the ratio reaches what is asked."""
        return self.must is None or self.ratio >= self.must


# --- measuring ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """How much is measured, and where."""

    device: str
    rounds: int
    samples: int

    def measured(self, label: str, subjects: Callables, timer: str = "device") -> dict[str, Any]:
        """Measure callables interleaved; raise if one of them is wrong."""
        from pytest_kernelperf import measure
        from pytest_kernelperf.model import Case

        on_gpu = self.device == "cuda"
        case = Case(
            "benchmarks/attention_table.py",
            label,
            "",
            timer if on_gpu else "wall",
            "cold" if on_gpu else "warm",
            "paced",
        )
        job = measure.Job(case, rounds=self.rounds, samples=self.samples)
        named = {name: measure.Subject(fn, args) for name, (fn, args) in subjects.items()}
        _, found = measure.measure_interleaved(named, job)
        wrong = {name: one.problem for name, one in found.items() if one.problem}
        if wrong:
            raise RuntimeError(f"{label}: {wrong}")
        return dict(found)

    def line(self, label: str, shape: str, subjects: Callables, **about: Any) -> Line:
        """Compare ours with the fastest of the others."""
        from pytest_kernelperf.analysis import compare

        timer = about.pop("timer", "device")
        found = self.measured(f"{label} {shape}", subjects, timer)
        times = {ratio.name: ratio.time_us for ratio in compare(shape, found, OURS).ratios}
        best = min((name for name in times if name != OURS), key=times.__getitem__)
        ratio = next(r for r in compare(shape, found, best).ratios if r.name == OURS)
        interval = ratio.speedup_interval
        notes = [f"{name}: {note}" for name, one in found.items() for note in one.notes]
        size = (times[OURS], ratio.speedup, interval.low, interval.high)
        return Line(label, shape, best, *size, times_us=times, notes=notes, **about)


def ceilings(bench: Bench) -> Ceilings:
    """Measure what this card copies and multiplies; special-function units at the same clock."""
    import torch

    source = torch.empty(COPY_BYTES // 2, dtype=torch.float16, device=bench.device).fill_(1.0)
    size = (MATMUL_SIZE, MATMUL_SIZE)
    a, b = (torch.randn(size, device=bench.device).half() for _ in range(2))
    copied = bench.measured("copy", {"copy": (torch.clone, (source,))})["copy"]
    multiplied = bench.measured("matmul", {"matmul": (torch.mm, (a, b))})["matmul"]
    sms = torch.cuda.get_device_properties(0).multi_processor_count
    return Ceilings(
        2 * COPY_BYTES / _median_us(copied),
        2 * MATMUL_SIZE**3 / _median_us(multiplied),
        sms * EXPONENTIALS_PER_CLOCK * _clock_mhz(multiplied),
    )


def _rounds(measurement: Any) -> Iterator[Any]:
    return (one for process in measurement.processes for one in process.rounds)


def _median_us(measurement: Any) -> float:
    return statistics.median(t for one in _rounds(measurement) for t in one.times_us)


def _clock_mhz(measurement: Any) -> float:
    clocks = [mhz for one in _rounds(measurement) for mhz in one.clock_mhz if mhz]
    return statistics.median(clocks) if clocks else FALLBACK_CLOCK_MHZ


# --- slices ------------------------------------------------------------------------------------


def beside_peers(
    bench: Bench, limits: Ceilings | None, label: str, shapes: list[Shape], must: float
) -> Iterator[Line]:
    """Ours against every peer, shape by shape."""
    for shape in shapes:
        inputs = tensors(shape, bench.device)
        subjects = {OURS: (ours(shape), inputs), **peers(shape, inputs)}
        least = None if limits is None else floor_us(shape, limits)
        yield bench.line(label, shape.name, subjects, must=must, floor_us=least)


def same_speed_in_bf16(bench: Bench, limits: Ceilings | None) -> Iterator[Line]:
    """Ours in bfloat16 against the peers, and against ours in float16."""
    yield from beside_peers(bench, limits, "bf16", nine("bfloat16"), 1.05)
    for shape in nine("bfloat16"):
        half = Shape(shape.seqlen, shape.batch)
        subjects: Callables = {
            OURS: (ours(shape), tensors(shape, bench.device)),
            "ours in fp16": (ours(half), tensors(half, bench.device)),
        }
        yield bench.line("bf16", shape.name, subjects, must=1 / 1.02)


def ragged(bench: Bench) -> Iterator[Line]:
    """Odd lengths against the next larger multiple of 64."""
    for seqlen in RAGGED:
        odd, even = Shape(seqlen, 16), Shape((seqlen // 64 + 1) * 64, 16)
        subjects: Callables = {
            OURS: (ours(odd), tensors(odd, bench.device)),
            f"ours at {even.seqlen}": (ours(even), tensors(even, bench.device)),
        }
        yield bench.line("ragged", odd.name, subjects, must=1 / 1.15)


def grouped(bench: Bench) -> Iterator[Line]:
    """8 query heads on 1, 2 and 4, against as many keys' heads as queries', and against SDPA."""
    for seqlen, causal in ((512, False), (512, True), (2048, False)):
        full = Shape(seqlen, 16, causal=causal)
        for heads_k in (1, 2, 4):
            shape = Shape(seqlen, 16, causal=causal, heads_k=heads_k)
            inputs = tensors(shape, bench.device)
            mine = (ours(shape), inputs)
            ungrouped: Callables = {"ungrouped": (ours(full), tensors(full, bench.device))}
            yield bench.line("grouped", shape.name, {OURS: mine, **ungrouped}, must=1.0)
            sdpa: Callables = {"sdpa": (torchs(shape), inputs)}
            yield bench.line("grouped", shape.name, {OURS: mine, **sdpa}, must=None)


def lone(bench: Bench) -> Iterator[Line]:
    """What a lone caller waits, and what a call costs the host."""
    for seqlen in (128, 512):
        shape = Shape(seqlen, 1)
        inputs = tensors(shape, bench.device)
        subjects: Callables = {OURS: (ours(shape), inputs), "sdpa": (torchs(shape), inputs)}
        many = Bench(bench.device, bench.rounds, max(100, bench.samples))
        yield many.line("lone wall", shape.name, subjects, must=1 / 0.6, timer="wall")
        yield host_cost(shape.name, subjects)


def host_cost(shape: str, subjects: Callables) -> Line:
    """
    Host time per call, enqueued in a row on an idle GPU and not waited for.

    The queue takes about 1000 launches, so it never makes the host wait. Repeats are taken in turn.
    """
    import torch

    times: dict[str, list[float]] = {name: [] for name in subjects}
    for repeat in range(HOST_REPEATS + 1):
        for name, (call, inputs) in subjects.items():
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            begin_ns = time.perf_counter_ns()
            for _ in range(HOST_CALLS):
                call(*inputs)
            elapsed_us = (time.perf_counter_ns() - begin_ns) / 1e3 / HOST_CALLS
            if repeat:  # the first one warms up
                times[name].append(elapsed_us)
    middle = {name: statistics.median(each) for name, each in times.items()}
    pairs = sorted(b / a for a, b in zip(times[OURS], times["sdpa"], strict=True))
    ratio = middle["sdpa"] / middle[OURS]
    size = (middle[OURS], ratio, pairs[3], pairs[-4])  # of 15: 96 % interval of the median
    return Line("lone host", shape, "sdpa", *size, must=2.0, times_us=middle)


SLICES: dict[str, Callable[[Bench, Ceilings | None], Iterator[Line]]] = {
    "nine": lambda bench, limits: beside_peers(bench, limits, "nine", nine(), 1.05),
    "bf16": same_speed_in_bf16,
    "causal": lambda bench, limits: beside_peers(bench, limits, "causal", nine(causal=True), 1.05),
    "long": lambda bench, limits: beside_peers(bench, limits, "long", long(64), 1.0),
    "d128": lambda bench, limits: beside_peers(bench, limits, "d128", long(128), 1.0),
    "ragged": lambda bench, limits: ragged(bench),
    "grouped": lambda bench, limits: grouped(bench),
    "lone": lambda bench, limits: lone(bench),
}
WITHOUT_FLOOR = {"ragged", "grouped", "lone"}


# --- showing -----------------------------------------------------------------------------------


def show(line: Line) -> None:
    """Print one line of the table."""
    share = f"{line.floor_us / line.ours_us:5.0%}" if line.floor_us else "    -"
    others = "  ".join(f"{n} {t:.2f}" for n, t in line.times_us.items() if n != OURS)
    verdict = "" if line.must is None else f"must {line.must:.2f} {'ok' if line.met else 'MISSED'}"
    print(
        f"{line.slice:10s} {line.shape:24s} {line.ours_us:9.2f} us  "
        f"x{line.ratio:.3f} [{line.low:.3f}, {line.high:.3f}] {line.against:12s} "
        f"{verdict:16s} floor {share} | {others}",
        flush=True,
    )


def summary(lines: list[Line]) -> dict[str, dict[str, float]]:
    """Per slice: geometric mean and smallest ratio against peers, and how many are missed."""
    found = {}
    for name in dict.fromkeys(line.slice for line in lines):
        chosen = [one for one in lines if one.slice == name and one.against in PEERS]
        if chosen:
            ratios = [line.ratio for line in chosen]
            missed = sum(not line.met for line in chosen)
            mean = statistics.geometric_mean(ratios)
            found[name] = {"mean": mean, "least": min(ratios), "missed": missed}
    return found


def about_this_machine(device: str) -> dict[str, str]:
    """Card and versions."""
    import torch
    import triton

    versions = {"torch": torch.__version__, "triton": triton.__version__, "device": device}
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        versions |= {"card": card.name, "uuid": str(getattr(card, "uuid", ""))}
    return versions


def main() -> None:
    """Measure the slices, print the table, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--slice", default="nine", help=f"comma-separated: {', '.join(SLICES)}")
    parser.add_argument("--out", default="", help="write everything here as JSON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=8, help="per round and callable")
    parser.add_argument("--device", default="cuda", help="cpu: a dry run on the host's clock")
    args = parser.parse_args()
    names = args.slice.split(",")
    if unknown := sorted(set(names) - set(SLICES)):
        parser.error(f"unknown slice {', '.join(unknown)}: expected some of {', '.join(SLICES)}")
    bench = Bench(args.device, args.rounds, args.samples)
    limits = None
    if args.device == "cuda" and set(names) - WITHOUT_FLOOR:
        limits = ceilings(bench)
        print(f"ceilings per us: {asdict(limits)}")
    lines: list[Line] = []
    for name in names:
        began = time.monotonic()
        for line in SLICES[name](bench, limits):
            show(line)
            lines.append(line)
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
    result = {"machine": about_this_machine(args.device), "summary": summary(lines)}
    print(json.dumps(result))
    if args.out:
        rows = [asdict(line) | {"met": line.met} for line in lines]
        document = {**result, "ceilings": asdict(limits) if limits else None, "lines": rows}
        Path(args.out).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
