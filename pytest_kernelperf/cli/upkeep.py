"""
The commands that change baselines: `update`, `prune` and `rename`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from pytest_kernelperf import report
from pytest_kernelperf.cli.gates import Gates
from pytest_kernelperf.cli.parameters import baselines_option, root_of, runs_argument
from pytest_kernelperf.cli.terminal import echo, say_if_cut_off
from pytest_kernelperf.errors import KernelPerfError, OptionsError
from pytest_kernelperf.gate import Gate
from pytest_kernelperf.model import Case, Change, Recorded, UpdateMode
from pytest_kernelperf.store import selection
from pytest_kernelperf.store.anchor import find_folder_anchor
from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.runs import Run, read_run
from pytest_kernelperf.store.selection import AnyStored
from pytest_kernelperf.units import counted, listed


@click.command()
@runs_argument
@partial(baselines_option, exists=False)
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
    gates = Gates(baselines)
    read = [read_run(path) for path in runs]
    if baselines is None:
        _refuse_other_folder(read, gates)
    by_gate: dict[Gate, list[Recorded]] = {}
    for run in read:
        for record in _with_failures(run):
            by_gate.setdefault(gates.of(run, record), []).append(record)
    mode = UpdateMode(new_only, accept_regressions, begin_anew=baselines is not None)
    changes: list[Change] = []
    errors: list[KernelPerfError] = []
    for gate, recorded in by_gate.items():
        try:
            done = gate.update(recorded, mode)
        except KernelPerfError as error:
            errors.append(error)
            continue
        changes += done.changes
        echo(report.update_lines(done.changes))
        for path in done.written:
            click.echo(f"wrote {path}")
    for run in read:
        say_if_cut_off(run)
    if errors:
        raise errors[0] if len(errors) == 1 else KernelPerfError("\n".join(map(str, errors)))
    ctx.exit(1 if any(change.action == "refused" for change in changes) else 0)


@click.command()
@baselines_option
@click.option(
    "--tests",
    multiple=True,
    metavar="NAME",
    help="Remove what has this name (folder, file, file::test or key), lost or not. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def prune(baselines: Path | None, tests: Sequence[str], dry_run: bool) -> None:
    """
    Remove entries whose test file or test function is gone, on all cards and for all targets.
    """
    store = Baselines(root_of(baselines))
    entries = selection.all_entries(store)
    doomed = _named(entries, tests) if tests else _lost(entries, store.root)
    if not dry_run:
        selection.remove(store, [stored for stored, _ in doomed])
    verb = "would remove" if dry_run else "removed"
    for stored, why in doomed:
        click.echo(f"{verb} {stored.file}::{stored.key} ({stored.slug}): {why}")
    total = counted(len(entries), "entry", "entries")
    click.echo(f"kernelperf: {verb} {len(doomed)} of {total}")


@click.command()
@click.argument("old")
@click.argument("new")
@baselines_option
def rename(old: str, new: str, baselines: Path | None) -> None:
    """
    Give entries the new name of their test, on all cards and for all targets.

    OLD and NEW are two folders, two test files, two tests (file::test) or two keys.
    """
    store = Baselines(root_of(baselines))
    moves = selection.rename(store, old, new)
    for before, after in moves:
        click.echo(f"{before.file}::{before.key} -> {after.file}::{after.key} ({before.slug})")
    lost = selection.lost_tests((after for _, after in moves), _anchor_of(store.root))
    for why in dict.fromkeys(why for _, why in lost):
        click.echo(f"kernelperf: warning: {why}, so `kernelperf prune` would remove its baselines")
    click.echo(f"kernelperf: renamed {counted(len(moves), 'entry', 'entries')}")


def _refuse_other_folder(runs: Sequence[Run], gates: Gates) -> None:
    """
    Refuse to begin new baselines for what has some elsewhere: in the wrong folder all is new.
    """
    lost = [case for run in runs for case in gates.uncompared(run)]
    if lost:
        raise OptionsError(
            f"{listed([case.label for case in lost])} had a baseline when recorded and has none "
            f"here: name the folder that holds it with --baselines; if it was removed since, this "
            f"one, to begin anew"
        )


def _with_failures(run: Run) -> list[Recorded]:
    """
    Return a run's measurements; those of tests that it names as failed count as failed bodies.
    """
    return [
        replace(each, body_passed=False)
        if any(_is_of(nodeid, each.measurement.case) for nodeid in run.failed)
        else each
        for each in run.recorded
    ]


def _is_of(nodeid: str, case: Case) -> bool:
    # One is relative to pytest's root folder, the other to the anchor: either may lie deeper.
    file, _, test = nodeid.partition("::")
    deep, short = sorted((f"/{file}", f"/{case.file}"), key=len, reverse=True)
    return test == case.test and deep.endswith(short)


def _named(entries: Sequence[AnyStored], names: Sequence[str]) -> list[tuple[AnyStored, str]]:
    for name in names:
        if not any(selection.selects(name, stored) for stored in entries):
            cure = selection.nearest(name, entries)
            raise OptionsError(f"nothing is called {name!r}: {cure}")
    hit = [s for s in entries if any(selection.selects(name, s) for name in names)]
    return [(stored, "named by --tests") for stored in hit]


def _lost(entries: Sequence[AnyStored], root: Path) -> list[tuple[AnyStored, str]]:
    anchor = _anchor_of(root)
    lost = list(selection.lost_tests(entries, anchor))
    files = {stored.file for stored in entries}
    if files and not any((anchor / file).is_file() for file in files):
        raise OptionsError(
            f"none of the {len(files)} test files of {root} is below {anchor}; that looks like the "
            f"wrong folder, so nothing was removed; name what is to go with --tests"
        )
    return lost


def _anchor_of(root: Path) -> Path:
    """
    Return what the test files of a folder of baselines are relative to: it lies in their anchor.
    """
    return find_folder_anchor(root.absolute().parent)
