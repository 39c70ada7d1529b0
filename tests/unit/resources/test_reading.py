"""
What ptxas and nvdisasm print, as numbers; warps per SM against NVIDIA's own table.
"""

from __future__ import annotations

import pytest

from pytest_kernelperf.keywords import INSTRUCTIONS, TARGETS
from pytest_kernelperf.model import Kernel
from pytest_kernelperf.resources import complete
from pytest_kernelperf.resources.disassembly import CLASSES, TOTAL, count_instructions
from pytest_kernelperf.resources.machine import TARGETS as PRETENDED
from pytest_kernelperf.resources.occupancy import MULTIPROCESSORS, warps_per_sm
from pytest_kernelperf.resources.reading import serialisations, spilled_bytes

LISTING = """
.text.kernel:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0020*/               @UP1 UTMALDG.4D [UR8], [UR6] ;
        /*0030*/                   HGMMA.64x128x16.F32 R24, gdesc[UR8], !UPT ;
        /*0040*/                   HMMA.16816.F32 R4, R8, R10, R4 ;
        /*0050*/                   MUFU.EX2 R3, R3 ;
        /*0060*/                   STL [R1+0x4], R3 ;
        /*0070*/              @P1  BRA `(.L_x_1) ;
        /*0080*/                   NOP ;
"""
LOG = """ptxas info    : 11 bytes gmem
ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized
ptxas info    : Function properties for kernel
    80 bytes stack frame, 60 bytes spill stores, 76 bytes spill loads
ptxas info    : Used 128 registers, used 4 barriers
"""


def test_instructions_are_counted_by_class():
    counts = count_instructions(LISTING)

    assert {
        "tensor_core": 2,
        "warpgroup": 1,
        "special_function": 1,
        "local_memory": 1,
        "global_memory": 2,
        "shared_memory": 0,
        "barrier": 0,
        TOTAL: 8,
    } == counts


def test_the_marker_knows_the_classes_and_targets_that_there_are():
    assert (*CLASSES, TOTAL) == INSTRUCTIONS
    assert TARGETS == PRETENDED == tuple(MULTIPROCESSORS)


def test_a_spill_is_counted_once_for_its_store_and_loads():
    assert 76 == spilled_bytes(LOG)
    assert 0 == spilled_bytes("ptxas info : Used 8 registers")


def test_serialised_products_are_warnings_and_other_words_are_not():
    (warning,) = serialisations(LOG)

    assert warning.startswith("C7510: ")
    assert "serialized" in warning


@pytest.mark.parametrize(
    ("target", "threads", "registers", "shared", "warps"),
    [
        ("sm_90", 128, 128, 0, 16),  # 65536 / (128 * 128) = 4 blocks
        ("sm_90", 128, 168, 0, 12),
        ("sm_90", 128, 32, 75 << 10, 12),  # 3 * 76 KB = 228 KB
        ("sm_90", 1024, 32, 0, 64),
        ("sm_90", 32, 16, 0, 32),  # 32 blocks at most
        ("sm_80", 128, 32, 163 << 10, 4),
        ("sm_80", 128, 32, 164 << 10, 0),
        ("sm_75", 128, 32, 0, None),
    ],
)
def test_warps_per_sm(target, threads, registers, shared, warps):
    assert warps == warps_per_sm(target, threads, registers, shared)


def test_measured_kernels_take_what_was_read_of_their_launches_in_order():
    first, second = (Kernel("softmax", 32, code_hash=code) for code in ("a", "b"))

    found = complete((Kernel("softmax"), Kernel("memset"), Kernel("softmax")), (first, second))

    assert (first, Kernel("memset"), second) == found


def test_a_name_that_the_driver_cut_off_is_still_found_and_kept():
    read = Kernel("a_very_long_name", 32, code_hash="a")

    (found,) = complete((Kernel("a_very"),), (read,))

    assert ("a_very", "a") == (found.name, found.code_hash)
