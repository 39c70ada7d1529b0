"""
The ceilings that this user's cards reached, kept from one run to the next: one file, by card UUID.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from pytest_kernelperf.errors import BaselineFormatError, CeilingsError
from pytest_kernelperf.model import Ceilings
from pytest_kernelperf.store import files
from pytest_kernelperf.store.layout import to_text

# Versions of the file; an older program must refuse what it would misread.
#   1  first version
SCHEMA_VERSION = 1
CURE = "delete it, and measure the ceilings again with `kernelperf doctor --ceilings`"


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    schema_version: int
    cards: dict[str, Ceilings] = {}


class _Version(msgspec.Struct):
    schema_version: int


def default_path() -> Path:
    """
    Return the file in the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`).

    A user without a home, as in some containers, has it in the temporary folder.
    """
    # The XDG specification: a path that is not absolute counts as none.
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = named if named.is_absolute() else _home() / ".cache"
    return folder / "kernelperf" / "ceilings.json"


def read_ceilings(card: str, path: Path | None = None) -> Ceilings | None:
    """
    Return what a card reached, or None if nobody measured it.

    Args:
        card: Its UUID.
        path: The file; the user's own without it.

    Raises:
        CeilingsError: If the file can't be read: shares of guessed limits would be lies.
    """
    return _read(path or default_path()).cards.get(card)


def keep_ceilings(card: str, ceilings: Ceilings, path: Path | None = None) -> Path:
    """
    Store what a card reached, beside what other cards did.

    Returns:
        The file.

    Raises:
        CeilingsError: If the file that is there can't be read.
        BaselineWriteError: If it can't be written.
    """
    path = path or default_path()
    with files.locked(path):
        document = _read(path)
        document.cards[card] = ceilings
        text = to_text(msgspec.to_builtins(document), first="schema_version")
        files.write_bytes(path, text.encode())
    return path


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        return Path(tempfile.gettempdir())


def _read(path: Path) -> _Document:
    try:
        data = files.read_bytes(path, "ceilings file")
        if data is None:
            return _Document(SCHEMA_VERSION)
        version = msgspec.json.decode(data, type=_Version).schema_version
        if version != SCHEMA_VERSION:
            raise CeilingsError(
                f"{path} has schema_version {version}; expected {SCHEMA_VERSION}; {CURE}, or "
                "install the pytest-kernelperf that wrote it"
            )
        return msgspec.json.decode(data, type=_Document)
    except (BaselineFormatError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CeilingsError(f"{path} can't be read as ceilings: {error}; {CURE}") from error
