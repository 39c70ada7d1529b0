"""
Poison: a pattern that no computation makes, written before a timed call and looked for after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_kernelperf.measure.tensors import bits, is_plain, without_repeats

if TYPE_CHECKING:
    import torch

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
#: What one element of a complex tensor is made of.
COMPLEX_PART = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}


def is_safe(tensor: torch.Tensor) -> bool:
    """
    Return whether a callable may be called with poison in an argument.

    Integers are out: a poisoned index makes a kernel read or write outside its memory.
    """
    floating = tensor.is_floating_point() or tensor.is_complex()
    return floating and pattern_of(tensor) is not None


def write(tensor: torch.Tensor) -> bool:
    """
    Overwrite a plain tensor with poison; return False where no bit pattern can serve (bool).
    """
    pattern = pattern_of(tensor)
    if pattern is None or not is_plain(tensor):
        return False
    bits(without_repeats(tensor)).fill_(pattern)
    return True


def count(tensor: torch.Tensor) -> int:
    """
    Return how many elements of a floating-point tensor hold poison (0 where a value may look so).
    """
    pattern = pattern_of(tensor)
    if pattern is None or not tensor.is_floating_point() or tensor.element_size() < 2:
        return 0
    return int((bits(tensor) == pattern).sum())


def pattern_of(tensor: torch.Tensor) -> int | None:
    """
    Return the bits that poison an element, or None where no pattern can serve.
    """
    name = str(tensor.dtype).removeprefix("torch.")
    return _POISON_BITS.get(COMPLEX_PART.get(name, name))
