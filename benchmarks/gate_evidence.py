"""
Proves the attention gate on this card: unchanged code stays quiet, real slowdowns fail.

    python benchmarks/gate_evidence.py FOLDER --processes 20 --budget-seconds 500

In FOLDER three projects are made: `unchanged`, `slower3` (its kernel walks extra multiply-adds,
sized by interleaved comparison to 2.5 to 3.5 %, at three shapes over 11 µs) and `slower10` (every
shape, at least 10 %). Each has the same test and the same baseline. Every repetition is one fresh
`pytest --kernelperf` over all three; what it says is read from its JSON. The summary goes to
FOLDER/summary.json and, as a table, to the terminal.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

SHAPES = [(seqlen, batch) for seqlen in (128, 256, 512) for batch in (8, 16, 32)]
THREE_PERCENT = [(256, 32), (512, 8), (512, 32)]
PROJECTS = ("unchanged", "slower3", "slower10")
TEST = ROOT / "tests" / "perf" / "test_attention.py"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--baseline-processes", type=int, default=5)
    parser.add_argument("--budget-seconds", type=float, default=500)
    parser.add_argument("--baselines", type=Path, help="use these instead of recording new ones")
    parser.add_argument("--skip-slowed", action="store_true", help="unchanged code only")
    arguments = parser.parse_args()
    started = time.monotonic()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    sizes = {} if arguments.skip_slowed else size_slowdowns(arguments.folder)
    projects = PROJECTS[:1] if arguments.skip_slowed else PROJECTS
    for project in projects:
        make_project(arguments.folder, project, sizes)
    baselines = arguments.baselines or record_baseline(
        arguments.folder, arguments.baseline_processes
    )
    for project in projects:
        shutil.copytree(baselines, arguments.folder / project / "baselines", dirs_exist_ok=True)
    runs = []
    longest = 0.0
    for number in range(arguments.processes):
        left = arguments.budget_seconds - (time.monotonic() - started)
        if left < 1.2 * longest:
            print(f"stopped after {number} processes: the budget is spent")
            break
        begin = time.monotonic()
        runs.append(one_run(arguments.folder, projects, number))
        longest = max(longest, time.monotonic() - begin)
    summary = summarise(runs, sizes)
    (arguments.folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    show(summary)
    return 0


def size_slowdowns(folder: Path) -> dict[str, dict[str, float]]:
    """
    Find, per shape, the chain lengths for about 3 % and 10 %, each confirmed by `compare`.

    Returns:
        "seqlen x batch" to {"steps3", "change3", "low3", "high3", "steps10", ...}.
    """
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'benchmarks')!r}]\n"
        "import gate_evidence, json, pathlib\n"
        f"sizes = gate_evidence.sizes_in_this_process(pathlib.Path({str(folder)!r}))\n"
        "print('SIZES ' + json.dumps(sizes))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=240
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("SIZES ")]
    if not lines:
        raise SystemExit(f"sizing failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(lines[-1].removeprefix("SIZES "))


def sizes_in_this_process(folder: Path) -> dict[str, dict[str, float]]:
    """
    The work of `size_slowdowns`, in a process of its own so that the GPU is free afterwards.
    """
    import slowed

    slowed.make(folder)
    module = slowed.load(folder)
    sizes: dict[str, dict[str, float]] = {}
    for seqlen, batch in SHAPES:
        entry: dict[str, float] = {}
        wanted = [("10", 0.115, 0.10, 0.14)]
        if (seqlen, batch) in THREE_PERCENT:
            wanted.append(("3", 0.03, 0.0275, 0.0325))
        for name, aim, low, high in wanted:
            entry |= {
                f"{key}{name}": value
                for key, value in _dial(module, seqlen, batch, aim, low, high).items()
            }
        sizes[f"{seqlen}x{batch}"] = entry
    return sizes


def _dial(module, seqlen, batch, aim, low, high):
    """
    Find a chain length whose slowdown lies in [low, high], by secant steps over measured points.
    """
    points = [(0.0, 0.0)]
    # 100 steps cost about 7 % at 512x32 and 10 % at 128x8 on an H100.
    steps = round(1500 * aim)
    found = None
    for _attempt in range(8):
        change, interval = _compare(module, seqlen, batch, steps)
        found = {"steps": steps, "change": change, "low": interval[0], "high": interval[1]}
        if low <= change <= high:
            return found
        points.append((float(steps), change))
        below = max((p for p in points if p[1] < aim), key=lambda p: p[1])
        above = min((p for p in points if p[1] >= aim), key=lambda p: p[1], default=None)
        if above is None:
            steps = int(steps * min(4.0, max(1.5, aim / max(change, 0.004))))
        else:
            share = (aim - below[1]) / max(above[1] - below[1], 1e-9)
            steps = max(1, round(below[0] + share * (above[0] - below[0])))
    return found


def _compare(module, seqlen, batch, steps):
    """
    Measure slowed against unslowed, interleaved; return (change, (low, high)).
    """
    import torch

    from flashcore_kernels import attention
    from pytest_kernelperf import analysis, measure
    from pytest_kernelperf.model import Case

    module.extra_steps[(seqlen, batch)] = steps
    module.forget_launches()
    generator = torch.Generator(device="cuda").manual_seed(42)
    shape = (batch, 8, seqlen, 64)
    inputs = tuple(torch.randn(shape, device="cuda", generator=generator).half() for _ in range(3))
    subjects = {
        "attention": measure.Subject(attention, inputs),
        "slowed": measure.Subject(module.attention, inputs),
    }
    case = Case("evidence", f"{seqlen}x{batch}", "", "device", "cold", "paced")
    _, measured = measure.measure_interleaved(subjects, measure.Job(case, rounds=5, samples=10))
    ratio = next(
        r for r in analysis.compare("size", measured, "attention").ratios if r.name == "slowed"
    )
    interval = ratio.speedup_interval
    return 1 / ratio.speedup - 1, (1 / interval.high - 1, 1 / interval.low - 1)


def make_project(folder: Path, project: str, sizes: dict[str, dict[str, float]]) -> None:
    """
    Write a project with the perf test in it; the slowed ones import the slowed kernel.
    """
    home = folder / project
    (home / "tests" / "perf").mkdir(parents=True, exist_ok=True)
    (home / "pyproject.toml").write_text("[project]\nname = 'evidence'\nversion = '0'\n")
    # P50 by the device timer is what is proven here; the rest would only take time.
    text = _replaced(
        TEST.read_text(),
        'percentiles=(50, 95, 99), timer=("device", "launch"),',
        'percentiles=(50,), timer="device",',
    )
    if project == "slower10":
        # Two rounds instead of five: so large a slowdown must show with less, and time is short.
        text = _replaced(text, 'timer="device",', 'timer="device", rounds=2,')
    if project != "unchanged":
        size = project.removeprefix("slower")
        chosen = {
            tuple(int(n) for n in shape.split("x")): int(entry[f"steps{size}"])
            for shape, entry in sizes.items()
            if f"steps{size}" in entry
        }
        # One process imports both slowed projects' tests: each has its own copy of the package.
        module = f"flashcore_{project}"
        source = folder / "flashcore_slowed"
        shutil.rmtree(home / module, ignore_errors=True)
        shutil.copytree(source, home / module, ignore=shutil.ignore_patterns("__pycache__"))
        op = home / module / "op.py"
        op.write_text(op.read_text().replace("flashcore_slowed", module))
        new = (
            f"import sys\nsys.path.insert(0, {str(home)!r})\n"
            f"from {module} import attention, extra_steps\nextra_steps.update({chosen!r})\n"
        )
        text = _replaced(text, "from flashcore_kernels import attention\n", new)
    (home / "tests" / "perf" / "test_attention.py").write_text(text)


def _replaced(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise SystemExit(f"{TEST}: expected once: {old!r}")
    return text.replace(old, new)


def _pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--kernelperf",
        "--import-mode=importlib",
        "--rootdir",
        str(folder),
        "-p",
        "no:cacheprovider",
        *arguments,
    ]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=180, env=environment, cwd=folder
    )


def record_baseline(folder: Path, processes: int) -> Path:
    """
    Record the unchanged kernel in fresh processes, as a user would: update again and again.
    """
    root = folder / "baselines"
    for _ in range(processes):
        done = _pytest(
            folder,
            "unchanged/tests/perf/test_attention.py",
            "-k",
            "test_attention and not cpu",
            "--kernelperf-update",
            "--kernelperf-baselines",
            str(root),
        )
        if done.returncode or not root.is_dir():
            raise SystemExit(f"recording failed:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    return root


def one_run(folder: Path, projects: tuple[str, ...], number: int) -> dict[str, object]:
    """
    Run all projects in one fresh process; return its verdicts with their exit status.
    """
    document = folder / f"run{number}.json"
    selected = [f"{project}/tests/perf/test_attention.py" for project in projects]
    skip = [f"test_attention[{s}-{b}]" for s, b in SHAPES if (s, b) not in THREE_PERCENT]
    deselect = [f"--deselect=slower3/tests/perf/test_attention.py::{name}" for name in skip]
    begin = time.monotonic()
    done = _pytest(
        folder,
        *selected,
        "-k",
        "test_attention and not cpu",
        *deselect,
        "--kernelperf-json",
        str(document),
        "--kernelperf-record",
        str(folder / f"run{number}.run.gz"),
    )
    seconds = time.monotonic() - begin
    if not document.exists():
        raise SystemExit(f"run {number} failed:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    return {
        "status": done.returncode,
        "seconds": seconds,
        "tail": done.stdout[-4000:],
        "verdicts": [
            verdict | {"test": measurement["test"]}
            for measurement in json.loads(document.read_text())["measurements"]
            for verdict in measurement["verdicts"]
            if verdict["judged"]
        ],
    }


def summarise(runs, sizes):
    """
    Count statuses per project and shape, and the spread of the unchanged kernel's P50.
    """
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    times: dict[str, list[float]] = defaultdict(list)
    changes: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        # Verdicts come in the order of the tests: unchanged first, then the slowed projects.
        order = iter(_with_projects(run["verdicts"], bool(sizes)))
        for project, verdict in order:
            shape = _shape(verdict)
            counts[project][shape][f"{verdict['status']} {verdict['reason']}"] += 1
            if verdict.get("change") is not None:
                changes[project][shape].append(verdict["change"])
            if project == "unchanged":
                times[shape].append(verdict["time_us"])
    spread = {
        shape: {
            "median_us": statistics.median(values),
            "cv": statistics.pstdev(values) / statistics.mean(values),
            "range": (max(values) - min(values)) / statistics.median(values),
            "n": len(values),
        }
        for shape, values in times.items()
        if values
    }
    return {
        "processes": len(runs),
        "seconds": [run["seconds"] for run in runs],
        "sizes": sizes,
        "counts": counts,
        "spread": spread,
        "changes": changes,
    }


def _shape(verdict):
    test = verdict["test"]
    return test[test.index("[") + 1 : -1]


def _with_projects(verdicts, slowed):
    sizes = [("unchanged", 9), ("slower3", 3), ("slower10", 9)] if slowed else [("unchanged", 9)]
    if len(verdicts) != sum(n for _, n in sizes):
        raise SystemExit(f"expected {sizes}, got {len(verdicts)} verdicts")
    at = 0
    for project, n in sizes:
        for verdict in verdicts[at : at + n]:
            yield project, verdict
        at += n


def show(summary) -> None:
    print(f"{summary['processes']} processes, {statistics.mean(summary['seconds']):.1f} s each")
    for project, shapes in summary["counts"].items():
        print(project)
        for shape, counter in shapes.items():
            spread = summary["spread"].get(shape, {}) if project == "unchanged" else {}
            size = summary["sizes"].get(shape.replace("-", "x"), {})
            size = (
                size.get("change" + project.removeprefix("slower"))
                if project != "unchanged"
                else None
            )
            extra = (
                f" {spread['median_us']:.3f} us, range {100 * spread['range']:.2f} %"
                if spread
                else ""
            )
            extra += f" compare says +{100 * size:.2f} %" if size else ""
            mean = statistics.mean(summary["changes"][project][shape] or [0])
            print(f"  {shape:8} {dict(counter)} mean change {100 * mean:+.2f} %{extra}")


if __name__ == "__main__":
    sys.exit(main())
