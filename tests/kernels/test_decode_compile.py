"""What the compiler makes of the decode kernels for Hopper; no GPU is needed."""

from __future__ import annotations

import pytest
from compiled_once import compiled_once
from uniform_registers import reads_unwritten


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict:
    return compiled_once("compile_decode.py", tmp_path_factory)


@pytest.mark.parametrize(
    ("case", "warps", "programs_per_sm"),
    [
        ("D64 q1", 4, 2),
        ("D64 q1 append", 4, 2),
        ("D128 q1 append", 4, 2),
        ("D128 q16 append", 8, 1),
    ],
)
def test_it_compiles_for_hopper_without_spills(
    compiled: dict, case: str, warps: int, programs_per_sm: int
) -> None:
    """
    Products from shared memory, asynchronous copies, room for the planned programs per SM.

    And no uniform register is read unwritten: ptxas broke the 16-column tiles that append when the
    new keys had a loop of their own.
    """
    result = compiled[case]

    assert result["wgmma"]
    assert result["asynchronous"]
    assert result["dependent"]
    assert programs_per_sm * (result["shared_bytes"] + 1024) <= 227 * 1024
    assert result["warnings"] == []
    assert result["stack_bytes"] == 0
    assert result["registers"] * 32 * warps * programs_per_sm <= 65_536
    assert result["hgmma"]
    assert result["reads_unwritten"] == []


@pytest.mark.parametrize("case", ["D40 q6", "D64 q6 append", "D128 q6 append"])
def test_unaligned_keys_compile_to_sound_code(compiled: dict, case: str) -> None:
    """No spills, and no uniform register is read unwritten, as in the tiles for aligned keys."""
    result = compiled[f"{case} unaligned"]

    assert result["stack_bytes"] == 0
    assert result["reads_unwritten"] == []


@pytest.mark.parametrize("capability", [80, 100])
def test_other_architectures_compile_without_spills(compiled: dict, capability: int) -> None:
    result = compiled[f"D128 q1 append sm_{capability}"]

    assert not result["wgmma"]
    assert result["asynchronous"]
    assert result["dependent"] == (capability >= 90)
    assert result["stack_bytes"] == 0


# What ptxas 12.8 made of the append loop: UR50 and UR11 should first have been copied.
BROKEN = """
        /*0000*/                   ULDC.64 UR6, c[0x0][0x208] ;
        /*0010*/                   UMOV UR4, 0x400 ;
        /*0020*/              @P0 BRA `(.L_x_0) ;
        /*0030*/                   UIADD3.64 UR50, UR6, 0xc0, URZ ;
        /*0040*/                   UMOV UR11, 0x40000040 ;
.L_x_0:
        /*0050*/                   USHF.R.U32.HI UR36, URZ, 0x4, UR4 ;
        /*0060*/                   UIADD3 UR50, UP0, {source}, 0x20, URZ ;
        /*0070*/                   UIADD3.X UR11, {high}, -0x3ffffff0, URZ, UP0, !UPT ;
        /*0080*/                   UMOV UR10, UR50 ;
        /*0090*/                   UMOV UR8, UR36 ;
        /*00a0*/                   UMOV UR9, 0x40000040 ;
        /*00b0*/                   HGMMA.64x16x16.F32 R40, gdesc[UR8].tnspA.tnspB, R40 ;
        /*00c0*/                   STG.E desc[UR6][R2.64], R5 ;
        /*00d0*/                   EXIT ;
.L_x_1:
        /*00e0*/                   BRA `(.L_x_1);
"""


def test_a_uniform_register_that_one_path_leaves_unwritten_is_found() -> None:
    broken = BROKEN.format(source="UR50", high="UR11")

    found = reads_unwritten(broken)

    assert found == [
        ("UIADD3 UR50, UP0, UR50, 0x20, URZ", [50]),
        ("UIADD3.X UR11, UR11, -0x3ffffff0, URZ, UP0, !UPT", [11]),
    ]


def test_machine_code_that_writes_before_it_reads_passes() -> None:
    mended = BROKEN.format(source="UR36", high="URZ")

    assert reads_unwritten(mended) == []
