"""
Measure what the installed plugin adds to the start of a plain pytest run.

Runs pytest on one empty test, in turn with the plugin and with `-p no:kernelperf`, and prints the
median of the paired differences with the interval that covers it at 95 % (order statistics).
Exits with status 1 if the median is over the budget.

    python benchmarks/startup.py [--pairs 25] [--budget-ms 30] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run_pytest(folder: Path, *args: str) -> tuple[float, float]:
    """
    Return wall and processor time of one pytest run, milliseconds.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args, str(folder)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    # Other plugins of the environment take far longer than the difference that is looked for; and
    # an installed package is compiled once, which the unmeasured first pair does here.
    env = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env=env)
    wall_s = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy_s = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return 1e3 * wall_s, 1e3 * busy_s


def median_interval(values: list[float]) -> tuple[float, float]:
    """
    Return the order statistics that cover the median in 95 % of cases.

    Source:
        Binomial law of the count below the median; the whole range where the values are too few.
    """
    ordered, count = sorted(values), len(values)
    below, rank = 0.0, 0
    while rank < count // 2:
        below += math.comb(count, rank) / 2**count
        if below > 0.025:
            break
        rank += 1
    low = max(rank - 1, 0)
    return ordered[low], ordered[count - 1 - low]


def measure(pairs: int) -> list[dict[str, float]]:
    """
    Return wall and processor time with and without the plugin, in turn, after one unmeasured pair.
    """
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_empty.py").write_text("def test_nothing():\n    pass\n")
        for index in range(pairs + 1):
            sides = {"with": ("-p", "kernelperf"), "without": ("-p", "no:kernelperf")}
            # The side that runs first changes, so that a drift of the machine favours neither.
            order = sorted(sides, reverse=bool(index % 2))
            times = {side: run_pytest(folder, *sides[side]) for side in order}
            row = {f"{side}_wall_ms": times[side][0] for side in sides}
            found.append(row | {f"{side}_cpu_ms": times[side][1] for side in sides})
    return found[1:]


def main() -> int:
    """
    Measure, print, and say by the exit status whether the budget holds.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--budget-ms", type=float, default=30.0)
    parser.add_argument("--out", type=Path, help="write the raw pairs as JSON")
    given = parser.parse_args()
    rows = measure(given.pairs)
    added = {}
    for clock in ("wall", "cpu"):
        differences = [row[f"with_{clock}_ms"] - row[f"without_{clock}_ms"] for row in rows]
        added[clock] = statistics.median(differences)
        low, high = median_interval(differences)
        without = statistics.median(row[f"without_{clock}_ms"] for row in rows)
        print(
            f"{clock:>4}: {added[clock]:+6.1f} ms added (95 % interval {low:+.1f} to {high:+.1f}), "
            f"to {without:.0f} ms without, {given.pairs} pairs"
        )
    if given.out:
        given.out.write_text(json.dumps({"pairs": rows, "added_ms": added}, indent=1) + "\n")
    print(
        f"budget {given.budget_ms:g} ms: {'kept' if added['wall'] < given.budget_ms else 'MISSED'}"
    )
    return 0 if added["wall"] < given.budget_ms else 1


if __name__ == "__main__":
    raise SystemExit(main())
