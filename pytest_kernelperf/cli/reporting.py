"""
The command that writes a report: `report`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pytest_kernelperf.cli.parameters import runs_argument
from pytest_kernelperf.cli.terminal import echo
from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.report.validation import render as render_validation
from pytest_kernelperf.store.files import write_bytes
from pytest_kernelperf.store.outputs import check_output
from pytest_kernelperf.store.runs import read_run


@click.command("report")
@runs_argument
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
    if out is not None:
        check_output(out, (*runs, *([beside] if beside is not None else [])))
    earlier = _read_object(beside) if beside is not None else None
    text = render_validation([read_run(path) for path in runs], beside=earlier)
    if out is None:
        echo(text)
    else:
        write_bytes(out, text.encode())
        click.echo(f"wrote {out}")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionsError(f"{path} can't be read: {error}; expected a JSON object") from error
    if not isinstance(found, dict):
        raise OptionsError(f"{path} holds a {type(found).__name__}; expected a JSON object")
    return found
