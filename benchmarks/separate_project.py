"""
Use the gate as a stranger's project would: only the wheel is installed, one test of its own marked.

Makes a project in FOLDER with one kernel and one test, then goes the whole way with it: unmeasured,
without a baseline, baselined in fresh processes, unchanged, regressed after an edit that makes the
kernel slower, accepted, unchanged again. Each step's exit status and verdict are checked; the first
that is not as expected ends the script with status 1 and what pytest printed.

    pip wheel --no-deps -w dist . && python benchmarks/separate_project.py FOLDER --wheel dist/*.whl

Needs a GPU: on a busy CPU nothing is told apart in four processes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

#: Instead of 400: about an eighth more work.
SLOWER = 460

KERNEL = """\
import torch, triton
import triton.language as tl

STEPS = 400


@triton.jit
def _polynomial(x, y, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, at < n)
    for _ in range(STEPS):
        value = value * 0.999 + 0.001
    tl.store(y + at, value, at < n)


def polynomial(x):
    y = torch.empty_like(x)
    _polynomial[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), STEPS, 1024)
    return y
"""

TEST = """\
import torch
from pytest_kernelperf import kernel_perf
from kernels import STEPS, polynomial


@kernel_perf
def test_polynomial(kernelperf):
    x = torch.ones(2**22, device="cuda")
    y = kernelperf(polynomial, x)
    torch.testing.assert_close(y, torch.ones_like(x), rtol=1e-3, atol=1e-3)
"""


@dataclass(frozen=True)
class Step:
    """
    One pytest run and what it must say.

    Attributes:
        name: What the user does.
        arguments: pytest's.
        exit_status: That pytest must end with.
        statuses: The judged verdicts must be these; None where nothing is measured.
    """

    name: str
    arguments: tuple[str, ...]
    exit_status: int
    statuses: tuple[str, ...] | None


UPDATE = ("--kernelperf", "--kernelperf-update")
FOUR = ("--kernelperf-processes", "4")
ACCEPT = (*UPDATE, "--kernelperf-accept-regressions")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wheel", type=Path, required=True)
    arguments = parser.parse_args()
    site = install(arguments.folder, arguments.wheel)
    project = make_project(arguments.folder)

    steps: list[Step | int] = [
        Step("unmeasured", (), 0, None),
        Step("no baseline", ("--kernelperf",), 0, ("NO_BASELINE",)),
        Step("baselined in four processes", (*UPDATE, *FOUR), 0, ("NO_BASELINE",)),
        Step("unchanged", ("--kernelperf",), 0, ("UNCHANGED",)),
        SLOWER,
        Step("regressed", ("--kernelperf",), 1, ("REGRESSED",)),
        Step("accepted", ACCEPT, 0, ("REGRESSED",)),
        Step("unchanged after that", ("--kernelperf",), 0, ("UNCHANGED",)),
    ]
    for step in steps:
        if isinstance(step, int):
            kernels = project / "kernels.py"
            kernels.write_text(kernels.read_text().replace("STEPS = 400", f"STEPS = {step}"))
            print(f"edited: STEPS = {step} instead of 400")
        elif not take(step, project, site):
            return 1
    return 0


def install(folder: Path, wheel: Path) -> Path:
    """
    Install the wheel alone, its dependencies being there, into a folder of its own.
    """
    site = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*command, "--upgrade", "--target", str(site), str(wheel)], check=True)
    return site


def make_project(folder: Path) -> Path:
    """
    Write the project: its settings, one kernel, one test.
    """
    project = folder / "project"
    shutil.rmtree(project, ignore_errors=True)
    project.mkdir(parents=True)
    (project / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    (project / "kernels.py").write_text(KERNEL)
    (project / "test_kernels.py").write_text(TEST)
    return project


def take(step: Step, project: Path, site: Path) -> bool:
    """
    Run one step, say what came; return whether it was as expected.
    """
    document = project / "said.json"
    document.unlink(missing_ok=True)
    extra = (f"--kernelperf-json={document}",) if step.arguments else ()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    # Also the dependencies may have come by the path; this repository's own folder must not.
    paths = [str(site), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    root = Path(__file__).resolve().parents[1]
    path = os.pathsep.join(each for each in paths if each and Path(each).resolve() != root)
    done = subprocess.run(
        [*command, *step.arguments, *extra],
        cwd=project,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    verdicts = _verdicts(document)
    said = tuple(verdict["status"] for verdict in verdicts)
    right = done.returncode == step.exit_status and step.statuses in (None, said)
    detail = "; ".join(
        f"{verdict['status']} {verdict['reason']} {verdict['time_us']:.2f} µs"
        + (f" {100 * verdict['change']:+.2f} %" if verdict["change"] is not None else "")
        for verdict in verdicts
    )
    print(f"{'ok  ' if right else 'FAIL'} {step.name}: exit {done.returncode}; {detail or '-'}")
    if not right:
        print(done.stdout[-4000:], done.stderr[-2000:], sep="\n")
    return right


def _verdicts(document: Path) -> list[dict]:
    if not document.exists():
        return []
    measurements = json.loads(document.read_text())["measurements"]
    return [each for one in measurements for each in one["verdicts"] if each["judged"]]


if __name__ == "__main__":
    sys.exit(main())
