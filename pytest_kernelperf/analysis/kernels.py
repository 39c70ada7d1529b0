"""
How the kernels of one call differ from those of another, in the words that a person acts on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pytest_kernelperf.model import Kernel

#: Field of a kernel to what messages call it, in the order in which they tell it.
_NUMBERS = {
    "registers": "registers",
    "spills": "spilled bytes",
    "warps_per_sm": "warps per SM",
    "shared_bytes": "shared bytes",
    "threads": "threads",
}
#: What a reader of an instruction mix looks at first.
_FIRST = ("warpgroup", "tensor_core", "local_memory")
#: More differences than this in one class are counted, not listed.
_MOST = 6


def have_same_code(before: Sequence[Kernel], after: Sequence[Kernel]) -> bool | None:
    """
    Return whether two calls launch the same machine code; None where not all of it is known.
    """
    hashes = [kernel.code_hash for kernel in (*before, *after)]
    if not before or not after or not all(hashes):
        return None
    # Equal code can be laid out otherwise only by the kernel's own constants: so in any order.
    return Counter(hashes[: len(before)]) == Counter(hashes[len(before) :])


def differences(before: Sequence[Kernel], after: Sequence[Kernel]) -> tuple[str, ...]:
    """
    Return how the kernels of a call changed, one phrase each; empty if nothing known did.

    Kernels are paired by name and order; where the names differ, that is the difference.
    """
    names = [kernel.name for kernel in before], [kernel.name for kernel in after]
    if names[0] != names[1]:
        return _changed_kernels(*names)
    found: list[str] = []
    for old, new in zip(before, after, strict=True):
        of = f"{new.name}: " if len(after) > 1 else ""
        found += [f"{of}{text}" for text in _kernel_differences(old, new)]
    return tuple(dict.fromkeys(found))


def _changed_kernels(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    gone = list((Counter(before) - Counter(after)).elements())
    new = list((Counter(after) - Counter(before)).elements())
    count = f"kernels per call {len(before)} -> {len(after)}"
    phrases = [count] if len(before) != len(after) else []
    phrases += [f"launches {', '.join(new)} now"] if new else []
    phrases += [f"no longer launches {', '.join(gone)}"] if gone else []
    return tuple(phrases or ["kernels are launched in another order"])


def _kernel_differences(old: Kernel, new: Kernel) -> Iterator[str]:
    for name, words in _NUMBERS.items():
        was, now = getattr(old, name), getattr(new, name)
        if was is not None and now is not None and was != now:
            yield f"{words} {was} -> {now}"
    yield from _changed(old.instructions, new.instructions, "instructions: ")
    if old.grid and new.grid and old.grid != new.grid:
        yield f"grid {_grid(old)} -> {_grid(new)}"
    yield from _changed(old.constants, new.constants, "constants: ")
    for text in sorted(set(new.warnings) - set(old.warnings)):
        if old.code_hash:
            yield f"the assembler warns {text}"
    if old.compiler and new.compiler and old.compiler != new.compiler:
        yield f"compiled by {new.compiler}, was {old.compiler}"


def _changed(before: Mapping[str, object], after: Mapping[str, object], head: str) -> Iterator[str]:
    if not before or not after:
        return
    named = dict.fromkeys((*_FIRST, *sorted({*before, *after})))
    keys = [key for key in named if before.get(key) != after.get(key)]
    parts = [f"{key} {before.get(key, '-')} -> {after.get(key, '-')}" for key in keys[:_MOST]]
    parts += [f"and {len(keys) - _MOST} more"] if len(keys) > _MOST else []
    if parts:
        yield head + ", ".join(parts)


def _grid(kernel: Kernel) -> str:
    return "x".join(str(size) for size in kernel.grid)
