"""
Proves `--kernelperf-against` on this card: identical code stays quiet, a 2 % slower tree fails.

    python benchmarks/against_evidence.py FOLDER --out FILE --budget-seconds 550

In FOLDER a git repository is made with flashcore_kernels and its perf test: the branch `before`,
`identical` (another commit, same code) and `slowed` (the kernel walks extra multiply-adds, sized by
`compare` to about 2 % at two shapes). Each repetition checks one branch out and is one fresh
`pytest --kernelperf --kernelperf-against before`: two shapes of `slowed`, all nine of `identical`.
FILE gets everything, after each repetition; a later call with the same FILE goes on where it ended
and keeps the sizes.
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
from collections import Counter
from pathlib import Path

import gate_evidence
import slowed

ROOT = Path(__file__).resolve().parents[1]
SIZED = [(256, 32), (512, 32)]
BASE = "before"
RUN_LIMIT_S = 280


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--slowed", type=int, default=20, help="runs of the slowed branch, in all")
    parser.add_argument("--identical", type=int, default=7, help="runs of the identical branch")
    parser.add_argument("--budget-seconds", type=float, default=550)
    arguments = parser.parse_args()
    started = time.monotonic()
    found = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"runs": []}
    arguments.folder.mkdir(parents=True, exist_ok=True)
    slowed.make(arguments.folder)
    found.setdefault("sizes", None)
    if found["sizes"] is None:
        found["sizes"] = size_slowdowns(arguments.folder)
        save(found, arguments.out)
    repository = make_repository(arguments.folder, found["sizes"])
    longest = {"slowed": 0.0, "identical": 0.0}
    for branch in order(found["runs"], arguments.slowed, arguments.identical):
        left = arguments.budget_seconds - (time.monotonic() - started)
        if left < max(1.2 * longest[branch], 30):
            print(f"stopped after {len(found['runs'])} runs: the budget is spent")
            break
        run = one_run(repository, branch)
        longest[branch] = max(longest[branch], run["seconds"])
        found["runs"].append(run)
        save(found, arguments.out)
    show(found)
    return 0


def order(runs: list[dict], slowed_runs: int, identical_runs: int) -> list[str]:
    """
    Return the branches still to run, mixed, so that a budget that ends early has some of each.
    """
    done = Counter(run["branch"] for run in runs)
    left = {
        "slowed": slowed_runs - done["slowed"],
        "identical": identical_runs - done["identical"],
    }
    places = [
        ((number + 0.5) / count, branch)
        for branch, count in left.items()
        for number in range(count)
    ]
    return [branch for _, branch in sorted(places)]


def size_slowdowns(folder: Path) -> dict[str, dict[str, float]]:
    """
    Find the chain lengths for about 2 %, in a process of its own so that the card is free after.
    """
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'benchmarks')!r}]\n"
        "import against_evidence, json, pathlib\n"
        f"sizes = against_evidence.sizes_in_this_process(pathlib.Path({str(folder)!r}))\n"
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
    The work of `size_slowdowns`: per shape the chain's length, the change and its interval.
    """
    module = slowed.load(folder)
    return {
        f"{seqlen}x{batch}": gate_evidence._dial(module, seqlen, batch, 0.0205, 0.0195, 0.022)
        for seqlen, batch in SIZED
    }


def make_repository(folder: Path, sizes: dict[str, dict[str, float]]) -> Path:
    """
    Write the repository with its three branches.
    """
    home = folder / "repository"
    shutil.rmtree(home, ignore_errors=True)
    (home / "tests" / "perf").mkdir(parents=True)
    git(home, "init", "-q", "-b", BASE)
    (home / ".gitignore").write_text("__pycache__/\n")
    (home / "pyproject.toml").write_text("[project]\nname = 'evidence'\nversion = '0'\n")
    (home / "tests" / "perf" / "test_attention.py").write_text(
        gate_evidence._replaced(
            gate_evidence.TEST.read_text(),
            'percentiles=(50, 95, 99), timer=("device", "launch"),',
            'percentiles=(50,), timer="device",',
        )
    )
    package = home / slowed.SOURCE.name
    shutil.copytree(slowed.SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
    commit(home, "the package as it is")
    git(home, "checkout", "-q", "-b", "identical")
    (home / "notes.txt").write_text("The same code.\n")
    commit(home, "a commit that changes no code")
    git(home, "checkout", "-q", "-b", "slowed", BASE)
    slow_down(package, folder / slowed.NAME, sizes)
    commit(home, "extra multiply-adds at two shapes")
    return home


def slow_down(package: Path, source: Path, sizes: dict[str, dict[str, float]]) -> None:
    """
    Put the slowed package in the place of the package, under its name.
    """
    shutil.rmtree(package)
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    # The names of its operators, as they were.
    shutil.copy(slowed.SOURCE / "op.py", package / "op.py")
    chosen = {
        tuple(int(number) for number in shape.split("x")): int(size["steps"])
        for shape, size in sizes.items()
    }
    with (package / "attention.py").open("a") as file:
        file.write(f"\n\nextra_steps.update({chosen!r})\n")


def one_run(repository: Path, branch: str) -> dict[str, object]:
    """
    Measure one branch against the base; return its verdicts.
    """
    git(repository, "checkout", "-q", branch)
    document = repository.parent / "run.json"
    document.unlink(missing_ok=True)
    tests = "tests/perf/test_attention.py"
    chosen = [f"{tests}::test_attention[{seqlen}-{batch}]" for seqlen, batch in SIZED]
    begin = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--kernelperf"),
            *("--kernelperf-against", BASE, "--kernelperf-json", str(document)),
            *(chosen if branch == "slowed" else [tests, "-k", "test_attention and not cpu"]),
        ],
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        # Behind the repository's own folder, which pytest was started in.
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
        cwd=repository,
    )
    seconds = time.monotonic() - begin
    if not document.exists():
        raise SystemExit(f"a run failed:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    verdicts = [
        {
            "test": measurement["test"],
            "pairs": len(measurement["against"]["processes"]),
            "missing": measurement["against"]["missing"],
            "notes": measurement["notes"],
            **{key: verdict[key] for key in ("status", "reason", "change", "change_interval")},
            **{key: verdict[key] for key in ("margin", "time_us", "baseline_us")},
        }
        for measurement in json.loads(document.read_text())["measurements"]
        for verdict in measurement["verdicts"]
        if verdict["judged"]
    ]
    print(f"{branch}: {dict(Counter(one['status'] for one in verdicts))} in {seconds:.0f} s")
    return {
        "branch": branch,
        "exit_status": done.returncode,
        "seconds": seconds,
        "verdicts": verdicts,
        "tail": done.stdout[-1500:],
    }


def commit(repository: Path, message: str) -> None:
    git(repository, "add", "-A")
    git(repository, "-c", "user.name=e", "-c", "user.email=e@e", "commit", "-q", "-m", message)


def git(repository: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=repository, check=True)


def save(found: dict[str, object], path: Path) -> None:
    """
    Write everything so far, with its summary.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found | {"summary": summarise(found["runs"])}, indent=1) + "\n")


def summarise(runs: list[dict]) -> dict[str, object]:
    """
    Count verdicts per branch and test, and runs of the slowed branch that failed.
    """
    rows: dict[str, dict[str, object]] = {}
    for branch in ("slowed", "identical"):
        verdicts = [each for run in runs if run["branch"] == branch for each in run["verdicts"]]
        for test in dict.fromkeys(each["test"] for each in verdicts):
            own = [each for each in verdicts if each["test"] == test]
            changes = [each["change"] for each in own if each["change"] is not None]
            rows[f"{branch} {test}"] = {
                "statuses": Counter(f"{each['status']} {each['reason']}" for each in own),
                "pairs": Counter(str(each["pairs"]) for each in own),
                "median_change": statistics.median(changes) if changes else None,
                "median_margin": statistics.median(each["margin"] for each in own),
            }
    return {
        "runs": Counter(run["branch"] for run in runs),
        "failed": Counter(run["branch"] for run in runs if run["exit_status"] == 1),
        "comparisons": Counter(run["branch"] for run in runs for _ in run["verdicts"]),
        "regressed": Counter(
            run["branch"]
            for run in runs
            for each in run["verdicts"]
            if each["status"] == "REGRESSED"
        ),
        "rows": rows,
    }


def show(found: dict[str, object]) -> None:
    """
    Print the summary as a table.
    """
    summary = summarise(found["runs"])
    for shape, size in found["sizes"].items():
        print(f"{shape}: {size['change']:+.2%} ({size['low']:+.2%} to {size['high']:+.2%})")
    for name, row in summary["rows"].items():
        change = "-" if row["median_change"] is None else f"{row['median_change']:+.2%}"
        print(f"{name:45} {change:>8} {dict(row['statuses'])} pairs {dict(row['pairs'])}")
    for branch, runs in summary["runs"].items():
        print(
            f"{branch}: {summary['failed'][branch]} of {runs} runs failed, "
            f"{summary['regressed'][branch]} of {summary['comparisons'][branch]} REGRESSED"
        )


if __name__ == "__main__":
    raise SystemExit(main())
