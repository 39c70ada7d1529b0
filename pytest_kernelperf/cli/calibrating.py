"""
The command `kernelperf calibrate`: parse, call, exit status.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import click

from pytest_kernelperf.analysis.proof import Proof, lost
from pytest_kernelperf.calibration.course import Course, Request
from pytest_kernelperf.calibration.folder import Asked, Folder
from pytest_kernelperf.calibration.summary import gather, proof_of, proof_of_all
from pytest_kernelperf.cli.parameters import root_of
from pytest_kernelperf.cli.terminal import look
from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.report.calibration import (
    calibration_json,
    calibration_plot,
    calibration_sentences,
    calibration_table,
)
from pytest_kernelperf.report.calibration_plot import can_draw, detection_svg
from pytest_kernelperf.store.anchor import slug
from pytest_kernelperf.store.calibrations import (
    calibration_path,
    encode_calibration,
    read_calibration,
    write_calibration,
)
from pytest_kernelperf.store.files import check_writable, write_bytes

#: Slowdowns that are injected unless others are asked for, percent.
SIZES = (1.0, 2.0, 3.0, 5.0, 10.0)
_DEFAULT_OUT = Path("kernelperf-calibration")
#: As a shell tells of a process that Ctrl-C ended.
_INTERRUPTED = 130


@click.command()
@click.argument("tests", nargs=-1, metavar="[TESTS]...")
@click.option("--processes", type=click.IntRange(8), default=12, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help=f"Records, table, plot, JSON; the same command goes on there. Default: {_DEFAULT_OUT}.",
)
@click.option("--budget-seconds", type=click.FloatRange(1), metavar="S", help="Stop in time.")
@click.option(
    "--sizes",
    metavar="PERCENT,...",
    help="Slowdowns to inject. Default: " + ",".join(f"{size:g}" for size in SIZES) + ".",
)
@click.option("--skip-injections", is_flag=True, help="Unchanged code only: false alarms, noise.")
@click.option(
    "--plans-of",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="FOLDER",
    help="Measure by the plans of an earlier calibration, so that two cards can be compared.",
)
@click.option("--summarise", is_flag=True, help="TESTS are folders of earlier calibrations.")
@click.option(
    "--baselines",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the result is kept. Default: baselines of the project of this folder.",
)
@click.option("--replace", is_flag=True, help="Keep the result in place of one that proves more.")
@click.pass_context
def calibrate(
    ctx: click.Context,
    tests: Sequence[str],
    processes: int,
    out: Path | None,
    budget_seconds: float | None,
    sizes: str | None,
    skip_injections: bool,
    plans_of: Path | None,
    summarise: bool,
    baselines: Path | None,
    replace: bool,
) -> None:
    """
    Prove the gate on this machine: false alarms, slowdowns found, noise.

    TESTS are paths and node ids as pytest takes them; without them a built-in set of a dozen
    kernels is measured. Each of the fresh processes measures them as they are and slowed by known
    amounts; the gate's own rule then judges every process against five others. With --summarise
    several folders (of several cards) are taken together.

    Exit status: 0, or 1 if unchanged code came out REGRESSED; 2 wrong usage; 130 interrupted.
    """
    root = root_of(baselines)
    if summarise:
        proof = _summarised(tests)
        out_folder = out
    else:
        out_folder = out or _DEFAULT_OUT
        wanted = _sizes(sizes, skip_injections)
        about = Asked(metadata.version("pytest-kernelperf"), tuple(tests), wanted)
        request = Request(about, processes, budget_seconds, plans_of)
        proof = _calibrated(ctx, out_folder, request)
    _show(proof)
    if out_folder is not None:
        _write(proof, out_folder)
    _keep(proof, root, replace=replace)
    ctx.exit(1 if proof.false_alarms.hits or proof.alarms_across_cards.hits else 0)


def _calibrated(ctx: click.Context, out: Path, request: Request) -> Proof:
    check_writable(out / "manifest.json")
    folder = Folder(out)
    with folder.held():
        try:
            Course(folder, request, _say).run()
        except KeyboardInterrupt:
            _say(
                f"interrupted: {len(folder.numbers())} of {request.processes} processes are "
                f"recorded in {out}; the same command goes on there"
            )
            ctx.exit(_INTERRUPTED)
    return proof_of(gather(folder))


def _summarised(folders: Sequence[str]) -> Proof:
    if not folders:
        raise OptionsError("--summarise needs the folders of earlier calibrations, got none")
    return proof_of_all([gather(Folder(Path(folder))) for folder in folders])


def _sizes(text: str | None, skip: bool) -> tuple[float, ...]:
    """
    Return the slowdowns to inject, as rising fractions.
    """
    if skip:
        if text:
            raise OptionsError("--sizes and --skip-injections: expected one of them, got both")
        return ()
    try:
        percents = [float(word) for word in text.split(",")] if text else list(SIZES)
    except ValueError:
        percents = []
    if not percents or not all(0 < percent <= 100 for percent in percents):
        raise OptionsError(
            f"--sizes: expected percents between 0 and 100 with commas, as in 1,2,5; got {text!r}"
        )
    return tuple(sorted({percent / 100 for percent in percents}))


def _say(text: str) -> None:
    click.echo(f"kernelperf: {text}")


def _show(proof: Proof) -> None:
    click.echo(calibration_table(proof, **look()))
    for block in (calibration_plot(proof), calibration_sentences(proof)):
        if block:
            click.echo(f"\n{block}")


def _write(proof: Proof, out: Path) -> None:
    """
    Write the proof and its plot into the calibration's folder.
    """
    write_bytes(out / "calibration.json", encode_calibration(proof))
    click.echo(f"wrote {out / 'calibration.json'}")
    summary = json.dumps(calibration_json(proof), indent=1, ensure_ascii=False) + "\n"
    write_bytes(out / "summary.json", summary.encode())
    click.echo(f"wrote {out / 'summary.json'}")
    if proof.power and can_draw():
        write_bytes(out / "detection.svg", detection_svg(proof).encode())
        click.echo(f"wrote {out / 'detection.svg'}")


def _keep(proof: Proof, root: Path, *, replace: bool) -> None:
    """
    Keep the proof beside the baselines, where it stands under every table from then on.

    Args:
        proof: The new one.
        root: Where baselines lie.
        replace: Also in place of one that proves more.
    """
    name = slug(proof.device_name)
    kept = None if replace else read_calibration(root, name)
    if kept is not None and (less := lost(kept, proof)):
        _say(
            f"{calibration_path(root, name)} stays as it was: it also proves {less}; to keep this "
            "result in its place, run the same command with --replace"
        )
        return
    click.echo(f"wrote {write_calibration(root, name, proof)}")
