"""
What the compiler made of each test's kernels: `<root>/<target>/<test path>.json`.

It lies beside the cards' folders, under a name that no card can have: resources belong to a target
and take no GPU to make, times belong to a card.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pytest_kernelperf.errors import BaselineFormatError
from pytest_kernelperf.model import Kernel
from pytest_kernelperf.store import files
from pytest_kernelperf.store.document import CURE, check_keys, check_version, kernel_document
from pytest_kernelperf.store.layout import to_text

#: 1: first version.
SCHEMA_VERSION = 1

Kernels = tuple[Kernel, ...]
Changes = Mapping[str, Kernels | None]


@dataclass(frozen=True, slots=True)
class StoredKernels:
    """
    The compiled kernels of one call, and where they are stored.

    Attributes:
        slug: The target's folder.
        file: The test file.
        name: Of the test and the measurement, as in the file.
    """

    slug: str
    file: str
    name: str
    kernels: Kernels

    @property
    def key(self) -> str:
        """
        The name with what tells kernels from times of the same test, as `Case.key`.
        """
        return f"{self.name}{self.mode}"

    @property
    def mode(self) -> str:
        """
        How its key ends.
        """
        return f" | compile {self.slug} -"


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    schema_version: int
    kernels: dict[str, tuple[Kernel, ...]] = {}


class _Version(msgspec.Struct):
    schema_version: int


def is_target(folder: str) -> bool:
    """
    Return whether a folder of baselines holds resources of a target, not times of a card.
    """
    return re.fullmatch(r"sm_\d+", folder) is not None


def load_resources(root: Path, target: str, file: str) -> dict[str, Kernels]:
    """
    Return the stored kernels of a test file by test; empty if none are stored.

    Raises:
        BaselineFormatError: If the file can't be read; it is left as it is.
    """
    path = resources_path(root, target, file)
    data = files.read_bytes(path, "resources file")
    if data is None:
        return {}
    try:
        version = msgspec.json.decode(data, type=_Version).schema_version
        check_version(version, SCHEMA_VERSION, str(path))
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BaselineFormatError(
            f"{path} is not a readable resources file: {error}; expected a JSON object with "
            f"schema_version {SCHEMA_VERSION} and kernels; {CURE}"
        ) from error
    check_keys(data, str(path))
    return dict(document.kernels)


def store_resources(root: Path, target: str, file: str, changes: Changes) -> Path:
    """
    Add, replace or (None) remove the kernels of some tests; the others stay as they are.

    Returns:
        The file that holds them.

    Raises:
        BaselineFormatError: If the file can't be read; it is left as it is.
        BaselineWriteError: If it can't be written; it is left as it is.
    """
    return change_resources(root, target, file, lambda _stored: changes)


def change_resources(
    root: Path, target: str, file: str, decide: Callable[[Mapping[str, Kernels]], Changes]
) -> Path:
    """
    Like `store_resources`, with changes that depend on what is stored at that moment.

    Args:
        root: The folder of baselines.
        target: The target's folder.
        file: The test file.
        decide: Called under the lock with the kernels on disk; returns the changes.
    """
    path = resources_path(root, target, file)
    with files.locked(path):
        stored = load_resources(root, target, file)
        changes = decide(stored)
        if changes:
            merged = {**stored, **changes}
            _write(path, root, {name: those for name, those in merged.items() if those is not None})
    return path


def _write(path: Path, root: Path, kernels: Mapping[str, Kernels]) -> None:
    if not kernels:
        files.remove(path, root)
        return
    document = {
        "schema_version": SCHEMA_VERSION,
        "kernels": {name: list(map(kernel_document, kernels[name])) for name in kernels},
    }
    files.write_bytes(path, to_text(document, first="schema_version").encode())


def resources_path(root: Path, target: str, file: str) -> Path:
    """
    Return where a target's kernels of a test file are stored.
    """
    return files.path_for(root, target, file)
