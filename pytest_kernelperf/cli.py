"""
The `kernelperf` command: parse, call, exit status.

Exit status: 0 nothing failed, 1 a failing verdict or a refused update, 2 wrong usage or a file that
can't be read or written.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from pytest_kernelperf import report
from pytest_kernelperf.calibration.command import calibrate
from pytest_kernelperf.cli_resources import resources
from pytest_kernelperf.doctor import doctor
from pytest_kernelperf.errors import KernelPerfError, OptionsError
from pytest_kernelperf.gate import Gate
from pytest_kernelperf.model import (
    FAILING,
    FAILING_STRICT,
    UpdateMode,
    Verdict,
)
from pytest_kernelperf.report.validation import render as render_validation
from pytest_kernelperf.side_by_side import compare_sides, read_side
from pytest_kernelperf.store import selection
from pytest_kernelperf.store.anchor import find_folder_anchor
from pytest_kernelperf.store.baselines import Baselines, Stored
from pytest_kernelperf.store.files import check_writable, write_bytes
from pytest_kernelperf.store.runs import Run, is_run, read_run
from pytest_kernelperf.units import counted

#: What a table gets where the output is no terminal: wide enough for all columns.
PIPE_WIDTH = 160

Function = TypeVar("Function", bound=Callable[..., Any])


class _Refusal(click.ClickException):
    exit_code = 2


class _Group(click.Group):
    """
    Turns errors that are said on purpose into a message and exit status 2.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KernelPerfError as error:
            raise _Refusal(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pytest-kernelperf", prog_name="kernelperf")
def main() -> None:
    """
    Judge recorded kernel measurements and look after their baselines.

    Exit status: 0 nothing failed, 1 a failing verdict or a refused update, 2 wrong usage or a file
    that can't be read or written.
    """


main.add_command(calibrate)
main.add_command(resources)


def _runs_argument(function: Function) -> Function:
    return click.argument(
        "runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path)
    )(function)


def _baselines_option(function: Function, *, exists: bool = True) -> Function:
    # A slip in the folder's name would pass everything for want of a baseline.
    return click.option(
        "--baselines",
        type=click.Path(path_type=Path, exists=exists),
        metavar="DIR",
        help="Baselines folder. Default: baselines below the nearest folder with a project file.",
    )(function)


@main.command()
@_runs_argument
@_baselines_option
@click.option("--strict", is_flag=True, help="Fail also where nothing could be judged.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write verdicts."
)
@click.pass_context
def judge(
    ctx: click.Context,
    runs: Sequence[Path],
    baselines: Path | None,
    strict: bool,
    json_file: Path | None,
) -> None:
    """
    Judge recorded runs against baselines, as pytest --kernelperf would; needs no GPU.
    """
    if json_file is not None:
        check_writable(json_file)
    gate = Gate(_root(baselines))
    gate.check_all()
    judged = [gate.judge_run(read_run(path)) for path in runs]
    recorded = [each for run in judged for each in run.recorded]
    verdicts = [verdict for run in judged for verdict in run.verdicts]
    _echo_verdicts(judged)
    calibrations = gate.calibrations(recorded)
    for slug, proof in calibrations.items():
        click.echo(f"kernelperf: {report.calibration_line(slug, proof)}")
    failed = _said_failures(judged, verdicts, strict=strict)
    click.echo(report.last_line(verdicts))
    if json_file is not None:
        text = report.run_json(
            recorded,
            [each for run in judged for each in run.comparisons],
            failed,
            independences=[each for run in judged for each in run.independences],
            calibrations=calibrations,
        )
        write_bytes(json_file, text.encode())
    ctx.exit(1 if failed else 0)


@main.command()
@_runs_argument
@partial(_baselines_option, exists=False)
@click.option("--new-only", is_flag=True, help="Add only what has no baseline yet.")
@click.option("--accept-regressions", is_flag=True, help="Let a reference become slower.")
@click.pass_context
def update(
    ctx: click.Context,
    runs: Sequence[Path],
    baselines: Path | None,
    new_only: bool,
    accept_regressions: bool,
) -> None:
    """
    Accept recorded runs into the baselines and show the difference.

    Several runs of one case are joined into one measurement with all their processes.
    """
    if new_only and accept_regressions:
        raise click.UsageError("--new-only moves no reference: leave out --accept-regressions")
    gate = Gate(_root(baselines))
    gate.check_all()
    read = [read_run(path) for path in runs]
    recorded = [record for run in read for record in run.recorded]
    done = gate.update(recorded, UpdateMode(new_only, accept_regressions))
    _echo(report.update_lines(done.changes))
    for path in done.written:
        click.echo(f"wrote {path}")
    for run in read:
        _echo(_incomplete(run))
    ctx.exit(1 if any(change.action == "refused" for change in done.changes) else 0)


@main.command()
@click.argument("where", required=False, type=click.Path(path_type=Path))
@_baselines_option
def show(where: Path | None, baselines: Path | None) -> None:
    """
    Show baselines as tables: all, those of one file or folder, or a recorded run.
    """
    if where is not None and not where.exists():
        raise OptionsError(f"there is no {where}; expected a baseline file, a folder or a run")
    if where is not None and where.is_file() and is_run(where):
        run = read_run(where)
        _echo_verdicts([run])
        _echo(report.first_launches(run.recorded))
        _echo(_incomplete(run))
        click.echo(report.last_line(run.verdicts))
        return
    root, below = _shown(where, baselines)
    store = Baselines(root)
    shown = 0
    for slug in store.slugs():
        for file in store.files(slug):
            if below in (path := store.path(slug, file), *path.parents):
                entries = store.load(slug, file)
                _echo(report.baseline_table(slug, file, entries, width=_width(), color=_color()))
                shown += 1
    if not shown:
        click.echo(f"no baselines in {below}")


@main.command()
@click.argument("before", metavar="A", type=click.Path(path_type=Path))
@click.argument("after", metavar="B", type=click.Path(path_type=Path))
@click.pass_context
def compare(ctx: click.Context, before: Path, after: Path) -> None:
    """
    Judge B against A case by case; each is a recorded run or baselines (a folder or a file of it).

    `judge` asks whether a run may pass; this asks what changed between two states.
    """
    sides = read_side(before), read_side(after)
    found = compare_sides(*sides)
    _echo(report.table(found.verdicts, width=_width(), color=_color()))
    _echo(report.reasons(found.verdicts, rerun=_rerun))
    for side, alone in zip(sides, (found.only_before, found.only_after), strict=True):
        for line in (*(f"only in {side.name}: {label}" for label in alone), *side.left_out):
            click.echo(f"kernelperf: {line}")
    click.echo(report.last_line(found.verdicts))
    ctx.exit(1 if any(each.judged and each.status in FAILING for each in found.verdicts) else 0)


@main.command()
@_baselines_option
@click.option(
    "--tests",
    multiple=True,
    metavar="NAME",
    help="Remove what has this name (folder, file, file::test or key), lost or not. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def prune(baselines: Path | None, tests: Sequence[str], dry_run: bool) -> None:
    """
    Remove entries whose test file or test function is gone, on all cards.
    """
    store = Baselines(_root(baselines))
    entries = selection.all_entries(store)
    doomed = _named(entries, tests) if tests else _lost(entries, store.root)
    if not dry_run:
        selection.remove(store, [stored for stored, _ in doomed])
    verb = "would remove" if dry_run else "removed"
    for stored, why in doomed:
        click.echo(f"{verb} {stored.file}::{stored.key} ({stored.slug}): {why}")
    total = counted(len(entries), "entry", "entries")
    click.echo(f"kernelperf: {verb} {len(doomed)} of {total}")


@main.command()
@click.argument("old")
@click.argument("new")
@_baselines_option
def rename(old: str, new: str, baselines: Path | None) -> None:
    """
    Give entries the new name of their test, on all cards.

    OLD and NEW are two folders, two test files, two tests (file::test) or two keys.
    """
    moves = selection.rename(Baselines(_root(baselines)), old, new)
    for before, after in moves:
        click.echo(f"{before.file}::{before.key} -> {after.file}::{after.key} ({before.slug})")
    click.echo(f"kernelperf: renamed {counted(len(moves), 'entry', 'entries')}")


@main.command("report")
@_runs_argument
@click.option(
    "--validation",
    is_flag=True,
    required=True,
    help="Environment, times, correctness, comparison, method, and what was not measured.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write there, not on the terminal.",
)
@click.option(
    "--beside",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON file of earlier figures, shown beside these.",
)
def write_report(
    runs: Sequence[Path], validation: bool, out: Path | None, beside: Path | None
) -> None:
    """
    Write a report of recorded runs as Markdown; several runs are pooled case by case.
    """
    earlier = _read_object(beside) if beside is not None else None
    text = render_validation([read_run(path) for path in runs], beside=earlier)
    if out is None:
        _echo(text)
    else:
        write_bytes(out, text.encode())
        click.echo(f"wrote {out}")


main.add_command(doctor)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionsError(f"{path} can't be read: {error}; expected a JSON object") from error
    if not isinstance(found, dict):
        raise OptionsError(f"{path} holds a {type(found).__name__}; expected a JSON object")
    return found


def _root(baselines: Path | None) -> Path:
    return baselines if baselines is not None else find_folder_anchor(Path.cwd()) / "baselines"


def _echo_verdicts(runs: Sequence[Run]) -> None:
    tables = report.tables(
        [verdict for run in runs for verdict in run.tabled],
        [each for run in runs for each in run.comparisons],
        [each for run in runs for each in run.independences],
        width=_width(),
        color=_color(),
    )
    limits = report.limits_lines(each.measurement for run in runs for each in run.recorded)
    verdicts = [verdict for run in runs for verdict in run.verdicts]
    blocks = (tables, limits, report.reasons(verdicts, rerun=_rerun))
    _echo("\n\n".join(block for block in blocks if block))


def _said_failures(runs: Sequence[Run], verdicts: Sequence[Verdict], *, strict: bool) -> bool:
    """
    Say what the verdicts don't show, and return whether anything failed.
    """
    for run in runs:
        _echo(_incomplete(run))
    recorded = [record for run in runs for record in run.recorded]
    is_empty = not any(run.recorded or run.comparisons or run.independences for run in runs)
    broken = [record.measurement.case.label for record in recorded if not record.body_passed]
    for label in dict.fromkeys(broken):
        click.echo(f"kernelperf: {label} failed in its own body when it was recorded")
    unseen = list(dict.fromkeys(nodeid for run in runs for nodeid in run.failed))
    for nodeid in unseen:
        click.echo(
            f"kernelperf: {nodeid} failed when it was recorded, and no measurement tells why"
        )
    if is_empty:
        click.echo("kernelperf: the run holds no measurement")
    failing = FAILING | FAILING_STRICT if strict else FAILING
    slow = any(verdict.judged and verdict.status in failing for verdict in verdicts)
    cut_off = strict and (is_empty or not all(run.complete for run in runs))
    return slow or bool(broken or unseen) or cut_off


def _incomplete(run: Run) -> str:
    if run.complete:
        return ""
    return (
        f"kernelperf: {run.name} was cut off: it holds "
        f"{counted(len(run.recorded), 'measurement')}, what should have followed is missing"
    )


def _rerun(verdict: Verdict) -> str:
    test = shlex.quote(f"{verdict.case.file}::{verdict.case.test}")
    return f"python -m pytest {test} --kernelperf"


def _named(entries: Sequence[Stored], names: Sequence[str]) -> list[tuple[Stored, str]]:
    for name in names:
        if not any(selection.selects(name, stored) for stored in entries):
            raise OptionsError(
                f"nothing is called {name!r}; expected a folder, a test file, file::test or a key "
                f"that `kernelperf show` lists"
            )
    hit = [s for s in entries if any(selection.selects(name, s) for name in names)]
    return [(stored, "named by --tests") for stored in hit]


def _lost(entries: Sequence[Stored], root: Path) -> list[tuple[Stored, str]]:
    # Test files are relative to the anchor, and the folder of baselines lies in it.
    anchor = find_folder_anchor(root.absolute().parent)
    lost = list(selection.lost_tests(entries, anchor))
    files = {stored.file for stored in entries}
    if files and not any((anchor / file).is_file() for file in files):
        raise OptionsError(
            f"none of the {len(files)} test files of {root} is below {anchor}; that looks like the "
            f"wrong folder, so nothing was removed; name what is to go with --tests"
        )
    return lost


def _shown(where: Path | None, baselines: Path | None) -> tuple[Path, Path]:
    """
    Return the root of the baselines and the file or folder in it that is to be shown.
    """
    root = _root(baselines)
    if where is None:
        return root, root
    if baselines is None and root.absolute() not in (where.absolute(), *where.absolute().parents):
        named = [p for p in (where.absolute(), *where.absolute().parents) if p.name == "baselines"]
        root = named[0] if named else where
    if root == where and where.is_file():
        raise OptionsError(f"{where} is in no folder called baselines; name it with --baselines")
    return root.absolute(), where.absolute()


def _echo(text: str) -> None:
    if text:
        click.echo(text.rstrip("\n"))


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH


def _color() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ
