"""
Compares outputs within their dtype's tolerance, and writes and finds poison.

Tolerances are not correctness limits (the test decides what is right): they let through what one
callable may change between two calls (the order of additions), and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kernelperf.measure.subject import steps
from pytest_kernelperf.measure.tensors import (
    bits,
    is_plain,
    is_tensor,
    same_bytes,
    walk,
    without_repeats,
)

if TYPE_CHECKING:
    import torch

#: Relative to |expected| and to its root mean square, which bounds what reordered additions do to
#: small elements. 16-bit and shorter types: four units in the last place (each of two calls may
#: round the other way, twice over). Longer types: room for atomics over some thousand terms.
AGREEMENT: Mapping[str, float] = {
    "float64": 1e-10,
    "float32": 1e-5,
    "float16": 4e-3,
    "bfloat16": 3.2e-2,
    "float8_e4m3fn": 0.5,
    "float8_e4m3fnuz": 0.5,
    "float8_e5m2": 1.0,
    "float8_e5m2fnuz": 1.0,
}
#: Between two implementations: intermediate results may be rounded too (TF32 products keep 11 bits,
#: attention rounds its probabilities to 16 bits), so these are wider.
ACROSS_IMPLEMENTATIONS: Mapping[str, float] = {
    **AGREEMENT,
    "float64": 1e-7,
    "float32": 1e-2,
    "float16": 2e-2,
    "bfloat16": 1e-1,
}
#: Quiet NaNs whose payload no computation makes, so that poison and a computed NaN differ.
_POISON_BITS: Mapping[str, int] = {
    "float64": 0x7FFDA5A5A5A5A5A5,
    "float32": 0x7FE5A5A5,
    "float16": 0x7EA5,
    "bfloat16": 0x7FE5,
    "float8_e4m3fn": 0x7F,
    "float8_e4m3fnuz": 0x80,
    "float8_e5m2": 0x7E,
    "float8_e5m2fnuz": 0x80,
    "uint8": 0xA5,
    "int8": 0xA5,
    "int16": 0xA5A5 - 2**16,
    "int32": 0xA5A5A5A5 - 2**32,
    "int64": 0xA5A5A5A5A5A5A5A5 - 2**64,
}
_COMPLEX_PART = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}
#: Elements compared at a time: comparing a large output must not need several times its memory.
_CHUNK_ELEMENTS = 2**24
_BY_EQUALITY = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True)
class Difference:
    """
    The first disagreement between two outputs.

    Attributes:
        text: What differs and by how much.
        poison: The disagreeing elements hold the poison that was written before the call.
    """

    text: str
    poison: bool = False


@dataclass(frozen=True)
class Agreement:
    """
    How two outputs compare.

    Attributes:
        difference: None if they agree.
        max_abs: Largest absolute difference between finite elements seen; None if no floats.
    """

    difference: Difference | None
    max_abs: float | None = None


def compare(expected: Any, actual: Any, tolerance: Mapping[str, float] = AGREEMENT) -> Agreement:
    """
    Compare two outputs: nested containers of tensors, numbers, strings and arrays.

    NaN equals NaN, infinities equal themselves. Objects of other types are compared by type only.

    Args:
        expected: What the first call returned.
        actual: What another call returned.
        tolerance: dtype name to tolerance; a dtype that is not in it must agree exactly.
    """
    wanted, got = list(walk(expected)), list(walk(actual))
    if [path for path, _ in wanted] != [path for path, _ in got]:
        return Agreement(Difference(f"expected {_outline(expected)}, got {_outline(actual)}"))
    largest: float | None = None
    for (path, one), (_, other) in zip(wanted, got, strict=True):
        found = _compare_leaf(one, other, tolerance)
        if found.max_abs is not None:
            largest = max(largest or 0.0, found.max_abs)
        if found.difference:
            where = f"output{steps(path)}: " if path else ""
            return Agreement(
                Difference(where + found.difference.text, found.difference.poison), largest
            )
    return Agreement(None, largest)


def difference(expected: Any, actual: Any) -> str | None:
    """
    Return how the outputs of two calls of one callable differ, or None if they agree.
    """
    found = compare(expected, actual).difference
    return found.text if found else None


def disagreement(expected: Any, actual: Any) -> str | None:
    """
    Return how the outputs of two implementations differ, or None if they agree.
    """
    found = compare(expected, actual, ACROSS_IMPLEMENTATIONS).difference
    return found.text if found else None


def is_checkable(leaf: Any) -> bool:
    """
    Return whether a part of an output shows that work was done.
    """
    if is_tensor(leaf) or type(leaf).__module__ == "numpy":
        return True
    return leaf is not None and isinstance(leaf, _BY_EQUALITY)


def is_safely_poisoned(tensor: torch.Tensor) -> bool:
    """
    Return whether a callable may be called with poison in an argument.

    Integers are out: a poisoned index makes a kernel read or write outside its memory.
    """
    floating = tensor.is_floating_point() or tensor.is_complex()
    return floating and _poison_pattern(tensor) is not None


def poison(tensor: torch.Tensor) -> bool:
    """
    Overwrite a plain tensor with poison; return False where no bit pattern can serve (bool).
    """
    pattern = _poison_pattern(tensor)
    if pattern is None or not is_plain(tensor):
        return False
    bits(without_repeats(tensor)).fill_(pattern)
    return True


def poisoned_elements(tensor: torch.Tensor) -> int:
    """
    Return how many elements of a floating-point tensor hold poison (0 where a value may look so).
    """
    pattern = _poison_pattern(tensor)
    if pattern is None or not tensor.is_floating_point() or tensor.element_size() < 2:
        return 0
    return int((bits(tensor) == pattern).sum())


def _outline(tree: Any) -> str:
    leaves = [f"{steps(path)} {type(leaf).__name__}".strip() for path, leaf in walk(tree)]
    more = f" and {len(leaves) - 4} more" if len(leaves) > 4 else ""
    return f"{type(tree).__name__} of {len(leaves)} ({', '.join(leaves[:4])}{more})"


def _compare_leaf(expected: Any, actual: Any, tolerance: Mapping[str, float]) -> Agreement:
    if is_tensor(expected) and is_tensor(actual):
        return _compare_tensors(expected, actual, tolerance)
    if type(expected) is not type(actual):
        kinds = f"expected {type(expected).__name__}, got {type(actual).__name__}"
        return Agreement(Difference(kinds))
    if isinstance(expected, _BY_EQUALITY):
        same = expected == actual or (expected != expected and actual != actual)
    elif type(expected).__module__ == "numpy":
        same = _same_arrays(expected, actual)
    else:
        # Identity is all that most objects' == knows: it would call every call different.
        same = True
    return Agreement(None if same else Difference(f"expected {expected!r}, got {actual!r}"))


def _same_arrays(expected: Any, actual: Any) -> bool:
    import numpy as np

    if getattr(expected, "dtype", None) != getattr(actual, "dtype", None):
        return False
    if np.shape(expected) != np.shape(actual):
        return False
    kind = getattr(getattr(expected, "dtype", None), "kind", "")
    if kind not in ("f", "c"):
        return bool(np.array_equal(expected, actual))
    rtol = AGREEMENT.get(str(expected.dtype), AGREEMENT["float64"])
    finite = np.abs(expected)[np.isfinite(expected)]
    atol = rtol * float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    return bool(np.allclose(actual, expected, rtol=rtol, atol=atol, equal_nan=True))


def _compare_tensors(
    expected: torch.Tensor, actual: torch.Tensor, tolerance: Mapping[str, float]
) -> Agreement:
    looks = [f"{t.dtype}{list(t.shape)} on {t.device.type}" for t in (expected, actual)]
    if looks[0] != looks[1]:
        return Agreement(Difference(f"expected {looks[0]}, got {looks[1]}"))
    if not (is_plain(expected) and is_plain(actual)):
        return Agreement(None)
    name = str(expected.dtype).removeprefix("torch.")
    part = _COMPLEX_PART.get(name, name)
    rtol = tolerance.get(part, 0.0)
    floating = expected.is_floating_point() or expected.is_complex()
    one, other = _flat(expected), _flat(actual)
    if same_bytes(one, other):
        return Agreement(None, 0.0 if floating else None)
    return _compare_elements(one, other, rtol, _poison_pattern(expected))


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.resolve_neg().reshape(-1)


def _compare_elements(
    expected: torch.Tensor, actual: torch.Tensor, rtol: float, pattern: int | None
) -> Agreement:
    """
    Compare two flat tensors of real numbers chunk by chunk.
    """
    atol = rtol * _root_mean_square(expected) if rtol else 0.0
    wrong, poisoned, largest, first = 0, 0, 0.0, -1
    for start in range(0, expected.numel(), _CHUNK_ELEMENTS):
        one, other = (t[start : start + _CHUNK_ELEMENTS] for t in (expected, actual))
        bad, gap = _disagreeing(one, other, rtol, atol)
        count = int(bad.sum())
        largest = max(largest, gap)
        if not count:
            continue
        first = start + int(bad.int().argmax()) if first < 0 else first
        wrong += count
        if pattern is not None:
            poisoned += int((bits(other[bad]) == pattern).sum())
    floating = expected.is_floating_point()
    if not wrong:
        return Agreement(None, largest if floating else None)
    text = _element_text(expected, actual, wrong, first, largest)
    return Agreement(Difference(text, poisoned > 0), largest if floating else None)


def _element_text(
    expected: torch.Tensor, actual: torch.Tensor, wrong: int, first: int, largest: float
) -> str:
    by = f", by up to {largest:.3g}" if largest else ""
    return (
        f"{wrong} of {expected.numel()} elements differ{by}; the first, "
        f"element {first}: expected {expected[first].item()!r}, got {actual[first].item()!r}"
    )


def _disagreeing(
    expected: torch.Tensor, actual: torch.Tensor, rtol: float, atol: float
) -> tuple[torch.Tensor, float]:
    """
    Return which elements disagree, and the largest difference between finite ones.
    """
    import torch

    if not expected.is_floating_point():
        if expected.dtype == torch.bool:
            return expected != actual, 0.0
        bad = bits(expected) != bits(actual)
        gap = (expected[bad].double() - actual[bad].double()).abs()
        return bad, float(gap.max()) if gap.numel() else 0.0
    wide = torch.float64 if expected.dtype == torch.float64 else torch.float32
    one, other = expected.to(wide), actual.to(wide)
    gap = (one - other).abs()
    # A NaN gap (NaN on either side, or inf - inf) is settled by the exact comparisons below.
    close = (gap <= atol + rtol * one.abs()) & one.isfinite()
    same = (one == other) | (one.isnan() & other.isnan())
    finite = gap[gap.isfinite()]
    return ~(close | same), float(finite.max()) if finite.numel() else 0.0


def _root_mean_square(tensor: torch.Tensor) -> float:
    """
    Return the root mean square of the finite elements; 0.0 if there are none.
    """
    total, count = 0.0, 0
    for start in range(0, tensor.numel(), _CHUNK_ELEMENTS):
        chunk = tensor[start : start + _CHUNK_ELEMENTS].double()
        finite = chunk[chunk.isfinite()]
        total += float(finite.square().sum())
        count += finite.numel()
    return math.sqrt(total / count) if count else 0.0


def _poison_pattern(tensor: torch.Tensor) -> int | None:
    name = str(tensor.dtype).removeprefix("torch.")
    return _POISON_BITS.get(_COMPLEX_PART.get(name, name))
