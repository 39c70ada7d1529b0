"""
How the commands write: widths, colours, and lines that several of them say.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import TypedDict

import click

from pytest_kernelperf.model import Verdict
from pytest_kernelperf.store.runs import Run
from pytest_kernelperf.units import counted

#: What a table gets where the output is no terminal: wide enough for all columns.
PIPE_WIDTH = 160


class Look(TypedDict):
    """
    How a table is drawn.
    """

    width: int
    color: bool


def look() -> Look:
    """
    Return how tables are drawn where the output goes.
    """
    is_terminal = sys.stdout.isatty()
    return {
        "width": shutil.get_terminal_size().columns if is_terminal else PIPE_WIDTH,
        "color": is_terminal and "NO_COLOR" not in os.environ,
    }


def echo(text: str) -> None:
    """
    Write a block of text, if there is any.
    """
    if text:
        click.echo(text.rstrip("\n"))


def say_if_cut_off(run: Run) -> None:
    """
    Say that a run is not all there, if it is not.
    """
    if not run.complete:
        click.echo(
            f"kernelperf: {run.name} was cut off: it holds "
            f"{counted(len(run.recorded), 'measurement')}, what should have followed is missing"
        )


def rerun_command(verdict: Verdict, revision: str = "") -> str:
    """
    Return the command that measures a verdict's test again.

    Args:
        verdict: Of the test.
        revision: What it was compared with; "" = baselines.
    """
    test = shlex.quote(f"{verdict.case.file}::{verdict.case.test}")
    against = f" --kernelperf-against {shlex.quote(revision)}" if revision else ""
    return f"python -m pytest {test} --kernelperf{against}"
