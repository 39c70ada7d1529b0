"""
A card model's calibration beside its baselines: `<root>/<slug>.calibration.json`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pytest_kernelperf.analysis.proof import Proof
from pytest_kernelperf.errors import BaselineFormatError
from pytest_kernelperf.store.document import check_version
from pytest_kernelperf.store.files import read_bytes, write_bytes

# Versions of the calibration file.
#   1  first version
CALIBRATION_SCHEMA_VERSION = 1

_CURE = (
    "expected what `kernelperf calibrate` wrote; calibrate with --replace, or move the file away"
)


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    schema_version: int
    proof: Proof


def calibration_path(root: Path, slug: str) -> Path:
    """
    Return where a card model's calibration is kept: beside its folder, which holds baselines only.
    """
    return root / f"{slug}.calibration.json"


def encode_calibration(proof: Proof) -> bytes:
    """
    Return the file's content; the same proof gives the same bytes.
    """
    data = msgspec.json.encode(_Document(CALIBRATION_SCHEMA_VERSION, proof))
    return msgspec.json.format(data, indent=1) + b"\n"


def write_calibration(root: Path, slug: str, proof: Proof) -> Path:
    """
    Keep a calibration, wholly or not at all; returns where.

    Raises:
        BaselineWriteError: If it can't be written.
    """
    path = calibration_path(root, slug)
    write_bytes(path, encode_calibration(proof))
    return path


def read_calibration(root: Path, slug: str) -> Proof | None:
    """
    Return a card model's calibration, or None if there is none.

    Raises:
        BaselineFormatError: If it can't be read.
        BaselineVersionError: If a newer program wrote it.
    """
    path = calibration_path(root, slug)
    data = read_bytes(path, "calibration")
    if data is None:
        return None
    try:
        check_version(msgspec.json.decode(data, type=dict)["schema_version"], 1, str(path))
        return msgspec.json.decode(data, type=_Document).proof
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError) as error:
        raise BaselineFormatError(f"calibration {path} can't be read: {error}; {_CURE}") from error
