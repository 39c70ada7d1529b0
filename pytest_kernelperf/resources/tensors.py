"""
Tensors that say they are on a GPU, on a machine that has none: shape, strides, dtype, no content.

They are real `torch.Tensor` objects with CUDA's dispatch key, so that code which looks at
`is_cuda`, the device or the exact type takes the way that it takes on a GPU. What torch would
compute is computed on the meta device, which knows shapes only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_any, tree_map

from pytest_kernelperf.errors import NoValueError

_META = torch.device("meta")
#: Operators that give a number, or decide a shape by one.
_WANTS_VALUE = "the value of a GPU tensor was asked for, and without a GPU there is none"


def _empty_integers(*args: Any, **kwargs: Any) -> torch.Tensor:
    """
    Take the arguments of `torch.randint` and return a tensor like its result.
    """
    size = kwargs.pop("size", args[-1])
    kept = {name: kwargs[name] for name in ("dtype", "device") if kwargs.get(name) is not None}
    return torch.empty(size, **{"dtype": torch.int64, **kept})


#: On the meta device random numbers come from decompositions, whose import takes four seconds.
_ALIKE: dict[Any, Callable[..., Any]] = {
    torch.randn: torch.empty,
    torch.rand: torch.empty,
    torch.randint: _empty_integers,
}


#: These make a tensor's device current before any mode is asked, and there is no such device.
_GUARDED = frozenset({torch.Tensor.__getitem__, torch.Tensor.__setitem__, torch.Tensor.contiguous})

#: Namespaces of operators that launch no Triton kernel of anybody's.
_TORCHS_OWN = frozenset({"aten", "prim", "prims"})


class _Wrapper(torch.Tensor):  # type: ignore[misc]
    """
    Only ever the class of a tensor while it is made: `torch.Tensor` refuses to be made like this.
    """

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NoValueError(_WANTS_VALUE)


def stand_in(meta: torch.Tensor, index: int) -> torch.Tensor:
    """
    Return a tensor on `cuda:<index>` with a meta tensor's shape, strides, offset and dtype.
    """
    made: torch.Tensor = torch.Tensor._make_wrapper_subclass(
        _Wrapper,
        meta.shape,
        strides=meta.stride(),
        storage_offset=meta.storage_offset(),
        dtype=meta.dtype,
        device=torch.device("cuda", index),
        requires_grad=meta.requires_grad,
    )
    made.__class__ = torch.Tensor
    made._kernelperf_meta = meta
    return made


def is_stand_in(value: Any) -> bool:
    """
    Return whether a value is a tensor of `stand_in`.
    """
    return isinstance(value, torch.Tensor) and hasattr(value, "_kernelperf_meta")


def moved(values: Any, index: int) -> Any:
    """
    Return nested values with every stand-in on another card; one tensor stays one tensor.
    """
    known: dict[int, torch.Tensor] = {}

    def move(value: Any) -> Any:
        if not is_stand_in(value) or value.get_device() == index:
            return value
        return known.setdefault(id(value), stand_in(value._kernelperf_meta, index))

    return tree_map(move, values)


def _on_meta(func: Any, args: Any, kwargs: Any) -> Any:
    """
    Call a function with the meta tensors behind stand-ins, and return stand-ins for what it made.

    Raises:
        NoValueError: If it needs a value.
    """
    indices: list[int] = []
    given: dict[int, torch.Tensor] = {}

    def lower(value: Any) -> Any:
        if not is_stand_in(value):
            return _META if _is_cuda_device(value) else value
        indices.append(value.get_device())
        given[id(value._kernelperf_meta)] = value
        return value._kernelperf_meta

    def lift(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or is_stand_in(value):
            return value
        return given[id(value)] if id(value) in given else stand_in(value, indices[0])

    lowered_args, lowered_kwargs = tree_map(lower, (args, kwargs))
    if str(kwargs.get("device", "")) == "cpu":
        raise NoValueError(f"{_WANTS_VALUE} ({func})")
    try:
        return tree_map(lift, func(*lowered_args, **lowered_kwargs))
    except (RuntimeError, NotImplementedError) as error:
        if "meta" in str(error).lower():
            raise NoValueError(f"{_WANTS_VALUE} ({func})") from error
        raise


def _called(func: Any, args: Any, kwargs: Any) -> Any:
    """
    Call a function that asks for no card, on the meta device where it would look for the card.
    """
    if func in _GUARDED and is_stand_in(args[0]):
        return _on_meta(func, args, kwargs)
    try:
        return func(*args, **kwargs)
    except RuntimeError as error:
        # Other functions guard the device too, and which ones changes between releases.
        if "cuda" not in str(error).lower() or not tree_any(is_stand_in, (args, kwargs)):
            raise
        return _on_meta(func, args, kwargs)


def _written_in_python(func: Any) -> Callable[..., Any] | None:
    """
    Return an operator's own code for a GPU if it is Python's, called past the dispatcher.

    Of a registered operator the meta device would see the shapes alone, and not what it launches.
    Torch hands its code out from release 2.9 on.
    """
    known: set[str] = getattr(torch.library, "_impls", set())
    name = func.name().replace("::", "/", 1)
    # What torch.library.custom_op registers is for all devices, unless it names some.
    keys = ("CUDA", "CompositeExplicitAutograd")
    if not (known & {f"{name}/{key}" for key in keys} and hasattr(torch.library, "get_kernel")):
        return None
    kernel = torch.library.get_kernel(func, "CUDA")
    return partial(kernel.call_boxed, torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA))


class _OnMeta(TorchDispatchMode):  # type: ignore[misc]
    """
    Computes on the meta device whatever touches a stand-in, and calls what operators of others do.

    Args:
        on_cards: The mode beside it, which an operator's code needs too.
        opaque: Gets the names of operators of others that are not written in Python.
    """

    def __init__(self, on_cards: _OnCards, opaque: set[str]) -> None:
        super().__init__()
        self._on_cards = on_cards
        self._opaque = opaque

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # whose import takes four seconds, at the first operator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not tree_any(is_stand_in, (args, kwargs)):
            return func(*args, **kwargs)
        if func.namespace not in _TORCHS_OWN:
            own_code = _written_in_python(func)
            if own_code is not None:
                with self, self._on_cards:
                    return own_code(*args, **kwargs)
            self._opaque.add(func.name())
        return _on_meta(func, args, kwargs)


class _OnCards(TorchFunctionMode):  # type: ignore[misc]
    """
    Makes what is asked for on a CUDA device a stand-in, before torch looks for that device.
    """

    def __init__(self, current_index: Callable[[], int]) -> None:
        super().__init__()
        self._current_index = current_index

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        first: Any = args[0] if args else None
        if func is torch.Tensor.__repr__ and is_stand_in(first):
            return f"tensor(..., {list(first.shape)}, {first.dtype}, {first.device})"
        if func is torch.Tensor.cuda:
            device = args[1] if len(args) > 1 else kwargs.get("device")
            return self._on_card(first.to(_META), device)
        wanted = [value for value in (*args, *kwargs.values()) if _is_cuda_device(value)]
        if func is torch.device or not wanted or is_stand_in(first):
            return _called(func, args, kwargs)

        def to_meta(value: Any) -> Any:
            return _META if _is_cuda_device(value) else value

        kwargs = {name: to_meta(value) for name, value in kwargs.items()}
        for name in ("generator", "pin_memory"):
            kwargs.pop(name, None)
        made = _ALIKE.get(func, func)(*map(to_meta, args), **kwargs)
        return tree_map(lambda value: self._on_card(value, wanted[0]), made)

    def _on_card(self, value: Any, device: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.device != _META or is_stand_in(value):
            return value
        index = device if isinstance(device, int) else torch.device(device or "cuda").index
        return stand_in(value, self._current_index() if index is None else index)


def _is_cuda_device(value: Any) -> bool:
    if isinstance(value, str):
        return value == "cuda" or value.startswith("cuda:")
    return isinstance(value, torch.device) and value.type == "cuda"


@contextlib.contextmanager
def stand_in_tensors(current_index: Callable[[], int], opaque: set[str]) -> Iterator[None]:
    """
    Let `device="cuda"` make stand-ins in the block.

    Args:
        current_index: Gives the card that "cuda" means.
        opaque: Gets the names of operators whose code could not be followed.
    """
    # Code that asks whether somebody wants to see its operators must go the way it goes on a card.
    counted: Callable[[], int] = torch._C._len_torch_dispatch_stack

    def without_ours() -> int:
        return max(0, int(counted()) - 1)

    hidden = mock.patch.object(torch._C, "_len_torch_dispatch_stack", without_ours)
    on_cards = _OnCards(current_index)
    with hidden, _OnMeta(on_cards, opaque), on_cards:
        yield
