"""
Compares outputs within their dtype's tolerance.

Tolerances are not correctness limits (the test decides what is right): they let through what one
callable may change between two calls (the order of additions), and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_kernelperf.measure.poison import COMPLEX_PART, pattern_of
from pytest_kernelperf.measure.subject import steps
from pytest_kernelperf.measure.tensors import bits, is_plain, is_tensor, same_bytes, walk
from pytest_kernelperf.units import listed

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
#: Elements compared at a time: comparing a large output must not need several times its memory.
_CHUNK_ELEMENTS = 2**24
_BY_EQUALITY = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True)
class Tolerance:
    """
    How far two numbers may be apart: at most `atol + rtol * |expected|`.

    Attributes:
        rtol: Relative to the expected element.
        atol: Absolute; None = `rtol` times the expected tensor's root mean square.
    """

    rtol: float
    atol: float | None = None


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


#: dtype name to how far its elements may be apart; a number is a `Tolerance` of that `rtol`.
Tolerances: TypeAlias = Mapping[str, float | Tolerance]


def compare(expected: Any, actual: Any, tolerance: Tolerances = AGREEMENT) -> Agreement:
    """
    Compare two outputs: nested containers of tensors, numbers, strings and arrays.

    NaN equals NaN, infinities equal themselves. Objects of other types are compared by type only.

    Args:
        expected: What the first call returned.
        actual: What another call returned.
        tolerance: dtype name to tolerance (a number is `Tolerance(number)`); a dtype that is not
            in it must agree exactly.
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


def across(expected: Any, actual: Any, given: Tolerance | None = None) -> Agreement:
    """
    Compare the outputs of two implementations.

    Args:
        expected: The reference's output.
        actual: The other's.
        given: The tolerance for all floating-point types; without it each dtype's own.
    """
    if given is None:
        return compare(expected, actual, ACROSS_IMPLEMENTATIONS)
    return compare(expected, actual, dict.fromkeys(ACROSS_IMPLEMENTATIONS, given))


def is_checkable(leaf: Any) -> bool:
    """
    Return whether a part of an output shows that work was done.
    """
    if is_tensor(leaf) or type(leaf).__module__ == "numpy":
        return True
    return leaf is not None and isinstance(leaf, _BY_EQUALITY)


def _outline(tree: Any) -> str:
    leaves = [f"{steps(path)} {type(leaf).__name__}".strip() for path, leaf in walk(tree)]
    return f"{type(tree).__name__} of {len(leaves)} ({listed(leaves, 4)})"


def _compare_leaf(expected: Any, actual: Any, tolerance: Tolerances) -> Agreement:
    if is_tensor(expected) and is_tensor(actual):
        return _compare_tensors(expected, actual, tolerance)
    if type(expected) is not type(actual):
        kinds = f"expected {type(expected).__name__}, got {type(actual).__name__}"
        return Agreement(Difference(kinds))
    if isinstance(expected, float | complex):
        same = _same_numbers(expected, actual, _tolerance(tolerance, "float64"))
    elif isinstance(expected, _BY_EQUALITY):
        same = expected == actual
    elif type(expected).__module__ == "numpy":
        same = _same_arrays(expected, actual, tolerance)
    else:
        # Identity is all that most objects' == knows: it would call every call different.
        same = True
    return Agreement(None if same else Difference(f"expected {expected!r}, got {actual!r}"))


def _tolerance(tolerances: Tolerances, dtype: str) -> Tolerance:
    found = tolerances.get(COMPLEX_PART.get(dtype, dtype), 0.0)
    return found if isinstance(found, Tolerance) else Tolerance(found)


def _same_numbers(expected: complex, actual: complex, tolerance: Tolerance) -> bool:
    if expected == actual or (expected != expected and actual != actual):
        return True
    # Written so that NaN is never close.
    apart, scale = abs(expected - actual), abs(expected)
    return math.isfinite(scale) and apart <= (tolerance.atol or 0.0) + tolerance.rtol * scale


def _same_arrays(expected: Any, actual: Any, tolerances: Tolerances) -> bool:
    import numpy as np

    if getattr(expected, "dtype", None) != getattr(actual, "dtype", None):
        return False
    if np.shape(expected) != np.shape(actual):
        return False
    kind = getattr(getattr(expected, "dtype", None), "kind", "")
    if kind not in ("f", "c"):
        return bool(np.array_equal(expected, actual))
    name = str(expected.dtype)
    allowed = _tolerance(tolerances, name if name in tolerances else "float64")
    finite = np.abs(expected)[np.isfinite(expected)]
    typical = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    atol = allowed.rtol * typical if allowed.atol is None else allowed.atol
    return bool(np.allclose(actual, expected, rtol=allowed.rtol, atol=atol, equal_nan=True))


def _compare_tensors(
    expected: torch.Tensor, actual: torch.Tensor, tolerance: Tolerances
) -> Agreement:
    looks = [f"{t.dtype}{list(t.shape)} on {t.device.type}" for t in (expected, actual)]
    if looks[0] != looks[1]:
        return Agreement(Difference(f"expected {looks[0]}, got {looks[1]}"))
    if not (is_plain(expected) and is_plain(actual)):
        return Agreement(None)
    allowed = _tolerance(tolerance, str(expected.dtype).removeprefix("torch."))
    floating = expected.is_floating_point() or expected.is_complex()
    one, other = _flat(expected), _flat(actual)
    if same_bytes(one, other):
        return Agreement(None, 0.0 if floating else None)
    return _compare_elements(one, other, allowed, expected)


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.resolve_neg().reshape(-1)


def _compare_elements(
    one: torch.Tensor, other: torch.Tensor, allowed: Tolerance, original: torch.Tensor
) -> Agreement:
    """
    Compare two flat tensors of real numbers chunk by chunk.

    Args:
        one: What was expected.
        other: What was got.
        allowed: How far elements may be apart.
        original: The expected tensor before it was made flat and real: tells where.
    """
    atol = allowed.atol
    if atol is None:
        atol = allowed.rtol * _root_mean_square(one) if allowed.rtol else 0.0
    pattern = pattern_of(original)
    wrong, poisoned, largest, worst = 0, 0, 0.0, (-1.0, -1)
    for start in range(0, one.numel(), _CHUNK_ELEMENTS):
        expected, actual = (t[start : start + _CHUNK_ELEMENTS] for t in (one, other))
        bad, gap = _disagreeing(expected, actual, allowed.rtol, atol)
        largest = max(largest, gap)
        if not bool(bad.any()):
            continue
        wrong += int(bad.sum())
        size, index = _worst(expected, actual, bad)
        worst = max(worst, (size, -start - index))
        if pattern is not None:
            poisoned += int((bits(actual[bad]) == pattern).sum())
    floating = one.is_floating_point()
    if not wrong:
        return Agreement(None, largest if floating else None)
    text = _element_text(one, other, wrong, -worst[1], original)
    return Agreement(Difference(text, poisoned > 0), largest if floating else None)


def _worst(expected: torch.Tensor, actual: torch.Tensor, bad: torch.Tensor) -> tuple[float, int]:
    """
    Return the largest difference among elements that disagree, and the first that has it.

    A NaN or infinity against a number is infinitely wrong.
    """
    gap = (expected.double() - actual.double()).abs().nan_to_num(nan=math.inf, posinf=math.inf)
    gap = gap.masked_fill(~bad, -1.0)
    index = int(gap.argmax())
    return float(gap[index]), index


def _element_text(
    one: torch.Tensor, other: torch.Tensor, wrong: int, worst: int, original: torch.Tensor
) -> str:
    expected, actual = one[worst].item(), other[worst].item()
    apart = abs(expected - actual)
    by = f" by {apart:.3g}" if math.isfinite(apart) else ""
    return (
        f"{wrong} of {one.numel()} elements differ, most{by} at {_place(worst, original)}: "
        f"expected {expected!r}, got {actual!r}"
    )


def _place(flat: int, tensor: torch.Tensor) -> str:
    """
    Return the index of an element as one would write it: `[0, 17, 3]`, or `[0, 17].imag`.
    """
    part = ""
    if tensor.is_complex():
        flat, part = flat // 2, (".real", ".imag")[flat % 2]
    index: list[int] = []
    for size in reversed(tensor.shape):
        index.insert(0, flat % size)
        flat //= size
    return f"{index}{part}"


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
