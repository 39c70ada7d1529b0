"""
Reads the words of a command line as pytest does before it knows what our options are.

pytest looks for its ini file above every word that exists as a file, also where the word is an
option's value: https://docs.pytest.org/en/stable/reference/customize.html#finding-the-rootdir
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kernelperf.errors import MisreadPathError

if TYPE_CHECKING:
    import pytest

#: Options that name a file or folder.
_PATHS = ("--kernelperf-record", "--kernelperf-json", "--kernelperf-baselines")


def check_paths_apart(config: pytest.Config) -> None:
    """
    Refuse a path that led pytest to another ini file, such as the last run's record elsewhere.

    Raises:
        MisreadPathError: For the first such path.
    """
    if config.getoption("inifilename"):
        return
    given = config.invocation_params
    words = shlex.split(os.environ.get("PYTEST_ADDOPTS", "")) + [str(one) for one in given.args]
    for option, value in pairwise(words):
        path = Path(os.path.abspath(given.dir / value))
        if option in _PATHS and path.exists() and not path.is_relative_to(given.dir):
            raise MisreadPathError(
                f"{option} {value}: pytest takes the second word, outside of {given.dir}, "
                f"for a place of tests, and looks there for its ini file: write {option}={value}"
            )


def joined(words: Iterable[str]) -> list[str]:
    """
    Return a command line that means the same whether or not its paths exist by now.
    """
    rest = iter(words)
    return [f"{word}={next(rest, '')}" if word in _PATHS else word for word in rest]
