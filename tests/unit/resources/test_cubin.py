"""
Reading a cubin: only machine code is hashed, and registers come from its attributes.
"""

from __future__ import annotations

import struct

import pytest

from pytest_kernelperf.resources.cubin import read_cubin

REGISTERS = struct.pack("<BBHII", 4, 0x2F, 8, 7, 155)
FRAME = struct.pack("<BBHII", 4, 0x11, 8, 7, 64)
FLAG = struct.pack("<BBH", 3, 0x50, 0)
CODE = bytes(range(64))


def cubin(**sections: bytes) -> bytes:
    """
    Return an ELF64 file with these sections; "__" in a name stands for a dot.
    """
    contents = {name.replace("__", "."): data for name, data in sections.items()}
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*contents, ".shstrtab"))
    contents[".shstrtab"] = names
    body, headers = b"", [struct.pack("<IIQQQQIIQQ", *[0] * 10)]
    for name, data in contents.items():
        at = names.index(name.encode() + b"\0")
        headers.append(
            struct.pack("<IIQQQQIIQQ", at, 1, 0, 0, 64 + len(body), len(data), 0, 0, 1, 0)
        )
        body += data
    head = bytearray(64)
    head[:4] = b"\x7fELF"
    struct.pack_into("<Q", head, 0x28, 64 + len(body))
    struct.pack_into("<HHH", head, 0x3A, 64, len(headers), len(headers) - 1)
    return bytes(head) + body + b"".join(headers)


def a_cubin(**more: bytes) -> bytes:
    return cubin(__text__k=CODE, __nv__info=FLAG + FRAME + REGISTERS, **more)


def test_registers_are_those_of_the_attribute_and_not_of_its_neighbours():
    assert 155 == read_cubin(a_cubin(), "k").registers


def test_shared_memory_is_the_size_of_the_kernels_section():
    assert 0 == read_cubin(a_cubin(), "k").shared_bytes
    assert 512 == read_cubin(a_cubin(__nv__shared__k=bytes(512)), "k").shared_bytes


def test_debug_paths_do_not_change_the_hash():
    here, there = (a_cubin(__debug_line=text) for text in (b"/a/kernel.py", b"/b/kernel.py"))

    assert read_cubin(here, "k").code_hash == read_cubin(there, "k").code_hash


def test_one_other_instruction_changes_the_hash():
    other = cubin(__text__k=CODE[:-1] + b"\0", __nv__info=REGISTERS)

    assert read_cubin(a_cubin(), "k").code_hash != read_cubin(other, "k").code_hash


@pytest.mark.parametrize(
    ("data", "said"), [(b"PTX", "ELF"), (cubin(__text__other=CODE), "'k'; it has no such code")]
)
def test_what_is_no_cubin_of_the_kernel_is_refused(data, said):
    with pytest.raises(ValueError, match=said):
        read_cubin(data, "k")
