"""
Proves from PTX that barriers order all that Triton's dispatch of warp groups reads and writes.

The first warps write a state, one byte for each other warp; each of those reads its byte, does what
the byte says, and comes back for the next one. Barrier 1, without a number of threads, waits for
all threads of the program. So an access behind `a` of its instances happens before one behind
`b` > `a`, and a race needs a write and another access behind equally many. Every path of every warp
is followed here, with the bytes as the first warps write them. What the proof takes from PTX, and
checks, is that no warp ends before the others and that no other barrier has that number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

MAIN_WARPS = 4
# A warp passes few instances; a dispatch that never ends would pass ever more of them.
MOST_INSTANCES = 64

_LABEL = re.compile(r"\$L\w+")
_TABLE = re.compile(r"(\$L\w+): \.branchtargets([^;]*);")
_BOUND = re.compile(
    r"ld\.shared\.b8 (%r\d+), .*; setp\.gt\.u32 (%p\d+), \1, (?P<most>\d+); @\2 bra \$L\w+"
)
_WRITE = re.compile(r"st\.shared\.(?:v\d\.)?b32 \[global_smem(?:\+(\d+))?\], \{?([-\d, ]+)\}?$")
_THREADS = re.compile(r"\.reqntid (\d+)")


@dataclass(frozen=True)
class Order:
    """
    Behind how many instances of the barrier the warps of a program do what concerns the dispatch.

    Attributes:
        writes: The first warps' writes of the state.
        reads: All reads of the state.
        exits: The ends of all warps.
    """

    writes: frozenset[int]
    reads: frozenset[int]
    exits: frozenset[int]

    @property
    def proven(self) -> bool:
        """Whether no write may meet a read, and no warp is waited for that has ended."""
        return not self.writes & self.reads and len(self.exits) == 1


@dataclass
class _Seen:
    """What one warp does, and behind how many instances."""

    writes: dict[int, dict[int, int]] = field(default_factory=dict)
    reads: set[int] = field(default_factory=set)
    exits: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Program:
    lines: tuple[str, ...]
    labels: dict[str, int]
    tables: dict[str, list[str]]

    @cached_property
    def first_branch(self) -> int:
        return next(at for at, line in enumerate(self.lines) if re.match(r"@\S+ bra", line))

    def follow(self, warp: int, state: list[tuple[int, dict[int, int]]]) -> _Seen:
        """Take every path of a warp; `state` is what is written, by number of instances before."""
        seen = _Seen()
        todo, done = [(0, 0, -1)], set()  # line, instances passed, byte read last
        while todo:
            here = todo.pop()
            if here in done:
                continue
            done.add(here)
            at, passed, byte = here
            line = self.lines[at]
            if line.startswith("barrier.sync"):
                passed += 1
                if passed > MOST_INSTANCES:
                    raise ValueError(f"warp {warp} passes more than {MOST_INSTANCES} barriers")
            elif line.startswith("ld.shared.b8"):
                seen.reads.add(passed)
                byte = _newest(state, passed)[warp - MAIN_WARPS]
            elif written := _WRITE.match(line):
                seen.writes.setdefault(passed, {}).update(_bytes(written))
            elif line == "ret":
                seen.exits.add(passed)
                continue
            todo += [(target, passed, byte) for target in self._next(at, byte, warp < MAIN_WARPS)]
        return seen

    def _next(self, at: int, byte: int, main: bool) -> Iterator[int]:
        """Return the lines that may follow: one where the warp or its byte decides."""
        line = self.lines[at]
        if at == self.first_branch:
            yield self._target(line) if main else at + 1
            return
        if line.startswith("brx.idx"):
            yield self.labels[self.tables[line.split()[-1]][byte]]
            return
        if bound := _BOUND.fullmatch("; ".join(self.lines[max(0, at - 2) : at + 1])):
            yield self._target(line) if byte > int(bound["most"]) else at + 1
            return
        # The wait for a barrier in shared memory is a loop of its own, left sooner or later.
        if "$L" in line and re.search(r"\bbra", line):
            yield self._target(line)
        if not line.startswith("bra.uni $L"):
            yield at + 1

    def _target(self, line: str) -> int:
        return self.labels[line.split()[-1]]


def _parsed(ptx: str) -> _Program:
    """Keep the only kernel's instructions, one a line, and where its labels and tables point."""
    body = re.sub(r"//.*", "", ptx[ptx.index("\n{") : ptx.index("-- End function")])
    tables = {name: _LABEL.findall(listed) for name, listed in _TABLE.findall(body)}
    lines: list[str] = []
    labels: dict[str, int] = {}
    for raw in _TABLE.sub("", body).splitlines():
        line = " ".join(raw.split()).rstrip(";")
        if line.startswith("$L") and line.endswith(":"):
            labels[line[:-1]] = len(lines)
        elif line and line[0] not in ".{}" and not line.endswith(":"):
            lines.append(line)
    return _Program(tuple(lines), labels, tables)


def _bytes(written: re.Match[str]) -> dict[int, int]:
    """Return the byte at each address that one instruction writes."""
    words = [int(word) & 0xFFFFFFFF for word in written[2].split(",")]
    start = int(written[1] or 0)
    data = b"".join(word.to_bytes(4, "little") for word in words)
    return {start + i: byte for i, byte in enumerate(data)}


def _newest(state: list[tuple[int, dict[int, int]]], passed: int) -> list[int]:
    """Return the state that is read behind `passed` instances: the last one written before."""
    written = [contents for before, contents in state if before < passed]
    if not written:
        raise ValueError("the state is read before it is written")
    return [byte for _, byte in sorted(written[-1].items())]


def order(ptx: str) -> Order:
    """
    Follow all warps of a kernel that dispatches warp groups.

    Args:
        ptx: What Triton makes of it; there is one kernel.

    Raises:
        ValueError: If the dispatch is not of the form that is known here.
    """
    program = _parsed(ptx)
    _check(program)
    threads = _THREADS.search(ptx)
    if threads is None:
        raise ValueError("no .reqntid: expected the number of threads")
    main = program.follow(0, [])
    state = sorted(main.writes.items())
    others = [program.follow(warp, state) for warp in range(MAIN_WARPS, int(threads[1]) // 32)]
    if main.reads or any(other.writes for other in others):
        raise ValueError("expected that the first warps write the state and all others read it")
    return Order(
        frozenset(main.writes),
        frozenset().union(*(other.reads for other in others)),
        frozenset(main.exits).union(*(other.exits for other in others)),
    )


def _check(program: _Program) -> None:
    """Insist that barrier 1 is for all threads, and that the first branch parts the first warps."""
    for line in program.lines:
        if re.search(r"\bbar(rier)?\b[.\w]*\.?sync", line) and "warp" not in line:
            all_threads, number = "," not in line, line.split()[1].rstrip(",")
            if all_threads != (number == "1") or not line.startswith("bar"):
                raise ValueError(f"{line!r}: expected barrier 1 for all threads, others for some")
    branch = program.first_branch
    predicate = program.lines[branch].split()[0][1:]
    parts = re.compile(rf"setp\.lt\.u32 {predicate}, %r\d+, {MAIN_WARPS}")
    if not any(parts.fullmatch(line) for line in program.lines[:branch]):
        raise ValueError("expected that the first branch parts warps 0 to 3 from all others")
