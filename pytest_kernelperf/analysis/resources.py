"""
Judges what the compiler made of a call's kernels: against limits, and against what is stored.

Only what nearly always costs speed fails: a kernel that does not compile, a limit passed, new
spills, products that left the tensor cores or were serialised, fewer warps per SM, half as many
registers again. Everything else that changed is told, and times are left to tell whether it
matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_kernelperf.analysis.kernels import differences, have_same_code
from pytest_kernelperf.analysis.reasons import ResourceReason
from pytest_kernelperf.model import Case, Kernel, ResourceLimits, Status, Verdict

#: With at most so many registers a thread, all warps that an SM can hold fit on it.
_FREE_REGISTERS = 32
#: So many times the stored ones are a change of the kernel, not of the compiler's mood.
_MANY_MORE = 1.5
_STORE = "store them with --kernelperf-update-new"


def judge_resources(
    case: Case,
    kernels: Sequence[Kernel],
    limits: ResourceLimits,
    stored: Sequence[Kernel] | None,
    failure: str = "",
) -> Verdict:
    """
    Judge one call's kernels for one target.

    Args:
        case: Whose kernels; its timer is "compile".
        kernels: What was compiled now.
        limits: What the test allows.
        stored: What the baseline holds; None if it holds none.
        failure: Why a kernel did not compile; "" if all did.
    """
    status, reason, sentence = _judged(kernels, limits, stored, failure)
    return Verdict(case, 50.0, status, reason.value, sentence)


def judge_unfollowed(case: Case, why: str) -> Verdict:
    """
    Return the verdict on a test that could not be followed to what it launches.

    Args:
        case: Whose kernels were wanted.
        why: What stopped it.
    """
    sentence = (
        f"Nothing was compiled: {why}. Ask for values after the measured call, or where "
        "kernelperf.measured says that there are numbers."
    )
    reason = ResourceReason.NEEDS_VALUE.value
    return Verdict(case, 50.0, Status.INCONCLUSIVE, reason, sentence)


def judge_unread(case: Case, why: str) -> Verdict:
    """
    Return the verdict on kernels that were compiled and can't be read.

    Args:
        case: Whose kernels.
        why: Which tool failed, and what it said.
    """
    sentence = (
        f"The kernels were compiled, and what came out can't be read, so nothing is judged: {why}. "
        "Triton's own tools read what it compiles: does TRITON_PTXAS_PATH, "
        "TRITON_PTXAS_BLACKWELL_PATH or TRITON_NVDISASM_PATH name another?"
    )
    reason = ResourceReason.FIGURES_UNREADABLE.value
    return Verdict(case, 50.0, Status.INCONCLUSIVE, reason, sentence)


def are_no_worse(before: Sequence[Kernel], after: Sequence[Kernel]) -> bool:
    """
    Return whether kernels are as good as others in all that a verdict compares, by any amount.

    A verdict leaves room for a compiler's moods; what becomes the new reference must not use it up.
    """
    if [one.name for one in before] != [one.name for one in after]:
        return False
    kinds = ("tensor_core", "warpgroup")
    return (
        not _warned(after) - _warned(before)
        and all(_total(after, kind) >= _total(before, kind) for kind in kinds)
        and all(map(_is_no_worse, before, after))
    )


def _is_no_worse(old: Kernel, new: Kernel) -> bool:
    fewer = ("registers", "spills", "shared_bytes")
    return all((getattr(new, name) or 0) <= (getattr(old, name) or 0) for name in fewer) and (
        (new.warps_per_sm or 0) >= (old.warps_per_sm or 0)
    )


def _judged(
    kernels: Sequence[Kernel],
    limits: ResourceLimits,
    stored: Sequence[Kernel] | None,
    failure: str,
) -> tuple[Status, ResourceReason, str]:
    if failure:
        return Status.INVALID, ResourceReason.DOES_NOT_COMPILE, failure
    passed = list(_passed_limits(kernels, limits))
    if passed:
        return Status.MISSED_TARGET, ResourceReason.RESOURCE_LIMIT, "; ".join(passed)
    if stored is None:
        return _without_stored(kernels, limits)
    if have_same_code(stored, kernels):
        return Status.UNCHANGED, ResourceReason.SAME_CODE, "The machine code is the stored one."
    worse = list(_worse(stored, kernels))
    changed = "; ".join(differences(stored, kernels)) or "nothing that is counted"
    compilers = {one.compiler for one in stored}, {one.compiler for one in kernels}
    if worse and compilers[0] != compilers[1]:
        return (
            Status.INCOMPARABLE,
            ResourceReason.OTHER_COMPILER,
            f"Worse than what another compiler made ({changed}): compile with the stored version, "
            "or, if it is to stay, --kernelperf-update says how to replace the stored kernels.",
        )
    if worse:
        if worse[0] is ResourceReason.LOST_TENSOR_CORES:
            changed += _products(stored, kernels)
        return Status.REGRESSED, worse[0], f"Against the stored kernels: {changed}."
    sentence = f"Other machine code, {_why_unfailed(stored, kernels)}: {changed}."
    return Status.UNCHANGED, ResourceReason.CODE_CHANGED, sentence


def _why_unfailed(before: Sequence[Kernel], after: Sequence[Kernel]) -> str:
    pairs = zip(before, after, strict=False)
    if any(old.name == new.name and _is_tuned_otherwise(old, new) for old, new in pairs):
        return "as the autotuner chose, whose registers and warps are not compared"
    return "with nothing that always costs speed"


def _without_stored(
    kernels: Sequence[Kernel], limits: ResourceLimits
) -> tuple[Status, ResourceReason, str]:
    seen = ", ".join(dict.fromkeys(kernel.name for kernel in kernels))
    if _has_limits(limits):
        sentence = f"All limits hold for {seen}; no kernels are stored to compare with: {_STORE}."
        return Status.NO_BASELINE, ResourceReason.WITHIN_LIMITS, sentence
    return (
        Status.NO_BASELINE,
        ResourceReason.NOTHING_STORED,
        f"No kernels are stored to compare {seen} with: {_STORE}, or set limits in resources=.",
    )


def _has_limits(limits: ResourceLimits) -> bool:
    numbers = (limits.spills, limits.registers, limits.shared_bytes, limits.warnings)
    return bool(limits.instructions) or any(number is not None for number in numbers)


def _passed_limits(kernels: Sequence[Kernel], limits: ResourceLimits) -> Iterator[str]:
    for kernel in kernels:
        for name in ("spills", "registers", "shared_bytes"):
            most, got = getattr(limits, name), getattr(kernel, name)
            if most is not None and got is not None and got > most:
                yield f"{kernel.name}: {name} {got}, at most {most} allowed"
        if limits.warnings is not None and len(kernel.warnings) > limits.warnings:
            yield f"{kernel.name}: the assembler warns {'; '.join(kernel.warnings)}"
    for name, (least, most) in limits.instructions.items():
        got = _total(kernels, name)
        if least is not None and got < least:
            yield f"{got} {name} instructions, at least {least} wanted"
        if most is not None and got > most:
            yield f"{got} {name} instructions, at most {most} allowed"


def _worse(before: Sequence[Kernel], after: Sequence[Kernel]) -> Iterator[ResourceReason]:
    if _most_spilled(after) > _most_spilled(before):
        yield ResourceReason.NEW_SPILLS
    lost = _total(after, "tensor_core") == 0 < _total(before, "tensor_core")
    left = _total(after, "warpgroup") < _total(before, "warpgroup")
    for_single_warps = left and _single_warp(after) > _single_warp(before)
    if lost or for_single_warps or _half_left(before, after):
        yield ResourceReason.LOST_TENSOR_CORES
    if _warned(after) - _warned(before):
        yield ResourceReason.SERIALISED_PRODUCTS
    if [one.name for one in before] == [one.name for one in after]:
        yield from _crowded(before, after)


def _products(before: Sequence[Kernel], after: Sequence[Kernel]) -> str:
    """
    Return the products of all kernels together; "" where each kernel's own were told.
    """
    if [one.name for one in before] == [one.name for one in after]:
        return ""
    kinds = ("warpgroup", "tensor_core")
    counts = (f"{kind} {_total(before, kind)} -> {_total(after, kind)}" for kind in kinds)
    return f"; in all {', '.join(counts)}"


def _half_left(before: Sequence[Kernel], after: Sequence[Kernel]) -> bool:
    """
    Return whether one of several products is done without tensor cores now, by many instructions.

    With other constants, such as a wider tile, as much is done by fewer and larger instructions.
    Only a warpgroup's products are counted: single warps' come in sizes that other types change.
    """
    is_same_tile = [(one.name, one.constants) for one in before] == [
        (one.name, one.constants) for one in after
    ]
    are_fewer = 0 < 2 * _total(after, "warpgroup") <= _total(before, "warpgroup")
    are_more = _total(after, "total") >= _MANY_MORE * _total(before, "total") > 0
    return is_same_tile and are_fewer and are_more


def _crowded(before: Sequence[Kernel], after: Sequence[Kernel]) -> Iterator[ResourceReason]:
    pairs = [
        (old, new)
        for old, new in zip(before, after, strict=True)
        if not _is_tuned_otherwise(old, new)
    ]
    if any((new.warps_per_sm or 0) < (old.warps_per_sm or 0) for old, new in pairs):
        yield ResourceReason.LOWER_OCCUPANCY
    # Where shared memory limits the warps already, they stay; what follows may not.
    registers = [(old.registers or 0, new.registers or 0) for old, new in pairs]
    if any(now > _FREE_REGISTERS and now >= _MANY_MORE * was > 0 for was, now in registers):
        yield ResourceReason.MORE_REGISTERS


def _is_tuned_otherwise(old: Kernel, new: Kernel) -> bool:
    """
    Return whether the autotuner chose otherwise: its choices trade registers for warps on purpose.

    A constant that is not the autotuner's was changed by hand, and then all is compared.
    """
    names = {*old.constants, *new.constants}
    changed = {name for name in names if old.constants.get(name) != new.constants.get(name)}
    return bool(changed) and changed <= set(new.tuned)


def _total(kernels: Sequence[Kernel], name: str) -> int:
    return sum(kernel.instructions.get(name, 0) for kernel in kernels)


def _single_warp(kernels: Sequence[Kernel]) -> int:
    return _total(kernels, "tensor_core") - _total(kernels, "warpgroup")


def _most_spilled(kernels: Sequence[Kernel]) -> int:
    return max((kernel.spills or 0 for kernel in kernels), default=0)


def _warned(kernels: Sequence[Kernel]) -> set[str]:
    return {text for kernel in kernels for text in kernel.warnings}
