"""
Which of the hazards that racecheck reports are ours, and which control kernels have, too.

A hazard is known by the instructions that take part: a read with the barrier behind which it
stands, a write with the barrier before which it stands. What is not found in the machine code, or
is reported in words that are not understood, counts as ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONTROL_PREFIX = "control_"  # of the names of the control kernels, `dispatch_control.py`

Listing = Sequence[tuple[int, str]]
Pair = frozenset["str | None"]

_HAZARD = re.compile(r"=+ (?:Error|Warning): Race reported between (.*)")
_FURTHER = re.compile(r"=+\s+and ((?:Read|Write|Atomic).*)")
_ACCESS = re.compile(r"(\w+) access at (\w+)\+0x([0-9a-f]+)")
_RECORD = re.compile(r"hazard detected|Thread \(|Current Value|SUMMARY|Error")
_SUMMARY = re.compile(r"RACECHECK SUMMARY: \d+ hazards? displayed \((\d+) errors?, (\d+) warning")
_INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?\w+\s+)?([^;]+?)\s*;")


@dataclass(frozen=True)
class Access:
    """
    One instruction that takes part in a hazard.

    Attributes:
        kind: "Read" or "Write"; "?" where the report was not understood.
        kernel: The kernel's name, or what the report says instead.
        offset: Bytes from the kernel's first instruction; -1 where not understood.
    """

    kind: str
    kernel: str
    offset: int


@dataclass(frozen=True)
class Hazard:
    """One record of the report: the access that it begins with, and those it races with."""

    first: Access
    others: tuple[Access, ...]

    @property
    def kernel(self) -> str:
        """The kernel in which it was found."""
        return self.first.kernel


@dataclass(frozen=True)
class Findings:
    """
    What a report comes to.

    Attributes:
        control: The control kernels' hazards, in words.
        shared: Hazards of other kernels whose every pair of accesses is one of a control's.
        ours: All others.
        complete: Whether the report's summary counts as many hazards as were read.
    """

    control: tuple[str, ...]
    shared: tuple[str, ...]
    ours: tuple[str, ...]
    complete: bool


def parsed(report: str) -> list[Hazard]:
    """Read the hazards in a report of `--racecheck-report analysis`."""
    found: list[list[Access]] = []
    for line in report.splitlines():
        if begin := _HAZARD.match(line):
            found.append([_access(begin[1])])
        elif found and (further := _FURTHER.match(line)):
            found[-1].append(_access(further[1]))
    return [Hazard(first, tuple(others)) for first, *others in found]


def records(report: str) -> list[str]:
    """Return what `--racecheck-report hazard` says of programs, threads and values; no stacks."""
    lines = (line.lstrip("= ") for line in report.splitlines() if line.startswith("====="))
    return [line for line in lines if _RECORD.search(line)]


def _access(words: str) -> Access:
    match = _ACCESS.match(words)
    if match is None:
        return Access("?", words.strip(), -1)
    return Access(match[1], match[2], int(match[3], 16))


def listing(disassembly: str) -> list[tuple[int, str]]:
    """Read (offset, instruction without predicate) from what `nvdisasm -c` prints of a kernel."""
    return [(int(at, 16), words) for at, words in _INSTRUCTION.findall(disassembly)]


def pattern(access: Access, instructions: Listing) -> str | None:
    """
    Describe an access by its instruction and the barrier that should order it.

    Args:
        access: What the report names.
        instructions: The kernel's machine code.

    Returns:
        For example "Read LDS.U8 behind BAR.SYNC 0x1"; None if there is no such instruction.
    """
    offsets = [offset for offset, _ in instructions]
    if access.offset not in offsets:
        return None
    here = offsets.index(access.offset)
    before = [words for _, words in instructions[:here]][::-1]
    after = [words for _, words in instructions[here + 1 :]]
    side, towards = ("before", after) if access.kind == "Write" else ("behind", before)
    barriers = (words for words in towards if words.startswith("BAR."))
    barrier = next(barriers, "no barrier").replace(".DEFER_BLOCKING", "")
    return f"{access.kind} {instructions[here][1].split()[0]} {side} {barrier}"


def judged(report: str, listings: Mapping[str, Listing]) -> Findings:
    """
    Tell our hazards from those that a control kernel has too.

    Args:
        report: All that racecheck printed.
        listings: The machine code by kernel.
    """
    hazards = parsed(report)
    pairs = {hazard: _pairs(hazard, listings) for hazard in hazards}
    in_control = [hazard for hazard in hazards if hazard.kernel.startswith(CONTROL_PREFIX)]
    known = set().union(*(pairs[hazard] for hazard in in_control))
    others = [hazard for hazard in hazards if hazard not in in_control]
    shared = [hazard for hazard in others if _explained(pairs[hazard], known)]
    ours = [hazard for hazard in others if not _explained(pairs[hazard], known)]
    summary = _SUMMARY.search(report)
    complete = summary is not None and int(summary[1]) + int(summary[2]) == len(hazards)
    said = (tuple(_said(one, pairs[one]) for one in group) for group in (in_control, shared, ours))
    return Findings(*said, complete)


def _pairs(hazard: Hazard, listings: Mapping[str, Listing]) -> frozenset[Pair]:
    first, *others = (
        pattern(access, listings.get(access.kernel, ()))
        for access in (hazard.first, *hazard.others)
    )
    return frozenset(frozenset((first, other)) for other in others)


def _explained(pairs: frozenset[Pair], known: set[Pair]) -> bool:
    return bool(pairs) and pairs <= known and not any(None in pair for pair in pairs)


def _said(hazard: Hazard, pairs: frozenset[Pair]) -> str:
    where = ", ".join(f"+{one.offset:#x}" for one in (hazard.first, *hazard.others))
    what = "; ".join(sorted(" with ".join(sorted(map(str, pair))) for pair in pairs))
    return f"{hazard.kernel} at {where}: {what or 'not understood'}"
