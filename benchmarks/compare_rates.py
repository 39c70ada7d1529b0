"""
How often one comparison calls equal kernels different, and how often it finds 2 % of extra work.

    python benchmarks/compare_rates.py --pairs 200 --slower 100 --out compare_rates.json

Each pair is what one `kernelperf.compare` measures: two callables, ten rounds of ten samples in
turn, every round with new copies and a new graph. Extra work is real: more sequences or elements.
Needs an H100; prints a line per kind of kernel, writes every ratio.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flashcore_kernels import attention
from pytest_kernelperf.analysis import compare
from pytest_kernelperf.measure import Job, Subject, measure_interleaved
from pytest_kernelperf.model import Case, Ratio, Standing


@dataclass(frozen=True)
class Kind:
    """
    A kernel, with arguments of a size and of a size that is 2 % more work.
    """

    name: str
    fn: Callable[..., Any]
    arguments: Callable[[int], tuple[Any, ...]]
    size: int
    larger: int

    @property
    def extra(self) -> float:
        """
        How much more work the larger size is, relative.
        """
        return self.larger / self.size - 1


def qkv(seqlen: int) -> Callable[[int], tuple[Any, ...]]:
    """
    Return a function of the batch size that makes q, k, v.
    """
    return lambda batch: tuple(
        torch.randn(batch, 8, seqlen, 64, device="cuda", dtype=torch.float16) for _ in range(3)
    )


def elements(count: int) -> tuple[Any, ...]:
    """
    Return a tensor of 64 Ki times `count` elements.
    """
    return (torch.randn(count << 16, device="cuda", dtype=torch.float16),)


def kinds() -> list[Kind]:
    """
    Return kernels from about 10 to 200 µs, bound by arithmetic and by memory.
    """
    return [
        # Many waves of programs, so that the time follows the work.
        Kind("attention 128", attention, qkv(128), 400, 408),
        Kind("attention 256", attention, qkv(256), 200, 204),
        Kind("attention 512", attention, qkv(512), 100, 102),
        Kind("negate, 13 MB", torch.neg, elements, 100, 102),
        Kind("negate, 66 MB", torch.neg, elements, 500, 510),
        Kind("softmax", lambda x: torch.softmax(x.view(-1, 4096), -1), elements, 100, 102),
        Kind("layer norm", _layer_norm, elements, 100, 102),
    ]


def _layer_norm(x: Any) -> Any:
    return torch.nn.functional.layer_norm(x.view(-1, 4096), (4096,))


def pair(kind: Kind, larger: bool) -> Ratio:
    """
    Measure a kernel beside itself, or beside itself with 2 % more to do.
    """
    size = kind.larger if larger else kind.size
    subjects = {
        "reference": Subject(kind.fn, kind.arguments(kind.size)),
        "candidate": Subject(kind.fn, kind.arguments(size)),
    }
    job = Job(Case("", kind.name, "", "device", "cold", "paced"), side_by_side=True)
    _, measurements = measure_interleaved(subjects, job)
    found = compare(kind.name, measurements, "reference")
    if found.problem is not None:
        raise SystemExit(f"{kind.name}: {found.problem.message}")
    return found.ratios[1]


def measured(count: int, larger: bool, deadline: float) -> Iterator[dict[str, Any]]:
    """
    Yield pairs of all kinds in turn, until there are enough or the time is over.
    """
    for kind in islice(cycle(kinds()), count):
        if time.monotonic() > deadline:
            return
        ratio = pair(kind, larger)
        yield {
            "kind": kind.name,
            "extra": kind.extra if larger else 0.0,
            "time_us": ratio.time_us,
            "slowdown": 1 / ratio.speedup - 1,
            "half_width": math.log(ratio.speedup_interval.high / ratio.speedup_interval.low) / 2,
            "standing": ratio.standing.value,
        }


def told(name: str, rows: list[dict[str, Any]]) -> None:
    """
    Print, per kind of kernel, what was found.
    """
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        counts = {each.value: sum(r["standing"] == each.value for r in own) for each in Standing}
        shown = ", ".join(f"{count} {text}" for text, count in counts.items() if count)
        mean = sum(row["slowdown"] for row in own) / len(own)
        sd = math.sqrt(sum((r["slowdown"] - mean) ** 2 for r in own) / max(1, len(own) - 1))
        print(f"{name:6} {kind:26} n={len(own):3} mean {mean:+.3%} sd {sd:.3%}: {shown}")


def main() -> None:
    """
    Measure, print and write.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--pairs", type=int, default=200, help="pairs of equal kernels")
    parser.add_argument("--slower", type=int, default=100, help="pairs with 2 %% more work")
    parser.add_argument("--seconds", type=float, default=540.0, help="stop after this long")
    parser.add_argument("--out", type=Path, default=Path("compare_rates.json"))
    given = parser.parse_args()
    began = time.monotonic()
    # The rarer half first gets its share of the time, not what is left of it.
    share = given.slower / max(1, given.slower + given.pairs)
    slower = list(measured(given.slower, True, began + share * given.seconds))
    equal = list(measured(given.pairs, False, began + given.seconds))
    told("equal", equal)
    told("+2 %", slower)
    alarms = sum(row["standing"] in ("faster", "slower") for row in equal)
    found = sum(row["standing"] == "slower" for row in slower)
    print(f"equal: {alarms} alarms in {len(equal)} pairs; +2 %: {found} of {len(slower)} found")
    given.out.write_text(json.dumps({"equal": equal, "slower": slower}, indent=1) + "\n")


if __name__ == "__main__":
    main()
