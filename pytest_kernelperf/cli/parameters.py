"""
What several commands take: recorded runs, and the folder of baselines.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pytest_kernelperf.store.anchor import find_folder_anchor
from pytest_kernelperf.store.ini import find_ini

Function = TypeVar("Function", bound=Callable[..., Any])


def runs_argument(function: Function) -> Function:
    """
    Give a command recorded runs as its arguments.
    """
    return click.argument(
        "runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path)
    )(function)


def baselines_option(function: Function, *, exists: bool = True) -> Function:
    """
    Give a command the option that names the folder of baselines.
    """
    # A slip in the folder's name would pass everything for want of a baseline.
    return click.option(
        "--baselines",
        type=click.Path(path_type=Path, exists=exists),
        metavar="DIR",
        help="Baselines folder. Default: the ini file's, or baselines beside the project file.",
    )(function)


def root_of(baselines: Path | None, inner: str = "") -> Path:
    """
    Return the folder of baselines that was named, or the one of the project around.

    Args:
        baselines: As named on the command line.
        inner: A project's folder inside the one around; "" = that one itself.
    """
    here = Path.cwd()
    named = baselines or find_ini(here).baselines
    if named:
        return named
    anchor = find_folder_anchor(here)
    # Started in the inner project itself, there is no such folder below.
    return (anchor / inner if (anchor / inner).is_dir() else anchor) / "baselines"
