"""
Proves `--kernelperf-against` on this card: identical kernels stay quiet, a 2 % slower one fails.

    python benchmarks/against_evidence.py FOLDER --runs 20 --budget-seconds 550 --tar FILE

In FOLDER a git repository is made with flashcore_kernels and its perf test. Its branch `before` has
them as they are. In `slowed`, calls of two shapes go to a copy whose kernel walks extra
multiply-adds, sized by `compare` to 1.95 to 2.2 %; calls of all other shapes go where they went, to
the same machine code. Each repetition is one fresh `pytest --kernelperf --kernelperf-against
before` over one of the two slowed shapes and three others, in turn: 20 of them judge 20 slowdowns
and 60 identical kernels. While one repetition measures, the next one imports.

FOLDER/summary.json is written after each repetition, and so is FILE, with it and every repetition's
record. A later call with the same FOLDER goes on where this ended.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import slowed
from evidence_runs import (
    Budget,
    Ended,
    counts,
    gate_test,
    keep,
    line_of,
    load,
    relay,
    shape_of,
    size_said,
    verdicts,
)

SLOWED = [(256, 32), (512, 32)]
SAME = [(128, 8), (128, 16), (128, 32), (256, 8), (256, 16), (512, 8), (512, 16)]
SAME_PER_RUN = 3
BASE, BRANCH = "before", "slowed"
#: What `compare` must confirm.
RANGE = (0.0195, 0.022)
_FILE = "tests/perf/test_attention.py"
#: Appended to the package: other shapes pay a look-up on the host, which no device time holds.
_DETOUR = """
import flashcore_slowed

_attention = attention
flashcore_slowed.extra_steps.update({steps!r})


def attention(q, *args, **kwargs):
    is_slowed = (q.shape[2], q.shape[0]) in flashcore_slowed.extra_steps
    return (flashcore_slowed.attention if is_slowed else _attention)(q, *args, **kwargs)
"""


def main() -> int:
    """
    Prepare what is missing in the folder, repeat, and show.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=20, help="repetitions, in all")
    parser.add_argument("--budget-seconds", type=float, default=550)
    parser.add_argument("--tar", type=Path, help="archive of the summary and all records")
    given = parser.parse_args()
    budget = Budget(given.budget_seconds)
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    found = load(folder / "summary.json")
    wanted = {f"{BRANCH} {s}x{b}": slowed.Wanted(s, b, *RANGE) for s, b in SLOWED}
    found["sizes"] = slowed.size(folder, wanted)
    repository = make_repository(folder, found["sizes"])
    numbers = range(len(found["runs"]), given.runs)
    ended = relay([command(folder, number) for number in numbers], repository, budget)
    runs = (run_of(folder, number, one) for number, one in zip(numbers, ended, strict=False))
    keep(found, runs, folder, ("run*.run.gz",), given.tar)
    print("\n".join(table(found["runs"], found["sizes"])))
    return 0


def shapes_of(number: int) -> list[tuple[int, int]]:
    """
    Return the shapes of one repetition, the slowed one first.
    """
    start = SAME_PER_RUN * number
    same = [SAME[(start + at) % len(SAME)] for at in range(SAME_PER_RUN)]
    return [SLOWED[number % len(SLOWED)], *same]


def make_repository(folder: Path, sizes: Mapping[str, Mapping[str, float]]) -> Path:
    """
    Write the repository with its two branches, `slowed` checked out.
    """
    home = folder / "repository"
    shutil.rmtree(home, ignore_errors=True)
    (home / "tests" / "perf").mkdir(parents=True)
    _git(home, "init", "-q", "-b", BASE)
    (home / ".gitignore").write_text("__pycache__/\n")
    (home / "pyproject.toml").write_text("[project]\nname = 'evidence'\nversion = '0'\n")
    (home / _FILE).write_text(gate_test())
    _copy(slowed.SOURCE, home / slowed.SOURCE.name)
    _commit(home, "the package as it is")
    _git(home, "checkout", "-q", "-b", BRANCH)
    _copy(folder / slowed.NAME, home / slowed.NAME)
    steps = {
        (seqlen, batch): int(sizes[f"{BRANCH} {seqlen}x{batch}"]["steps"])
        for seqlen, batch in SLOWED
    }
    with (home / slowed.SOURCE.name / "__init__.py").open("a") as file:
        file.write(_DETOUR.format(steps=steps))
    _commit(home, "extra multiply-adds at two shapes")
    return home


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))


def _commit(repository: Path, message: str) -> None:
    _git(repository, "add", "-A")
    _git(repository, "-c", "user.name=e", "-c", "user.email=e@e", "commit", "-q", "-m", message)


def _git(repository: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=repository, check=True)


def command(folder: Path, number: int) -> list[str]:
    """
    Return pytest's arguments for one repetition.
    """
    return [
        *("--kernelperf-against", BASE),
        f"--kernelperf-json={folder}/run{number}.json",
        f"--kernelperf-record={folder}/run{number}.run.gz",
        *(f"{_FILE}::test_attention[{seqlen}-{batch}]" for seqlen, batch in shapes_of(number)),
    ]


def run_of(folder: Path, number: int, ended: Ended) -> dict[str, Any]:
    """
    Return what one repetition brought; with a problem if verdicts are missing.
    """
    document = folder / f"run{number}.json"
    rows = verdicts(json.loads(document.read_text())) if document.exists() else []
    same = same_code(folder / f"run{number}.run.gz") if rows else {}
    slow = {f"{seqlen}x{batch}" for seqlen, batch in SLOWED}
    rows = [
        {**row, "is_slowed": row["shape"] in slow, "same_code": same.get(row["shape"])}
        for row in rows
        if row["processes"]
    ]
    said = counts(f"{row['shape']} {row['status']}" for row in rows)
    print(f"run {number}: {ended.seconds:.1f} s; {said or ended.output}", flush=True)
    is_whole = len(rows) == 1 + SAME_PER_RUN
    return {
        "number": number,
        "status": ended.status,
        "seconds": ended.seconds,
        "problem": None if is_whole else f"exit status {ended.status}: {ended.output}",
        "verdicts": rows,
    }


def same_code(record: Path) -> dict[str, bool]:
    """
    Return, by shape, whether both sides' kernels carry the same digests of machine code.
    """
    from pytest_kernelperf.store.runs import read_run

    found = {}
    for one in read_run(record).recorded:
        other = one.against.measurement if one.against else None
        now = [kernel.code_hash for kernel in one.measurement.kernels]
        before = [kernel.code_hash for kernel in other.kernels] if other else []
        found[shape_of(one.measurement.case.test)] = bool(now) and all(now) and now == before
    return found


def table(runs: Sequence[Mapping[str, Any]], sizes: Mapping[str, Mapping[str, float]]) -> list[str]:
    """
    Return what was found: of each kind in all, then of each shape.
    """
    whole = [run for run in runs if not run["problem"]]
    if not whole:
        return ["no runs", *(str(run["problem"]) for run in runs)]
    mean_s = statistics.mean(run["seconds"] for run in whole)
    lines = [f"{len(whole)} runs of {len(runs)}, {mean_s:.1f} s each"]
    every = [row for run in whole for row in run["verdicts"]]
    for is_slowed, name in ((True, "slowed"), (False, "identical")):
        own = [row for row in every if row["is_slowed"] is is_slowed]
        same = sum(bool(row["same_code"]) for row in own)
        lines.append(
            f"{name}: of {len(own)} {counts(row['status'] for row in own)}; {same} with the same "
            "machine code on both sides"
        )
        for shape in dict.fromkeys(row["shape"] for row in own):
            rows = [row for row in own if row["shape"] == shape]
            lines.append(f"  {shape:7} {line_of(rows)}{size_said(sizes.get(f'{BRANCH} {shape}'))}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
