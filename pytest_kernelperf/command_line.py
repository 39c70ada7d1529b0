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

from pytest_kernelperf.errors import MisreadOutputError

if TYPE_CHECKING:
    import pytest

#: Options that name a file to write.
_OUTPUTS = ("--kernelperf-record", "--kernelperf-json")


def check_outputs_apart(config: pytest.Config) -> None:
    """
    Refuse an output file that led pytest to another ini file: the last run's, outside the project.

    Raises:
        MisreadOutputError: For the first such file.
    """
    if config.getoption("inifilename"):
        return
    given = config.invocation_params
    words = shlex.split(os.environ.get("PYTEST_ADDOPTS", "")) + [str(one) for one in given.args]
    for option, file in pairwise(words):
        path = Path(os.path.abspath(given.dir / file))
        if option in _OUTPUTS and path.exists() and not path.is_relative_to(given.dir):
            raise MisreadOutputError(
                f"{option} {file}: pytest takes the second word, a file outside of {given.dir}, "
                f"for a place of tests, and looks there for its ini file: write {option}={file}"
            )


def joined(words: Iterable[str]) -> list[str]:
    """
    Return a command line that means the same whether or not its output files are there by now.
    """
    rest = iter(words)
    return [f"{word}={next(rest, '')}" if word in _OUTPUTS else word for word in rest]
