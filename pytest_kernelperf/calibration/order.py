"""
What calibrate tells its processes and what they hand back: orders, dialled slowdowns, names.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pytest_kernelperf.calibration.slowdowns import Dialling
from pytest_kernelperf.model import Measurement

#: Holds an `Order` as JSON.
VARIABLE = "KERNELPERF_CALIBRATION_ORDER"


class Order(msgspec.Struct, frozen=True):
    """
    What one process is to do besides measuring the tests.

    Attributes:
        sizes: Slowdowns to dial, as fractions; empty where they are dialled already.
        dialled: The file of dialled slowdowns: written where `sizes` are given, else read.
        record: The record of slowed measurements; "" for none.
        seed: Of the order in which tests and sizes are measured.
        turn: Descriptor of the connection by which it is told to begin; None: at once.
    """

    dialled: str
    sizes: tuple[float, ...] = ()
    record: str = ""
    seed: int = 0
    turn: int | None = None


class CaseDiallings(msgspec.Struct, frozen=True):
    """
    The dialled slowdowns of one case.

    Attributes:
        time_us: Its P50 when they were dialled; the way to slow follows from it.
        found: By rising size.
        missing: Why a size has none.
    """

    time_us: float
    found: tuple[Dialling, ...] = ()
    missing: tuple[str, ...] = ()


Diallings = dict[str, CaseDiallings]


def case_key(measurement: Measurement) -> str:
    """
    Return the case's key, with its file: the key of its dialled slowdowns.
    """
    return f"{measurement.case.file}::{measurement.case.key}"


def slowed_name(name: str, size: float) -> str:
    """
    Return the measurement's name under which a slowed one is recorded.
    """
    return f"{name} +{100 * size:g}%".strip()


def read_diallings(path: Path) -> Diallings:
    """
    Return dialled slowdowns; none where there is no such file.
    """
    if not path.exists():
        return {}
    return msgspec.json.decode(path.read_bytes(), type=Diallings)
