"""
Shows what the gate says beside another process that loads the card: never REGRESSED.

    python benchmarks/neighbour_evidence.py FOLDER --runs 4 --budget-seconds 240 --tar FILE

Four kernels get a baseline of five processes on the card alone. Then each run is one fresh `pytest
--kernelperf`, with the default of everything: one alone, as control, and the others beside a
process that multiplies matrices without a pause. Needs an H100. FOLDER/summary.json and FILE are
written after each run; a later call with the same FOLDER on the same card goes on where this ended.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evidence_runs import Budget, Ended, counts, keep, line_of, load, relay, run_pytest, verdicts

ALONE, BESIDE = "alone", "beside a neighbour"
_READY = "ready"
#: Loads the card until its input ends.
NEIGHBOUR = """
import sys, threading, torch
x = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
torch.cuda.synchronize()
print("ready", flush=True)
while not ended.is_set():
    for _ in range(20):
        y = x @ x
    torch.cuda.synchronize()
"""
TEST = """
import pytest
import torch

from pytest_kernelperf import kernel_perf

KERNELS = {
    "negate": lambda: (torch.neg, (torch.randn(1 << 24, device="cuda"),)),
    "softmax": lambda: (softmax, (torch.randn(8192, 1024, device="cuda"),)),
    "matmul": lambda: (torch.matmul, (matrix(), matrix())),
    "attention": lambda: (attention, tuple(heads() for _ in range(3))),
}
attention = torch.nn.functional.scaled_dot_product_attention


def softmax(x):
    return torch.softmax(x, -1)


def matrix():
    return torch.randn(2048, 2048, device="cuda", dtype=torch.float16)


def heads():
    return torch.randn(16, 8, 512, 64, device="cuda", dtype=torch.float16)


@pytest.mark.parametrize("kernel", KERNELS)
@kernel_perf(timer="device", requires="cuda")
def test_kernel(kernelperf, kernel):
    fn, inputs = KERNELS[kernel]()
    kernelperf(fn, *inputs)
"""


def main() -> int:
    """
    Record the baseline if there is none, run what is missing, and print.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=4, help="one alone, the others beside, in all")
    parser.add_argument("--budget-seconds", type=float, default=240.0)
    parser.add_argument("--tar", type=Path, help="archive of the summary, baseline and records")
    given = parser.parse_args()
    budget = Budget(given.budget_seconds)
    folder = given.folder.resolve()
    prepare(folder)
    found = load(folder / "summary.json")
    if not found["runs"]:
        measure(found, folder, range(1), budget, given.tar)
    with neighbour():
        measure(found, folder, range(len(found["runs"]), given.runs), budget, given.tar)
    print("\n".join(table(found["runs"])))
    return 0


def prepare(folder: Path) -> None:
    """
    Write the project and record its baseline in fresh processes, as far as that is not done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_kernel.py").write_text(TEST)
    if (folder / "baselines").is_dir():
        return
    arguments = ["--kernelperf-update", "--kernelperf-processes", "5"]
    done = run_pytest(arguments, folder)
    if done.status or not (folder / "baselines").is_dir():
        raise SystemExit(f"recording failed, exit status {done.status}:\n{done.output}")


@contextmanager
def neighbour() -> Iterator[None]:
    """
    Load the card until the block ends.
    """
    with subprocess.Popen(
        [sys.executable, "-c", NEIGHBOUR],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline().strip() != _READY:
            raise SystemExit("the neighbour did not start; its words are above")
        try:
            yield
        finally:
            process.stdin.close()


def measure(
    found: dict[str, Any], folder: Path, numbers: range, budget: Budget, target: Path | None
) -> None:
    """
    Run and keep the repetitions of these numbers, as far as the budget goes.
    """
    commands = [
        [f"--kernelperf-json=run{number}.json", f"--kernelperf-record=run{number}.run.gz"]
        for number in numbers
    ]
    ended = relay(commands, folder, budget)
    runs = (run_of(folder, number, one) for number, one in zip(numbers, ended, strict=False))
    keep(found, runs, folder, ("run*.run.gz", "baselines"), target)


def run_of(folder: Path, number: int, ended: Ended) -> dict[str, Any]:
    """
    Return what one repetition brought; with a problem if it judged nothing.
    """
    document = folder / f"run{number}.json"
    rows = verdicts(json.loads(document.read_text())) if document.exists() else []
    where = BESIDE if number else ALONE
    problem = None if rows else f"no verdicts, exit status {ended.status}:\n{ended.output}"
    said = counts(f"{row['status']} {row['reason']}" for row in rows)
    print(f"run {number} {where}: {ended.seconds:.1f} s; {said}{problem or ''}", flush=True)
    return {"where": where, "seconds": ended.seconds, "problem": problem, "verdicts": rows}


def table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """
    Return a line per place and kernel, under a line per place.
    """
    lines = []
    for where in (ALONE, BESIDE):
        rows = [row for run in runs if run["where"] == where for row in run["verdicts"]]
        lines.append(f"{where}: of {len(rows)} {counts(row['status'] for row in rows)}")
        lines += [
            f"  {name:10} {line_of([row for row in rows if row['shape'] == name])}"
            for name in dict.fromkeys(row["shape"] for row in rows)
        ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
