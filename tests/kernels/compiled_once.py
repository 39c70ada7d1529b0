"""Compiles kernels in a child process, once for all tests of a run, however many workers it has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]


def compiled_once(program: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """
    Return what a program of this folder prints as JSON, without running it twice.

    A child, because this process may have defined its kernels for the interpreter. Workers of one
    run share the folder above their own temporary ones: the first there compiles, the others wait.

    Args:
        program: The file's name.
        tmp_path_factory: pytest's.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    answer = folder / f"{program}.json"
    with FileLock(f"{answer}.lock"):
        if not answer.exists():
            answer.write_text(_printed(Path(__file__).with_name(program)))
    return json.loads(answer.read_text())


def _printed(program: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    folders = (str(ROOT), str(ROOT / "tests"), environment.get("PYTHONPATH", ""))
    environment["PYTHONPATH"] = os.pathsep.join(folders)
    child = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, env=environment, check=False
    )
    assert child.returncode == 0, child.stderr[-3000:]
    return child.stdout
