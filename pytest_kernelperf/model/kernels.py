"""
The GPU kernels of a call: what the compiler made of them, and what it was allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_kernelperf.model.case import Case
from pytest_kernelperf.model.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Kernel:
    """
    One GPU kernel that a call launches, with what the compiler produced where it is known.

    Attributes:
        registers: Per thread, at launch.
        spills: Bytes per thread that the compiler had to keep in local memory.
        shared_bytes: Static and dynamic shared memory per block.
        code_hash: Of the machine code alone: no paths, no line tables.
        target: "sm_90": what it was compiled for.
        static_shared_bytes: The static part of `shared_bytes`.
        threads: Per block.
        warps_per_sm: Warps that fit on one multiprocessor at once.
        instructions: Class to number in the machine code, see `resources.disassembly`.
        warnings: What the assembler said that costs speed, such as serialised wgmma.
        grid: Blocks along x, y, z.
        constants: Compile-time constants, the tile among them: name to value as text.
        compiler: "triton 3.6.0, ptxas 12.8.93".
        tuned: Those of `constants` that Triton's autotuner chooses, anew in every process.
    """

    name: str
    registers: int | None = None
    spills: int | None = None
    shared_bytes: int | None = None
    code_hash: str = ""
    target: str = ""
    static_shared_bytes: int | None = None
    threads: int | None = None
    warps_per_sm: int | None = None
    instructions: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    grid: tuple[int, ...] = ()
    constants: Mapping[str, str] = field(default_factory=dict)
    compiler: str = ""
    tuned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """
    What a test allows the compiler to use, for every kernel of a call.

    Attributes:
        spills, registers, shared_bytes, warnings: The most of each; None = no limit.
        instructions: Class to (least, most) over all kernels of a call; None = open.
        targets: What to compile for without a GPU; empty = chosen by `requires`.
    """

    spills: int | None = None
    registers: int | None = None
    shared_bytes: int | None = None
    warnings: int | None = None
    instructions: Mapping[str, tuple[int | None, int | None]] = field(default_factory=dict)
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Compiled:
    """
    What the compiler made of one measurement's kernels for one target, and what was said of it.

    Attributes:
        case: Its timer is "compile" and its l2 the target: nothing was timed.
        kernels: In the order launched.
        failure: Why a kernel did not compile; "" if all did.
        verdict: None until it is judged.
        notes: What there is to say besides, such as an autotuner's choice that is not known.
        unread: Why what was compiled can't be read; "" if it was.
        limits: What the test allows, to be judged by again.
    """

    case: Case
    kernels: tuple[Kernel, ...]
    failure: str = ""
    verdict: Verdict | None = None
    notes: tuple[str, ...] = ()
    unread: str = ""
    limits: ResourceLimits = ResourceLimits()

    @property
    def was_followed(self) -> bool:
        """
        Whether the test was followed up to what it launches, whatever came out.
        """
        return bool(self.kernels or self.failure or self.unread)
