"""One line of the attention table: a comparison by this project's own measurement."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attention_peers import Callables, Ceilings
from attention_report import judged

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

OURS = "flashcore"
COPY_BYTES = 256 << 20
MATMUL_SIZE = 4096
EXPONENTIALS_PER_CLOCK = 16  # per SM
FALLBACK_CLOCK_MHZ = 1980.0


@dataclass
class Line:
    """
    One comparison.

    Attributes:
        slice: The part of the table it belongs to.
        shape: The problem.
        against: What ours is compared with; the fastest of all where nothing is said.
        ours_us: Our time per call.
        ratio: The other's time over ours.
        low: Lower end of the ratio's 95 % interval; None where the other was not in this run.
        high: Upper end.
        must: The smallest ratio that the project asks for; None where nothing is asked.
        times_us: Everybody's time.
        floor_us: The least time by each resource of this card.
        notes: What the measurement has to say about itself.
    """

    slice: str
    shape: str
    against: str
    ours_us: float
    ratio: float
    low: float | None
    high: float | None
    must: float | None = None
    times_us: dict[str, float] = field(default_factory=dict)
    floor_us: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """What the ratio says to what is asked: "", "ok", "ok?", "MISSED?", "MISSED"."""
        return judged(self.ratio, self.low, self.high, self.must)

    @property
    def floor_share(self) -> float | None:
        """The least time over our time, by the resource that binds."""
        return max(self.floor_us.values()) / self.ours_us if self.floor_us else None

    @property
    def bound_by(self) -> str:
        """The resource that binds."""
        return max(self.floor_us, key=self.floor_us.__getitem__) if self.floor_us else ""


@dataclass(frozen=True)
class Bench:
    """How much is measured, and where."""

    device: str
    rounds: int
    samples: int
    limits: Ceilings | None = None

    def measured(
        self, label: str, subjects: Callables, timer: str = "device", l2: str = "cold"
    ) -> dict[str, Any]:
        """Measure callables interleaved; raise if one of them is wrong."""
        from pytest_kernelperf import measure
        from pytest_kernelperf.model import Case

        on_gpu = self.device == "cuda"
        timer, l2 = (timer, l2) if on_gpu else ("wall", "warm")
        case = Case("benchmarks/attention_table.py", label, "", timer, l2, "paced")
        job = measure.Job(case, rounds=self.rounds, samples=self.samples)
        named = {name: measure.Subject(fn, args) for name, (fn, args) in subjects.items()}
        _, found = measure.measure_interleaved(named, job)
        wrong = {name: one.problem for name, one in found.items() if one.problem}
        if wrong:
            raise RuntimeError(f"{label}: {wrong}")
        return dict(found)

    def line(
        self,
        label: str,
        shape: str,
        subjects: Callables,
        *,
        must: float | None = None,
        against: str | None = None,
        timer: str = "device",
        l2: str = "cold",
        floor_us: dict[str, float] | None = None,
    ) -> Line:
        """Compare ours with the fastest of the others, or with the one that is named."""
        others = [against] if against else [name for name in subjects if name != OURS]
        musts = [(others, must)]
        (line,) = self.lines(label, shape, subjects, musts, timer=timer, l2=l2, floor_us=floor_us)
        return line

    def lines(
        self,
        label: str,
        shape: str,
        subjects: Callables,
        musts: list[tuple[list[str], float | None]],
        *,
        timer: str = "device",
        l2: str = "cold",
        floor_us: dict[str, float] | None = None,
    ) -> list[Line]:
        """Measure all once; compare ours with the fastest of each group, by what is asked there."""
        from pytest_kernelperf.analysis import compare

        found = self.measured(f"{label} {shape}", subjects, timer, l2)
        times = {ratio.name: ratio.time_us for ratio in compare(shape, found, OURS).ratios}
        notes = [f"{name}: {note}" for name, one in found.items() for note in one.notes]
        lines = []
        for others, must in musts:
            best = min(others, key=times.__getitem__)
            ratio = next(r for r in compare(shape, found, best).ratios if r.name == OURS)
            interval = ratio.speedup_interval
            size = (times[OURS], ratio.speedup, interval.low, interval.high)
            lines.append(Line(label, shape, best, *size, must, times, floor_us or {}, notes))
        return lines


def ceilings(bench: Bench) -> Ceilings:
    """Measure what this card copies and multiplies; special-function units at the same clock."""
    import torch

    on_gpu = bench.device == "cuda"
    copy_bytes, side = (COPY_BYTES, MATMUL_SIZE) if on_gpu else (1 << 20, 64)
    source = torch.empty(copy_bytes // 2, dtype=torch.float16, device=bench.device).fill_(1.0)
    a, b = (torch.randn((side, side), device=bench.device).half() for _ in range(2))
    copied = bench.measured("copy", {"copy": (torch.clone, (source,))})["copy"]
    multiplied = bench.measured("matmul", {"matmul": (torch.mm, (a, b))})["matmul"]
    sms = torch.cuda.get_device_properties(0).multi_processor_count if on_gpu else 1
    return Ceilings(
        2 * copy_bytes / _median_us(copied),
        2 * side**3 / _median_us(multiplied),
        sms * EXPONENTIALS_PER_CLOCK * _clock_mhz(multiplied),
    )


def _rounds(measurement: Any) -> Iterator[Any]:
    return (one for process in measurement.processes for one in process.rounds)


def _median_us(measurement: Any) -> float:
    return statistics.median(t for one in _rounds(measurement) for t in one.times_us)


def _clock_mhz(measurement: Any) -> float:
    clocks = [mhz for one in _rounds(measurement) for mhz in one.clock_mhz if mhz]
    return statistics.median(clocks) if clocks else FALLBACK_CLOCK_MHZ


def show(line: Line) -> None:
    """Print one line of the table."""
    share = f"{line.floor_share:4.0%} of {line.bound_by}" if line.floor_share else "-"
    interval = "" if line.low is None else f"[{line.low:.3f}, {line.high:.3f}]"
    others = "  ".join(f"{n} {t:.2f}" for n, t in line.times_us.items() if n != OURS)
    verdict = "" if line.must is None else f"must {line.must:.2f} {line.verdict}"
    print(
        f"{line.slice:10s} {line.shape:26s} {line.ours_us:9.2f} us  x{line.ratio:.3f} "
        f"{interval:16s} {line.against:16s} {verdict:17s} floor {share:18s} | {others}",
        flush=True,
    )
