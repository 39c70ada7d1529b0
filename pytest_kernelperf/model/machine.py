"""
What `kernelperf doctor` finds out about a machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Level(str, Enum):
    """
    What a finding about a machine means for measurements on it.

    OK: as it should be. NOTE: worth knowing, measurements are right. BAD: they can't be trusted.
    """

    OK = "OK"
    NOTE = "NOTE"
    BAD = "BAD"


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What one probe of a machine found, or why it found nothing.

    Attributes:
        facts: By name; empty where the probe does not apply.
        failure: The error, the time-out or the crash in words; "" if it went well.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing that `kernelperf doctor` says.

    Attributes:
        cure: What to do about it; "" if nothing.
    """

    topic: str
    level: Level
    text: str
    cure: str = ""
