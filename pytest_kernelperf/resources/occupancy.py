"""
How many warps of a kernel fit on one multiprocessor at once.

Source:
    NVIDIA, CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
"""

from __future__ import annotations

from dataclasses import dataclass

_WARP = 32
#: Registers are handed out to a warp in steps of this many.
_REGISTER_STEP = 256
#: Shared memory that the system keeps for itself in every block (compute capability 8 and later).
RESERVED_BYTES = 1024
_SHARED_STEP_BYTES = 128


@dataclass(frozen=True, slots=True)
class Multiprocessor:
    """
    What one multiprocessor of a target has.
    """

    registers: int
    warps: int
    blocks: int
    shared_bytes: int
    shared_bytes_per_block: int


MULTIPROCESSORS = {
    "sm_80": Multiprocessor(65536, 64, 32, 164 << 10, 163 << 10),
    "sm_90": Multiprocessor(65536, 64, 32, 228 << 10, 227 << 10),
    "sm_100": Multiprocessor(65536, 64, 32, 228 << 10, 227 << 10),
}


def warps_per_sm(target: str, threads: int, registers: int, shared_bytes: int) -> int | None:
    """
    Return the warps of a kernel that one multiprocessor holds at once.

    Args:
        target: "sm_90".
        threads: Per block.
        registers: Per thread.
        shared_bytes: Per block, without what the system reserves.

    Returns:
        0 where not one block fits; None for a target that is not in the table.
    """
    sm = MULTIPROCESSORS.get(target)
    if sm is None:
        return None
    if shared_bytes > sm.shared_bytes_per_block:
        return 0
    warps = -(-threads // _WARP)
    per_warp = -(-registers * _WARP // _REGISTER_STEP) * _REGISTER_STEP
    by_registers = sm.registers // (per_warp * warps) if registers else sm.blocks
    shared = -(-(shared_bytes + RESERVED_BYTES) // _SHARED_STEP_BYTES) * _SHARED_STEP_BYTES
    blocks = min(by_registers, sm.warps // warps, sm.blocks, sm.shared_bytes // shared)
    return blocks * warps
