"""
How often the gate finds a tail that grew by 20 %: one launch in forty takes a quarter longer.

    python benchmarks/tail_rates.py FOLDER --processes 10 --budget-seconds 420

Three kernels from about 15 to 250 µs, bound by latency, memory and arithmetic, are measured by the
launch timer in fresh processes: first as they are, then with every fortieth launch doing more work,
by the same plans (two calibrations, in FOLDER). The gate's own rule judges each process of the
second against five of the first; what is undecided gets the next ones. P99 is to be REGRESSED and
P50 UNCHANGED. Needs an H100; a later call with the same FOLDER on the same card goes on where this
ended.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from evidence_runs import ROOT, counts

sys.path.insert(0, str(ROOT))

from pytest_kernelperf.analysis import noise_from
from pytest_kernelperf.analysis.replay import BASELINE_PROCESSES, Series, escalated
from pytest_kernelperf.calibration.folder import Folder
from pytest_kernelperf.calibration.summary import gather
from pytest_kernelperf.model import Entry, Measurement, Reference, Verdict

#: Set: every fortieth launch does more.
TAIL = "EVIDENCE_TAIL"
USUAL, GROWN = "usual", "grown"
_TEST = '''
import os

import pytest
import torch

from pytest_kernelperf import kernel_perf
from pytest_kernelperf.calibration import kernels

EVERY = 40


class NowAndThen:
    """Calls a kernel, and every fortieth time with more work."""

    def __init__(self, fn, usual, more):
        self.fn, self.usual, self.more, self.calls = fn, usual, more, 0

    def __call__(self, *args):
        self.calls += 1
        is_slow = os.environ.get("EVIDENCE_TAIL") and self.calls % EVERY == 0
        return self.fn(*args, self.more if is_slow else self.usual)


def random(*shape, dtype=torch.float32):
    generator = torch.Generator(device="cuda").manual_seed(42)
    return torch.randn(shape, device="cuda", generator=generator).to(dtype)


def matrix():
    return random(4096, 4096, dtype=torch.float16)


KERNELS = {
    # The quarter is of the whole launch, which is more than its chain.
    "chain-4000": lambda: (kernels.chain, 4000, 4950, (random(128 * 132),)),
    "add-50-MB": lambda: (kernels.add, 0, 3800, (random(2 << 22), random(1 << 22))),
    "matmul-4096": lambda: (kernels.matmul, 0, 3100, (matrix(), matrix())),
}


@pytest.mark.parametrize("kernel", KERNELS)
@kernel_perf(timer="launch", percentiles=(50, 99), deterministic=False, requires="cuda")
def test_tail(kernelperf, kernel):
    fn, usual, more, inputs = KERNELS[kernel]()
    assert kernelperf(NowAndThen(fn, usual, more), *inputs).isfinite().all()
'''


def main() -> int:
    """
    Measure what is missing, judge, and print.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=10, help="of each kind, in all")
    parser.add_argument("--budget-seconds", type=float, default=420.0)
    given = parser.parse_args()
    folder = given.folder.resolve()
    write_project(folder)
    for kind in (USUAL, GROWN):
        status = calibrate(folder, kind, given.processes, given.budget_seconds / 2)
        if status > 1:
            return status
    usual, grown = (gather(Folder(folder / kind)).series for kind in (USUAL, GROWN))
    print("\n".join(table(usual, judged(usual, grown))))
    return 0


def write_project(folder: Path) -> None:
    """
    Write the project that is calibrated, an ordinary one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_tail.py").write_text(_TEST)


def calibrate(folder: Path, kind: str, processes: int, seconds: float) -> int:
    """
    Have a kind measured in fresh processes, the second by the plans of the first.

    Returns:
        The exit status: 1 where equal code came out slower, which is told all the same.
    """
    pinned = () if kind == USUAL else ("--plans-of", str(folder / USUAL))
    command = [
        *(sys.executable, "-m", "pytest_kernelperf", "calibrate", "test_tail.py"),
        *("--skip-injections", "--processes", str(processes), "--out", kind),
        *("--budget-seconds", str(seconds), "--baselines", f"baselines-{kind}", *pinned),
    ]
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))).rstrip(os.pathsep)
    environment = {key: value for key, value in os.environ.items() if key != TAIL}
    environment |= {"PYTHONPATH": path} | ({TAIL: "1"} if kind == GROWN else {})
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def judged(usual: Sequence[Series], grown: Sequence[Series]) -> list[Verdict]:
    """
    Return the judged verdicts on each process of the second kind as first of a candidate.
    """
    references = {each.unslowed[0].case.key: each.unslowed for each in usual}
    found: list[Verdict] = []
    for turn in range(max((len(each.unslowed) for each in grown), default=0)):
        entries = {
            key: Entry(_reference(_circle(ones, turn)[:BASELINE_PROCESSES]))
            for key, ones in references.items()
        }
        noise = noise_from(("launch", each.reference) for each in entries.values())
        for each in grown:
            if turn < len(each.unslowed):
                line = _circle(each.unslowed, turn)
                limits = replace(each.limits, targets_us={})
                verdicts = escalated(line, entries[line[0].case.key], limits, noise)
                found += [verdict for verdict in verdicts if verdict.judged]
    return found


def _circle(ones: Sequence[Measurement], start: int) -> list[Measurement]:
    return [ones[(start + step) % len(ones)] for step in range(len(ones))]


def _reference(ones: Sequence[Measurement]) -> Reference:
    return Reference.of(ones[0], [process for each in ones for process in each.processes])


def table(usual: Sequence[Series], verdicts: Iterable[Verdict]) -> list[str]:
    """
    Return a line per kernel and percentile, and how often each was told right.
    """
    found = list(verdicts)
    lines = []
    for test in (each.unslowed[0].case.test for each in usual):
        for percentile in (50.0, 99.0):
            own = [v for v in found if (v.case.test, v.percentile) == (test, percentile)]
            changes = sorted(v.change for v in own if v.change is not None)
            told = counts(f"{v.status.value} {v.reason}" for v in own)
            middle = f"{changes[len(changes) // 2]:+.1%}" if changes else "-"
            lines.append(f"{test} P{percentile:g} n={len(own)} median {middle}: {told}")
    right = Counter(
        (v.percentile, v.status.value)
        for v in found
        if (v.percentile, v.status.value) in {(99.0, "REGRESSED"), (50.0, "UNCHANGED")}
    )
    total = Counter(v.percentile for v in found)
    return [
        *lines,
        f"P99 REGRESSED {right[99.0, 'REGRESSED']} of {total[99.0]}; "
        f"P50 UNCHANGED {right[50.0, 'UNCHANGED']} of {total[50.0]}",
    ]


if __name__ == "__main__":
    sys.exit(main())
