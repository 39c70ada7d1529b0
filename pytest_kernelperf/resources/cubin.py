"""
Reads a cubin: the machine code's own hash, and what the code asks of a multiprocessor.

A cubin is an ELF64 file. Debug paths, line tables and the PTX's text lie in sections of their own,
so that the `.text` sections of one kernel built in two checkouts are byte for byte the same.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_MAGIC = b"\x7fELF"
#: Where the header says how to find the sections: offset; size, number, index of the names.
_OFFSET_AT, _COUNTS_AT = 0x28, 0x3A
_SECTION = struct.Struct("<IIQQQQIIQQ")
_NO_BITS = 8
#: An attribute of `.nv.info` with a payload, and the one that counts registers: (symbol, count).
_SIZED, _REGISTERS = 4, 0x2F
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Cubin:
    """
    What a cubin says of its kernel.

    Attributes:
        code_hash: Of all machine code in it.
        registers: Per thread at launch.
        shared_bytes: Shared memory that the code itself claims; from sm_90 on with the system's own
            1024 bytes.
    """

    code_hash: str
    registers: int
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    size_bytes: int
    content: bytes


def read_cubin(data: bytes, kernel: str) -> Cubin:
    """
    Read one kernel's cubin.

    Args:
        data: The file.
        kernel: The kernel's symbol.

    Raises:
        ValueError: If it is no cubin with that kernel.
    """
    if not data.startswith(_MAGIC):
        raise ValueError("expected a cubin, which is an ELF file; got something else")
    sections = {section.name: section for section in _sections(data)}
    if f".text.{kernel}" not in sections or ".nv.info" not in sections:
        raise ValueError(f"expected a cubin with the kernel {kernel!r}; it has no such code")
    digest = hashlib.sha256()
    for name in sorted(sections):
        if name.startswith(".text"):
            digest.update(sections[name].content)
    shared = sections.get(f".nv.shared.{kernel}")
    return Cubin(
        code_hash=digest.hexdigest()[:_DIGITS],
        registers=_registers(sections[".nv.info"].content),
        shared_bytes=shared.size_bytes if shared else 0,
    )


def _sections(data: bytes) -> Iterator[_Section]:
    (table_at,) = struct.unpack_from("<Q", data, _OFFSET_AT)
    _, count, names_index = struct.unpack_from("<HHH", data, _COUNTS_AT)
    headers = [
        _SECTION.unpack_from(data, table_at + index * _SECTION.size) for index in range(count)
    ]
    names_at = headers[names_index][4]
    for name, kind, _flags, _address, offset, size, *_rest in headers:
        start = names_at + name
        label = data[start : data.index(b"\0", start)].decode()
        content = b"" if kind == _NO_BITS else data[offset : offset + size]
        yield _Section(label, size, content)


def _registers(info: bytes) -> int:
    """
    Return the most registers that any function of the cubin has: a launch reserves them all.
    """
    counts = [0]
    at = 0
    while at + 4 <= len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        at += 4
        if form != _SIZED:
            continue
        if attribute == _REGISTERS:
            counts.append(struct.unpack_from("<II", info, at)[1])
        at += size
    return max(counts)
