"""
The commands that judge and show: `judge`, `compare` and `show`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pytest_kernelperf import report
from pytest_kernelperf.cli.failing import Failing, failing_tests
from pytest_kernelperf.cli.gates import Gates
from pytest_kernelperf.cli.parameters import baselines_option, root_of, runs_argument
from pytest_kernelperf.cli.terminal import echo, look, rerun_command, say_if_cut_off
from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.model import FAILING, FAILING_STRICT
from pytest_kernelperf.side_by_side import compare_sides, read_side
from pytest_kernelperf.store.baselines import Baselines, Stored
from pytest_kernelperf.store.files import write_bytes
from pytest_kernelperf.store.ini import find_ini
from pytest_kernelperf.store.margins import decisive, noise_of
from pytest_kernelperf.store.outputs import check_output
from pytest_kernelperf.store.resources import load_resources
from pytest_kernelperf.store.runs import Run, is_run, read_run


@click.command()
@runs_argument
@baselines_option
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
        check_output(json_file, runs)
    if baselines is not None:
        Baselines(baselines).check_not_empty()
    gates = Gates(baselines)
    read = [read_run(path) for path in runs]
    judged = [gates.judge(run) for run in read]
    recorded = [each for run in judged for each in run.recorded]
    if not all(each.against for each in recorded):
        for root in (gate.baselines.root for gate in gates.all()):
            if not root.exists():
                click.echo(f"kernelperf: there is no folder {root}: nothing has a baseline")
    _echo_verdicts(judged)
    calibrations = {
        slug: proof for gate in gates.all() for slug, proof in gate.calibrations(recorded).items()
    }
    for slug, proof in calibrations.items():
        click.echo(f"kernelperf: {report.calibration_line(slug, proof)}")
    strict = strict or find_ini(Path.cwd()).strict
    failing = FAILING | FAILING_STRICT if strict else FAILING
    failures = [
        failing_tests(now, failing, gates.uncompared(was))
        for was, now in zip(read, judged, strict=True)
    ]
    _echo_unseen(judged, failures)
    failed_tests = tuple(dict.fromkeys(nodeid for each in failures for nodeid in each.tests))
    failed = bool(failed_tests) or _is_lacking(judged)
    click.echo(report.last_line([verdict for run in judged for verdict in run.verdicts]))
    if json_file is not None:
        text = report.run_json(
            recorded,
            [each for run in judged for each in run.comparisons],
            failed,
            independences=[each for run in judged for each in run.independences],
            failed_tests=failed_tests,
            calibrations=calibrations,
        )
        write_bytes(json_file, text.encode())
    ctx.exit(1 if failed else 0)


@click.command()
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
    echo(report.table(found.verdicts, **look()))
    echo(report.reasons(found.verdicts, rerun=rerun_command))
    for side, alone in zip(sides, (found.only_before, found.only_after), strict=True):
        for line in (*(f"only in {side.name}: {label}" for label in alone), *side.left_out):
            click.echo(f"kernelperf: {line}")
    click.echo(report.last_line(found.verdicts))
    ctx.exit(1 if any(each.judged and each.status in FAILING for each in found.verdicts) else 0)


@click.command()
@click.argument("where", required=False, type=click.Path(path_type=Path))
@baselines_option
def show(where: Path | None, baselines: Path | None) -> None:
    """
    Show baselines as tables: all, those of one file or folder, or a recorded run.
    """
    if where is not None and not where.exists():
        raise OptionsError(f"there is no {where}; expected a baseline file, a folder or a run")
    if where is not None and where.is_file() and is_run(where):
        run = read_run(where)
        _echo_verdicts([run])
        echo(report.first_launches(run.recorded))
        say_if_cut_off(run)
        click.echo(report.last_line(run.verdicts))
        return
    root, below = _shown(where, baselines)
    store = Baselines(root)
    shown = 0
    for slug in store.slugs():
        noise = noise_of(store, slug)
        for file in store.files(slug):
            if below in (path := store.path(slug, file), *path.parents):
                stored = (Stored(slug, file, *each) for each in store.load(slug, file).items())
                entries = {each.key: decisive(each, noise) for each in stored}
                echo(report.baseline_table(slug, file, entries, **look()))
                shown += 1
    for target in store.targets():
        for file in store.files(target):
            if below in (path := store.path(target, file), *path.parents):
                kernels = load_resources(root, target, file)
                echo(report.kernels_table(target, file, kernels, **look()))
                shown += 1
    if not shown:
        click.echo(f"no baselines in {below}")


def _echo_verdicts(runs: Sequence[Run]) -> None:
    tables = report.tables(
        [verdict for run in runs for verdict in run.tabled],
        [each for run in runs for each in run.comparisons],
        [each for run in runs for each in run.independences],
        **look(),
    )
    limits = report.limits_lines(each.measurement for run in runs for each in run.recorded)
    verdicts = [verdict for run in runs for verdict in run.verdicts]
    revisions = {
        each.measurement.case: each.against.commit[:12]
        for run in runs
        for each in run.recorded
        if each.against
    }
    reasons = report.reasons(
        verdicts, rerun=lambda verdict: rerun_command(verdict, revisions.get(verdict.case, ""))
    )
    blocks = (tables, limits, reasons)
    echo("\n\n".join(block for block in blocks if block))


def _echo_unseen(runs: Sequence[Run], failures: Sequence[Failing]) -> None:
    """
    Say what the verdicts don't show.
    """
    for run in runs:
        say_if_cut_off(run)
    for line in dict.fromkeys(line for each in failures for line in each.lines()):
        click.echo(f"kernelperf: {line}")
    if all(map(_is_empty, runs)):
        click.echo("kernelperf: the run holds no measurement")


def _is_lacking(runs: Sequence[Run]) -> bool:
    return all(map(_is_empty, runs)) or not all(run.complete for run in runs)


def _is_empty(run: Run) -> bool:
    return not (run.recorded or run.comparisons or run.independences)


def _shown(where: Path | None, baselines: Path | None) -> tuple[Path, Path]:
    """
    Return the root of the baselines and the file or folder in it that is to be shown.
    """
    root = root_of(baselines)
    if where is None:
        return root, root
    if baselines is None and root.absolute() not in (where.absolute(), *where.absolute().parents):
        named = [p for p in (where.absolute(), *where.absolute().parents) if p.name == "baselines"]
        root = named[0] if named else where
    if baselines is None and root == where and where.is_file():
        raise OptionsError(f"{where} is in no folder called baselines; name it with --baselines")
    return root.absolute(), where.absolute()
