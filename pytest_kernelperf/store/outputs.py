"""
Refuses output files that would replace what was measured: baselines, recorded runs, inputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.store.files import check_writable, read_bytes
from pytest_kernelperf.store.runs import is_run

#: What the files below a folder of baselines hold beside their version, and nothing else does.
_STORED_FIELDS = ("entries", "kernels", "proof")


def check_output(path: Path, inputs: Iterable[Path] = (), *, replaces_run: bool = False) -> None:
    """
    Refuse an output file that can't be written, or that would replace what was measured.

    Args:
        path: The file to be written.
        inputs: The files that the same command reads.
        replaces_run: Whether it is a run that is written: it may replace an earlier one.

    Raises:
        OptionsError: If a file is there that an output must not replace.
        BaselineWriteError: If it can't be written.
    """
    if not path.is_file():  # not there yet, or a device or pipe, which holds nothing to lose
        check_writable(path)
        return
    if any(each.exists() and each.samefile(path) for each in inputs):
        raise OptionsError(
            f"{path} is read by this command and would be replaced by its output; expected a file "
            "of its own; name another one"
        )
    data = read_bytes(path, "output file") or b""
    if _is_stored(data):
        raise OptionsError(
            f"{path} is a file of baselines, which this output would replace; expected a new file "
            "or an earlier output; name another one"
        )
    if not replaces_run and is_run(path):
        raise OptionsError(
            f"{path} is a recorded run, which this output would replace; expected a new file or an "
            "earlier output; name another one"
        )
    check_writable(path)


def _is_stored(data: bytes) -> bool:
    try:
        found = json.loads(data)
    except ValueError:
        return False
    if not isinstance(found, dict) or "kind" in found:
        return False
    return "schema_version" in found and any(name in found for name in _STORED_FIELDS)
