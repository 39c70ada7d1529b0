"""
How often one comparison calls equal kernels different, and how often it finds 2 % of extra time.

    python benchmarks/compare_rates.py --pairs 200 --slower 100 --out compare_rates.json

Each comparison is what one `kernelperf.compare` measures: ten rounds of ten samples in turn, every
round with new copies and a new graph. It holds a kernel beside itself, every second one beside
more work too: more sequences or elements, as many as take 2 to 3 % longer. How much longer they
really took is printed, since work is not time. Needs an H100; prints a line per kind of kernel,
writes every ratio after each comparison, and goes on where the file ends.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from evidence_runs import Budget, counts, load, save

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flashcore_kernels import attention
from pytest_kernelperf.analysis import compare
from pytest_kernelperf.measure import Job, Subject, measure_interleaved
from pytest_kernelperf.model import Case


@dataclass(frozen=True)
class Kind:
    """
    A kernel, with arguments of a size and of a larger one.
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
        # Many waves of programs, so that the time follows the work. 2 % more work took, on an H100,
        # 1.9 % more time (attention), 3.0 and 1.8 % (negate), 0.9 % (softmax), 1.6 % (layer norm).
        Kind("attention 128", attention, qkv(128), 400, 409),
        Kind("attention 256", attention, qkv(256), 200, 205),
        Kind("attention 512", attention, qkv(512), 100, 103),
        Kind("negate, 13 MB", torch.neg, elements, 100, 102),
        Kind("negate, 66 MB", torch.neg, elements, 500, 512),
        Kind("softmax", lambda x: torch.softmax(x.view(-1, 4096), -1), elements, 100, 105),
        Kind("layer norm", _layer_norm, elements, 100, 103),
    ]


def _layer_norm(x: Any) -> Any:
    return torch.nn.functional.layer_norm(x.view(-1, 4096), (4096,))


def names_of(number: int, pairs: int, slower: int) -> tuple[str, ...]:
    """
    Return what one comparison holds beside the reference, so that its number tells all of it.

    Slowdowns are spread evenly over the comparisons: a budget that ends early has some of each.
    """
    begun = number * slower // pairs
    return ("equal", "larger") if (number + 1) * slower // pairs > begun else ("equal",)


def compared(kind: Kind, names: Sequence[str]) -> list[dict[str, Any]]:
    """
    Measure a kernel beside itself, and beside itself with more to do, in one comparison.

    Returns:
        A row per name.
    """
    sizes = {"reference": kind.size, "equal": kind.size, "larger": kind.larger}
    subjects = {
        name: Subject(kind.fn, kind.arguments(sizes[name])) for name in ("reference", *names)
    }
    job = Job(Case("", kind.name, "", "device", "cold", "paced"), side_by_side=True)
    _, measurements = measure_interleaved(subjects, job)
    found = compare(kind.name, measurements, "reference")
    if found.problem is not None:
        raise SystemExit(f"{kind.name}: {found.problem.message}")
    return [
        {
            "kind": kind.name,
            "which": ratio.name,
            "extra": kind.extra if ratio.name == "larger" else 0.0,
            "time_us": ratio.time_us,
            "slowdown": 1 / ratio.speedup - 1,
            "half_width": math.log(ratio.speedup_interval.high / ratio.speedup_interval.low) / 2,
            "standing": ratio.standing.value,
        }
        for ratio in found.ratios
        if ratio.name != "reference"
    ]


def told(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """
    Return a line per kind of kernel, and how often it was right.
    """
    lines = []
    groups = dict.fromkeys((row["which"], row["kind"]) for row in rows)
    for which, kind in sorted(groups):
        own = [row for row in rows if (row["which"], row["kind"]) == (which, kind)]
        mean = statistics.mean(row["slowdown"] for row in own)
        sd = statistics.pstdev(row["slowdown"] for row in own)
        said = counts(row["standing"] for row in own)
        lines.append(f"{which:6} {kind:14} n={len(own):3} mean {mean:+.3%} sd {sd:.3%}: {said}")
    equal = [row["standing"] for row in rows if row["which"] == "equal"]
    larger = [row["standing"] for row in rows if row["which"] == "larger"]
    alarms = sum(standing in ("faster", "slower") for standing in equal)
    return [
        *lines,
        f"equal: {alarms} alarms in {len(equal)} pairs; "
        f"slowed: {larger.count('slower')} of {len(larger)} found",
    ]


def main() -> None:
    """
    Measure what is missing, write after each comparison, and print.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--pairs", type=int, default=200, help="pairs of equal kernels, in all")
    parser.add_argument("--slower", type=int, default=100, help="of them beside more work too")
    parser.add_argument("--budget-seconds", type=float, default=290.0)
    parser.add_argument("--out", type=Path, default=Path("compare_rates.json"))
    given = parser.parse_args()
    budget, longest_s = Budget(given.budget_seconds), 0.0
    found = load(given.out)
    measured = kinds()
    # Only whole comparisons are written: an equal pair each.
    for number in range(len(found["runs"]), given.pairs):
        if not budget.allows(longest_s):
            break
        began = time.monotonic()
        names = names_of(number, given.pairs, given.slower)
        rows = compared(measured[number % len(measured)], names)
        seconds = time.monotonic() - began
        # The first ones compile and load.
        longest_s = max(longest_s, min(seconds, 5.0))
        found["runs"].append({"seconds": seconds, "rows": rows})
        save(found, given.out)
    print("\n".join(told([row for run in found["runs"] for row in run["rows"]])))
    print(f"{sum(run['seconds'] for run in found['runs']):.0f} s")


if __name__ == "__main__":
    main()
