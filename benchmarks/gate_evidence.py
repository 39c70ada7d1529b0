"""
Proves the attention gate on this card: unchanged code stays quiet, real slowdowns fail.

    python benchmarks/gate_evidence.py FOLDER --processes 20 --budget-seconds 570 --tar FILE

Three projects are made in FOLDER: `unchanged`, `slower3` (its kernel walks extra multiply-adds,
sized by interleaved comparison to 2.75 to 3.25 %, at three shapes over 11 µs) and `slower10`
(every shape, 10 to 14 %). Each has the same test and the same baseline, of five fresh processes,
under a name of its own, by which the one record of all tells them apart.
Every repetition is one fresh `pytest --kernelperf` over all three, with the default of everything:
what is undecided is measured in 3, then in 5 fresh processes. While one repetition measures, the
next one imports.

FOLDER/summary.json is written after each repetition, and so is FILE, with it, the baseline and
every repetition's record. A later call with the same FOLDER on the same card goes on where this
ended; a `baselines` folder that lies there already is used.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import slowed
from evidence_runs import (
    ROOT,
    SELECTED,
    Budget,
    Ended,
    counts,
    gate_test,
    keep,
    line_of,
    load,
    relay,
    replaced,
    run_pytest,
    size_said,
    verdicts,
)

sys.path.insert(0, str(ROOT))

from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.selection import all_entries, rename

SHAPES = [(seqlen, batch) for seqlen in (128, 256, 512) for batch in (8, 16, 32)]
THREE_PERCENT = [(256, 32), (512, 8), (512, 32)]
#: Project to its shapes, in the order that pytest runs them.
PROJECTS = {"unchanged": SHAPES, "slower3": THREE_PERCENT, "slower10": SHAPES}
RANGES = {"slower3": (0.0275, 0.0325), "slower10": (0.10, 0.14)}
BASELINE_PROCESSES = 5
#: What lies in the archive beside the summary.
_ARCHIVED = ("run*.run.gz", "baselines", "*/baselines", "recording.run.gz")


def main() -> int:
    """
    Prepare what is missing in the folder, repeat, and show.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=20, help="repetitions, in all")
    parser.add_argument("--budget-seconds", type=float, default=570)
    parser.add_argument("--tar", type=Path, help="archive of the summary and all records")
    parser.add_argument("--skip-slowed", action="store_true", help="unchanged code only")
    given = parser.parse_args()
    budget = Budget(given.budget_seconds)
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    projects = list(PROJECTS)[:1] if given.skip_slowed else list(PROJECTS)
    found = prepared(folder, projects)
    numbers = range(len(found["runs"]), given.processes)
    ended = relay([command(folder, projects, number) for number in numbers], folder, budget)
    runs = (
        run_of(folder, projects, number, one) for number, one in zip(numbers, ended, strict=False)
    )
    keep(found, runs, folder, _ARCHIVED, given.tar)
    show(found)
    return 0


def prepared(folder: Path, projects: Sequence[str]) -> dict[str, Any]:
    """
    Size the slowdowns, make the projects and record the baseline, as far as that is not done.
    """
    found = load(folder / "summary.json")
    began = time.monotonic()
    wanted = {
        f"{project} {seqlen}x{batch}": slowed.Wanted(seqlen, batch, *RANGES[project])
        for project in projects[1:]
        for seqlen, batch in PROJECTS[project]
    }
    found["sizes"] = slowed.size(folder, wanted) if wanted else {}
    sized = time.monotonic()
    for project in projects:
        make_project(folder, project, found["sizes"])
    if not (folder / "baselines").is_dir():
        record_baseline(folder)
    for project in projects:
        give_baseline(folder, project)
    print(f"sizing {sized - began:.0f} s, baseline {time.monotonic() - sized:.0f} s", flush=True)
    return found


def file_of(project: str) -> str:
    """
    Return the name of a project's test file, below the project.
    """
    return f"tests/perf/test_{project}.py"


def make_project(folder: Path, project: str, sizes: Mapping[str, Mapping[str, float]]) -> None:
    """
    Write a project with the perf test in it; the slowed ones import the slowed kernel.
    """
    home = folder / project
    (home / "tests" / "perf").mkdir(parents=True, exist_ok=True)
    (home / "pyproject.toml").write_text("[project]\nname = 'evidence'\nversion = '0'\n")
    text = gate_test()
    if project != "unchanged":
        steps = {
            (seqlen, batch): int(sizes[f"{project} {seqlen}x{batch}"]["steps"])
            for seqlen, batch in PROJECTS[project]
        }
        text = slow_test(text, folder, steps)
    (home / file_of(project)).write_text(text)


def slow_test(text: str, folder: Path, steps: Mapping[tuple[int, int], int]) -> str:
    """
    Return the perf test with the slowed kernel, which one process uses for several projects.
    """
    text = replaced(
        text,
        "from flashcore_kernels import attention\n",
        f"import sys\nsys.path.insert(0, {str(folder)!r})\n"
        f"from {slowed.NAME} import attention, extra_steps, forget_launches\n",
    )
    return (
        f"{text}\n\n@pytest.fixture(autouse=True)\ndef slow_down():\n"
        f"    extra_steps.clear()\n    extra_steps.update({dict(steps)!r})\n    forget_launches()\n"
    )


def record_baseline(folder: Path) -> None:
    """
    Record the unchanged kernel in fresh processes, as a user would.
    """
    arguments = [
        *_where(folder, ["unchanged"]),
        *("--kernelperf-update", "--kernelperf-processes", str(BASELINE_PROCESSES)),
        f"--kernelperf-baselines={folder}/baselines",
        f"--kernelperf-record={folder}/recording.run.gz",
    ]
    done = run_pytest(arguments, folder)
    if done.status or not (folder / "baselines").is_dir():
        shutil.rmtree(folder / "baselines", ignore_errors=True)
        raise SystemExit(f"recording failed, exit status {done.status}:\n{done.output}")


def give_baseline(folder: Path, project: str) -> None:
    """
    Copy the recorded baseline into a project, under the name of the project's test.
    """
    root = folder / project / "baselines"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(folder / "baselines", root)
    store = Baselines(root)
    for file in {stored.file for stored in all_entries(store)} - {file_of(project)}:
        rename(store, file, file_of(project))


def command(folder: Path, projects: Sequence[str], number: int) -> list[str]:
    """
    Return pytest's arguments for one repetition.
    """
    left_out = [
        f"--deselect={project}/{file_of(project)}::test_attention[{seqlen}-{batch}]"
        for project in projects
        for seqlen, batch in SHAPES
        if (seqlen, batch) not in PROJECTS[project]
    ]
    return [
        *_where(folder, projects),
        *left_out,
        f"--kernelperf-json={folder}/run{number}.json",
        f"--kernelperf-record={folder}/run{number}.run.gz",
    ]


def _where(folder: Path, projects: Sequence[str]) -> list[str]:
    files = [f"{project}/{file_of(project)}" for project in projects]
    return ["--import-mode=importlib", "--rootdir", str(folder), *SELECTED, *files]


def run_of(folder: Path, projects: Sequence[str], number: int, ended: Ended) -> dict[str, Any]:
    """
    Return what one repetition brought; with a problem if verdicts or baselines are missing.
    """
    document = folder / f"run{number}.json"
    rows = verdicts(json.loads(document.read_text())) if document.exists() else []
    run: dict[str, Any] = {
        "number": number,
        "status": ended.status,
        "seconds": ended.seconds,
        "problem": None,
        "verdicts": named(rows, projects),
    }
    if not run["verdicts"]:
        run["problem"] = f"{len(rows)} verdicts, exit status {ended.status}:\n{ended.output}"
    elif bare := [row for row in run["verdicts"] if row["status"] == "NO_BASELINE"]:
        run["problem"] = f"no baseline: {counts(row['project'] for row in bare)}"
    unchanged = [row for row in run["verdicts"] if row["project"] == "unchanged"]
    said = run["problem"] or counts(row["status"] for row in unchanged)
    print(f"run {number}: {ended.seconds:.1f} s; unchanged: {said}", flush=True)
    return run


def named(rows: Sequence[dict[str, Any]], projects: Sequence[str]) -> list[dict[str, Any]]:
    """
    Return verdicts with their projects, by their test files; none if any is missing.
    """
    expected = [
        (project, file_of(project), f"{seqlen}x{batch}")
        for project in projects
        for seqlen, batch in PROJECTS[project]
    ]
    if [(row["file"], row["shape"]) for row in rows] != [one[1:] for one in expected]:
        return []
    return [{"project": one[0], **row} for one, row in zip(expected, rows, strict=True)]


def show(found: Mapping[str, Any]) -> None:
    """
    Print what was found, problems last.
    """
    runs = [run for run in found["runs"] if not run["problem"]]
    print("\n".join(table(runs, found["sizes"])))
    for run in found["runs"]:
        if run["problem"]:
            print(f"run {run['number']} is not counted: {run['problem']}")


def table(runs: Sequence[Mapping[str, Any]], sizes: Mapping[str, Mapping[str, float]]) -> list[str]:
    """
    Return a line per project and shape, under a line per project.
    """
    if not runs:
        return ["no runs"]
    every = [row for run in runs for row in run["verdicts"]]
    seconds = [run["seconds"] for run in runs]
    lines = [
        f"{len(runs)} runs, {statistics.mean(seconds):.1f} s each ({min(seconds):.1f} to "
        f"{max(seconds):.1f}), on {counts(row['card'] for row in every)} verdicts"
    ]
    for project in dict.fromkeys(row["project"] for row in every):
        own = [row for row in every if row["project"] == project]
        lines.append(f"{project}: of {len(own)} {counts(row['status'] for row in own)}")
        lines += [holding(own)] if project == "unchanged" else []
        lines += [
            f"  {shape:7} {line_of([row for row in own if row['shape'] == shape])}"
            f"{size_said(sizes.get(f'{project} {shape}'))}"
            for shape in dict.fromkeys(row["shape"] for row in own)
        ]
    missing = Counter(note for row in every for note in row["notes"])
    return [*lines, *(f"{number} x {note}" for note, number in missing.most_common(5))]


def holding(rows: Sequence[Mapping[str, Any]]) -> str:
    """
    Return how many of the shown intervals of unchanged kernels hold no change: 95 % are meant.
    """
    shown = [row["change_interval"] for row in rows if row["change_interval"]]
    held = sum(low <= 0 <= high for low, high in shown)
    return f"  the interval holds no change in {held} of {len(shown)}"


if __name__ == "__main__":
    sys.exit(main())
