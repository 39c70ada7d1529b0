"""
Tells a card's processes apart: those of this test run, and strangers.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

#: A run that measures in several processes names them here, its own first, with commas: they (and
#: their children) hold contexts on the card and wait while another of them measures.
FAMILY = "KERNELPERF_PIDS"
#: When the turn of the one that measures began, in seconds on the clock of `time.monotonic`, which
#: all processes of a machine share.
TURN = "KERNELPERF_TURN"
_MOST_ANCESTORS = 32


def begin_turn(family: Iterable[int]) -> None:
    """
    Name a run's processes, of which only this one computes from now on.
    """
    os.environ[FAMILY] = ",".join(map(str, family))
    os.environ[TURN] = str(time.monotonic())


def end_turns() -> None:
    """
    Forget the run's other processes: they have ended.
    """
    os.environ.pop(FAMILY, None)
    os.environ.pop(TURN, None)


def turn_age_s() -> float:
    """
    Return for how long only this process of its run has computed.
    """
    began = os.environ.get(TURN)
    return time.monotonic() - float(began) if began else math.inf


@dataclass(frozen=True)
class Neighbours:
    """
    The processes that are on a card.

    Attributes:
        strangers: Certainly not of this run; unknown in a container that shows other numbers.
        unnamed: Processes under numbers that mean nothing here; ours are among them.
        ours: How many of the unnamed may be ours. One of them computes, as the run's processes take
            turns.
    """

    strangers: frozenset[int] = frozenset()
    unnamed: frozenset[int] = frozenset()
    ours: int = 1

    @classmethod
    def around(cls, pids: Iterable[int]) -> Neighbours:
        """
        Sort the processes that the driver names, as seen from this one.
        """
        found = frozenset(pids)
        family = {os.getpid(), *_named_family()}
        if os.getpid() not in found:
            # The driver shows the host's numbers, and ours is one of them.
            return cls(unnamed=found, ours=len(family))
        return cls(frozenset(pid for pid in found if not _belongs(pid, family)))

    @property
    def is_alone(self) -> bool:
        """
        Whether nobody is there but this process, and those known as ours.
        """
        return not self.strangers and len(self.unnamed) <= 1

    def count(self, busy: Collection[int] | None = None) -> int:
        """
        Return how many are foreign: too few is right, a false alarm is not.

        Args:
            busy: Those that computed; None = all.
        """
        strangers = self.strangers if busy is None else self.strangers & set(busy)
        if busy is None:
            return len(strangers) + max(len(self.unnamed) - self.ours, 0)
        return len(strangers) + max(len(self.unnamed & set(busy)) - 1, 0)


def _named_family() -> set[int]:
    names = os.environ.get(FAMILY, "").split(",")
    return {int(name) for name in names if name.strip().isdecimal()}


def _belongs(pid: int, family: Collection[int]) -> bool:
    """
    Return whether a process or one of its ancestors is one of the family.
    """
    for _ in range(_MOST_ANCESTORS):
        if pid in family:
            return True
        pid = _parent(pid)
        if pid <= 1:
            break
    return False


def _parent(pid: int) -> int:
    """
    Return a process's parent, 0 where the system does not say.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The name, in brackets, may hold anything; the parent is the second word after it.
        return int(text.rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
