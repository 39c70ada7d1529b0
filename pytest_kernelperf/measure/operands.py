"""
Tells in which dtypes a callable multiplies, where that can be seen from outside.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType
from typing import Any

from pytest_kernelperf.measure import tensors


def operands(
    fn: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str, ...] | None:
    """
    Return the dtypes of all tensors that a call can multiply; None if that can't be seen.

    Only torch's own operators and modules, bare, bound, or in a `functools.partial`, are known to
    multiply in what they are given. Any other callable may cast to narrower numbers inside, and so
    may a tensor that is no plain one: a subclass, a quantised or a sparse tensor.

    Returns:
        Names such as ("float16", "float8_e4m3fn"), sorted.
    """
    held = _held(fn)
    if held is None:
        return None
    found = [tensor for _, tensor in tensors.tensors((args, dict(kwargs), held))]
    if not all(map(tensors.is_plain, found)):
        return None
    return tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in found}))


def _held(fn: object) -> list[Any] | None:
    """
    Return what a callable multiplies besides its arguments; None if that can't be seen.
    """
    if isinstance(fn, functools.partial):
        inner = _held(fn.func)
        return None if inner is None else [fn.args, fn.keywords, *inner]
    if isinstance(fn, BuiltinFunctionType):
        owner = fn.__self__
        if tensors.is_tensor(owner):
            return [owner]
        return [] if _is_torch(fn.__module__) else None
    # Bound methods: those that a module's class was written with.
    owner, method = getattr(fn, "__self__", fn), getattr(fn, "__func__", None)
    if not _is_torchs_module(owner):
        return None
    owned: Any = type(owner)
    if method not in (None, owned.forward, owned.__call__):
        return None
    return list(_weights(owner))


def _is_torchs_module(owner: object) -> bool:
    """
    Return whether all of a module is as torch wrote it: no class, hook or `forward` is another's.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(owner, torch.nn.Module):
        return False
    return all(
        type(part).__module__.startswith("torch.nn.modules.")
        and "forward" not in vars(part)
        and not (part._forward_hooks or part._forward_pre_hooks)
        for part in owner.modules()
    )


def _weights(module: Any) -> Iterator[Any]:
    yield from module.parameters()
    yield from module.buffers()


def _is_torch(name: str | None) -> bool:
    return name is not None and name.partition(".")[0] == "torch"
