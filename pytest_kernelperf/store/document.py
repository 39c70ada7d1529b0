"""
The shape of a baseline file, its versions, and the way between its bytes and its document.

`docs/baseline-format.md` describes it for readers. msgspec checks types and names the place of what
is wrong; what types can't say is checked in `entries.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec

from pytest_kernelperf.errors import BaselineFormatError, BaselineVersionError
from pytest_kernelperf.model import Environment, Kernel, Plan
from pytest_kernelperf.store.layout import to_text

# Versions of the baseline file. A change that an older program would misread gets a new number, a
# line here, and a migration in `decode`.
#   1  first version
SCHEMA_VERSION = 1

CURE = "restore it from version control, or delete it and record it again with --kernelperf-update"


class RoundDocument(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """
    One round. `us` are its times; p50, p95 and p99 are for readers and ignored when read back.
    """

    us: str
    foreign: int = 0
    mhz: float | None = None
    nvml_mhz: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    throttle: tuple[str, ...] = ()
    w: float | None = None


class ProcessDocument(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """
    One process; `environment` is a key of the file's `environments`.
    """

    id: str
    started: str
    environment: str
    rounds: tuple[RoundDocument, ...]
    commit: str = ""
    mem_mhz: float | None = None
    who: str = ""


class ReferenceDocument(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """
    What is judged against.
    """

    plan: Plan
    method: str
    inputs: tuple[str, ...]
    processes: tuple[ProcessDocument, ...]
    kernels: tuple[Kernel, ...] = ()
    margins: dict[str, float] = {}


class LatestDocument(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """
    What was measured last. Absent fields, and processes that are only an id, are the reference's.
    """

    processes: tuple[ProcessDocument | str, ...]
    plan: Plan | None = None
    method: str | None = None
    inputs: tuple[str, ...] | None = None
    kernels: tuple[Kernel, ...] | None = None


class EntryDocument(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """
    One case.
    """

    reference: ReferenceDocument
    latest: LatestDocument | None = None


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """
    A whole baseline file.
    """

    schema_version: int
    entries: dict[str, EntryDocument] = {}
    environments: dict[str, Environment] = {}


class _Version(msgspec.Struct):
    schema_version: int


def decode(data: bytes, name: str) -> Document:
    """
    Return a baseline file's document, its types checked.

    Args:
        data: The file's bytes.
        name: What messages call the file.

    Raises:
        BaselineVersionError: If a newer program wrote it.
        BaselineFormatError: If it is damaged or not a baseline file.
    """
    try:
        version = msgspec.json.decode(data, type=_Version).schema_version
        check_version(version, SCHEMA_VERSION, name)
        document = msgspec.json.decode(data, type=Document)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BaselineFormatError(
            f"{name} is not a readable baseline file: {error}; expected a JSON object with "
            f"schema_version {SCHEMA_VERSION}, entries and environments; {CURE}"
        ) from error
    check_keys(data, name)
    return document


def check_keys(data: bytes, name: str) -> None:
    """
    Refuse a file in which one key stands twice: readers take the last and never tell.

    A merge that keeps both branches' baselines of one test leaves it so, and the next update would
    remove the one that was not read.

    Args:
        data: The file's bytes, which are JSON.
        name: What messages call the file.

    Raises:
        BaselineFormatError: For the first such key.
    """
    json.loads(data, object_pairs_hook=partial(_refuse_twins, name))


def _refuse_twins(name: str, pairs: Sequence[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise BaselineFormatError(
                f"{name} has {key!r} twice, as after a merge that kept both sides; expected it "
                f"once: keep one of them, or {CURE}"
            )
        seen.add(key)


def check_version(found: int, known: int, name: str) -> None:
    """
    Refuse a file of a version that this program does not know.

    Raises:
        BaselineVersionError: If it is newer.
        BaselineFormatError: If there never was such a version.
    """
    if found > known:
        raise BaselineVersionError(
            f"{name} has schema_version {found}; this kernelperf reads up to {known}; "
            f"install a newer pytest-kernelperf to read it (the file was left as it is)"
        )
    if found < 1:
        raise BaselineFormatError(
            f"{name} has schema_version {found}; expected 1 to {known}; {CURE}"
        )


def encode(document: Document) -> bytes:
    """
    Return the file's bytes: the same document always gives the same bytes.

    Environments that no process refers to are left out.
    """
    used = {
        process.environment
        for entry in document.entries.values()
        for process in _process_documents(entry)
    }
    plain = msgspec.to_builtins(document)
    for entry, stored in zip(plain["entries"].values(), document.entries.values(), strict=True):
        _shorten_kernels(entry["reference"], stored.reference.kernels)
        if stored.latest is not None and stored.latest.kernels is not None:
            _shorten_kernels(entry["latest"], stored.latest.kernels)
    plain["environments"] = {k: v for k, v in plain["environments"].items() if k in used}
    return to_text(plain, first="schema_version").encode()


def _process_documents(entry: EntryDocument) -> Iterable[ProcessDocument]:
    yield from entry.reference.processes
    for process in entry.latest.processes if entry.latest else ():
        if isinstance(process, ProcessDocument):
            yield process


def kernel_document(kernel: Kernel) -> dict[str, Any]:
    """
    Return a kernel's fields; those that came after the first version only where they say something.
    """
    every = asdict(kernel)
    always = ("name", "registers", "spills", "shared_bytes", "code_hash")
    return {name: value for name, value in every.items() if value or name in always}


def _shorten_kernels(plain: dict[str, Any], kernels: Iterable[Kernel]) -> None:
    if "kernels" in plain:
        plain["kernels"] = [kernel_document(kernel) for kernel in kernels]
