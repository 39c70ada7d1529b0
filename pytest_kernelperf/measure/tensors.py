"""
Finds, describes and copies the tensors in a call's nested arguments.

A copy must behave to a kernel like the original: the same strides, the same memory shared between
arguments, the same alignment. What is not a plain tensor is handed on as it is, never copied.
"""

from __future__ import annotations

import copy
import dataclasses
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch

#: The way to a leaf: list and tuple indices, dictionary keys, attribute names.
Path: TypeAlias = tuple[Any, ...]

#: Copies keep their address modulo this, the widest alignment that kernels specialise on: vector
#: loads and Triton look at 16 bytes, TMA at 128, and cudaMalloc promises 256.
ALIGNMENT_BYTES = 256
#: How far copies are moved at random, the least and the most: a small tensor by more than its L2
#: lines, a large one by up to a page of the card's memory.
_SPREAD_BYTES = (16 * 2**10, 2 * 2**20)
#: Its own: a test that seeds Python's generator must not get the same addresses in each process.
_places = random.Random()


def is_tensor(value: object) -> bool:
    """
    Return whether a value is a torch tensor, without importing torch.
    """
    torch = sys.modules.get("torch")
    # A half-imported torch has no Tensor yet; nothing can be one then.
    return isinstance(value, getattr(torch, "Tensor", ())) if torch else False


def is_plain(value: object) -> bool:
    """
    Return whether a value is a tensor that can be copied byte for byte.

    Sparse, quantised, meta and subclassed tensors hide where their bytes are: they are passed on.
    """
    if not is_tensor(value):
        return False
    import torch

    assert isinstance(value, torch.Tensor)
    return (
        type(value) in (torch.Tensor, torch.nn.Parameter)
        and value.layout == torch.strided
        and not value.is_quantized
        and value.device.type != "meta"
    )


def walk(tree: object) -> Iterator[tuple[Path, Any]]:
    """
    Yield every leaf of nested lists, tuples, dictionaries and dataclasses, with the way to it.

    A container that holds itself is a leaf the second time it is met.
    """
    return _walk(tree, (), frozenset())


def _walk(tree: object, path: Path, above: frozenset[int]) -> Iterator[tuple[Path, Any]]:
    children = _children(tree)
    if children is None or id(tree) in above:
        yield path, tree
        return
    for step, child in children:
        yield from _walk(child, (*path, step), above | {id(tree)})


def tensors(tree: object) -> Iterator[tuple[Path, torch.Tensor]]:
    """
    Yield every tensor of a tree, plain or not, with the way to it.
    """
    return ((path, leaf) for path, leaf in walk(tree) if is_tensor(leaf))


def plain_tensors(tree: object) -> Iterator[tuple[Path, torch.Tensor]]:
    """
    Yield every tensor of a tree that can be copied, with the way to it.
    """
    return ((path, leaf) for path, leaf in walk(tree) if is_plain(leaf))


def replace_leaves(tree: Any, change: Callable[[Any], Any]) -> Any:
    """
    Return the tree with each leaf replaced by `change(leaf)`.

    Containers in which nothing changed are returned themselves, not copied.
    """
    return _replace(tree, change, frozenset())


def _replace(tree: Any, change: Callable[[Any], Any], above: frozenset[int]) -> Any:
    children = _children(tree)
    if children is None or id(tree) in above:
        return change(tree)
    changed = {}
    for step, child in children:
        new = _replace(child, change, above | {id(tree)})
        if new is not child:
            changed[step] = new
    return _rebuilt(tree, changed) if changed else tree


def _children(tree: object) -> list[tuple[Any, Any]] | None:
    """
    Return a container's (step, child) pairs, or None for a leaf.
    """
    if isinstance(tree, (list, tuple)):
        return list(enumerate(tree))
    # Before dataclasses: model outputs are often both, and their items are what they hold.
    if isinstance(tree, dict):
        return list(tree.items())
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        names = [field.name for field in dataclasses.fields(tree)]
        return [(name, getattr(tree, name)) for name in names if hasattr(tree, name)]
    return None


def _rebuilt(tree: Any, changed: Mapping[Any, Any]) -> Any:
    if isinstance(tree, tuple):
        values = [changed.get(index, value) for index, value in enumerate(tree)]
        return tree._make(values) if hasattr(tree, "_make") else type(tree)(values)
    twin = copy.copy(tree)
    for step, value in changed.items():
        if isinstance(tree, (list, dict)):
            twin[step] = value
        else:
            # Also works on frozen dataclasses, and runs no __init__ with side effects.
            object.__setattr__(twin, step, value)
    return twin


def describe(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    """
    Return one line per tensor argument: dtype, shape, strides, device type, and shared memory.

    Returns:
        Lines such as `float16[8, 8, 128, 64] strides (65536, 8192, 64, 1) cuda`.
    """
    leaves = [leaf for _, leaf in tensors((args, dict(kwargs)))]
    return tuple(_line(index, leaves) for index in range(len(leaves)))


def _line(index: int, leaves: list[torch.Tensor]) -> str:
    tensor = leaves[index]
    dtype = str(tensor.dtype).removeprefix("torch.")
    shape = ", ".join(str(size) for size in tensor.shape)
    if not is_plain(tensor):
        return f"{dtype}[{shape}] {type(tensor).__name__} {tensor.layout} {tensor.device.type}"
    grad = " requires_grad" if tensor.requires_grad else ""
    before = [(at, leaf) for at, leaf in enumerate(leaves[:index]) if is_plain(leaf)]
    shared = ", ".join(str(at) for at, leaf in before if overlap(leaf, tensor))
    note = f" (shares memory with input {shared})" if shared else ""
    return f"{dtype}[{shape}] strides {tuple(tensor.stride())} {tensor.device.type}{grad}{note}"


def span_bytes(tensor: torch.Tensor) -> tuple[int, int]:
    """
    Return the first byte of its storage that a tensor spans, and the one after the last.
    """
    size = tensor.element_size()
    first = tensor.storage_offset() * size
    if tensor.numel() == 0:
        return first, first
    last = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return first, first + (last + 1) * size


def overlap(one: torch.Tensor, other: torch.Tensor) -> bool:
    """
    Return whether the memory that two plain tensors span overlaps.
    """
    if one.device != other.device:
        return False
    (low, high), (other_low, other_high) = _addresses(one), _addresses(other)
    return low < other_high and other_low < high


def _addresses(tensor: torch.Tensor) -> tuple[int, int]:
    base = tensor.untyped_storage().data_ptr()
    first, end = span_bytes(tensor)
    return base + first, base + end


def aliases(output: Any, inputs: Mapping[Path, torch.Tensor]) -> dict[Path, Path]:
    """
    Return which output leaves lie in the memory of which input leaves.
    """
    found: dict[Path, Path] = {}
    for path, tensor in plain_tensors(output):
        for at, other in inputs.items():
            if tensor.numel() and overlap(tensor, other):
                found.setdefault(path, at)
    return found


def footprint_bytes(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """
    Return how many different bytes one call can touch through its tensor arguments.

    Memory that arguments share counts once; elements that strides skip count not at all, because
    counting them would make an L2 cache look flushed that is not.
    """
    return sum(_touched_bytes(group) for group in _by_storage((args, dict(kwargs))))


def copy_bytes(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """
    Return how much memory one copy of the arguments takes: whole spans, gaps included.
    """
    groups = _by_storage((args, dict(kwargs)))
    lengths = (end - first for first, end in map(_extent, groups))
    return sum(length + _spread_bytes(length) + ALIGNMENT_BYTES for length in lengths)


def _by_storage(tree: object) -> list[list[torch.Tensor]]:
    groups: dict[tuple[str, int], list[torch.Tensor]] = {}
    for _, tensor in plain_tensors(tree):
        key = (str(tensor.device), tensor.untyped_storage().data_ptr())
        groups.setdefault(key, []).append(tensor)
    return list(groups.values())


def _extent(group: list[torch.Tensor]) -> tuple[int, int]:
    spans = [span_bytes(tensor) for tensor in group]
    return min(first for first, _ in spans), max(end for _, end in spans)


def _touched_bytes(group: list[torch.Tensor]) -> int:
    views = {(t.storage_offset(), t.shape, t.stride(), t.element_size()) for t in group}
    elements = sum(
        size * prod(n for n, stride in zip(shape, strides, strict=True) if stride != 0)
        for _, shape, strides, size in views
    )
    spanned, reached = 0, -1
    for first, end in sorted(span_bytes(tensor) for tensor in group):
        spanned += max(0, end - max(first, reached))
        reached = max(reached, end)
    return min(int(elements), spanned)


def copy_call(
    args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """
    Return the arguments with every plain tensor replaced by a copy in new memory.

    Kept are strides (also of expanded tensors), memory shared between arguments, the address
    modulo 256 bytes and `requires_grad`; one tensor passed twice stays one tensor. Whatever is no
    plain tensor is the same object.

    Where a copy begins in its new memory is random: allocators hand the block that one round gave
    back to the next, and a kernel's time depends on its addresses.
    """
    tree = (args, dict(kwargs))
    twins: dict[int, torch.Tensor] = {}
    for group in _by_storage(tree):
        twins.update(_copy_group(group))
    copied = replace_leaves(tree, lambda leaf: twins.get(id(leaf), leaf))
    return copied[0], dict(copied[1])


def _copy_group(group: list[torch.Tensor]) -> dict[int, torch.Tensor]:
    """
    Copy tensors that live in one storage, so that they share memory again.
    """
    import torch

    first, end = _extent(group)
    source = _bytes_of(group[0].untyped_storage(), first, end - first, group[0].device)
    spread = _spread_bytes(end - first)
    buffer = torch.empty(
        end - first + spread + ALIGNMENT_BYTES, dtype=torch.uint8, device=source.device
    )
    place = _places.randrange(0, spread + 1, ALIGNMENT_BYTES)
    shift = place + (source.data_ptr() - buffer.data_ptr()) % ALIGNMENT_BYTES
    if any((buffer.storage_offset() + shift - first) % t.element_size() for t in group):
        # Memory from outside torch may start anywhere; a view needs whole elements all the same.
        shift = place + first % 16
    with torch.no_grad():
        buffer[shift : shift + end - first].copy_(source)
    return {id(tensor): _twin(tensor, buffer, shift - first) for tensor in group}


def _spread_bytes(length: int) -> int:
    """
    Return how far a copy of this many bytes may be moved; an eighth of them in between.
    """
    least, most = _SPREAD_BYTES
    return min(max(length // 8, least), most)


def _bytes_of(
    storage: torch.UntypedStorage, first: int, length: int, device: torch.device
) -> torch.Tensor:
    import torch

    whole = torch.empty(0, dtype=torch.uint8, device=device)
    return whole.set_(storage, first, (length,), (1,))


def _twin(tensor: torch.Tensor, buffer: torch.Tensor, shift_bytes: int) -> torch.Tensor:
    import torch

    size = tensor.element_size()
    offset = (tensor.storage_offset() * size + shift_bytes) // size
    twin = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    twin.set_(buffer.untyped_storage(), offset, tensor.size(), tensor.stride())
    if tensor.is_conj():
        twin = twin.conj()
    if tensor.is_neg():
        twin = twin._neg_view()
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(twin, requires_grad=tensor.requires_grad)
    return twin.requires_grad_(tensor.requires_grad)


def copy_output(output: Any) -> Any:
    """
    Return an output with its tensors copied, apart from any gradient graph.
    """
    return replace_leaves(output, lambda leaf: leaf.detach().clone() if is_tensor(leaf) else leaf)


def without_repeats(tensor: torch.Tensor) -> torch.Tensor:
    """
    Return a view in which each expanded (stride 0) dimension has one element.

    Writing through an expanded tensor is refused by torch, and reading it repeats the same bytes.
    """
    for dim, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.size(dim) > 1:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """
    Return a plain tensor's memory as integers of the same width (complex numbers as pairs).

    It may be written through, whatever the tensor's own state forbids (gradients, inference).
    """
    import torch

    tensor = tensor.detach()
    if tensor.is_conj():
        tensor = tensor.conj()  # Takes the lazy mark off again: what remains is the memory itself.
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if tensor.is_neg():
        tensor = tensor._neg_view()
    widths = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.view(widths[tensor.element_size()])


def same_bytes(one: torch.Tensor, other: torch.Tensor) -> bool:
    """
    Return whether two plain tensors have the same dtype, shape and bits; NaN equals the same NaN.
    """
    import torch

    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.stride() == other.stride():
        # Only then do both repeat the same elements.
        one, other = without_repeats(one), without_repeats(other)
    return bool(torch.equal(bits(one), bits(other)))


def overwrite(tensor: torch.Tensor, contents: torch.Tensor) -> None:
    """
    Give a tensor other contents in place, also where torch would refuse (expanded, inference).
    """
    target, source = bits(tensor), bits(contents)
    if tensor.stride() == contents.stride():
        target, source = without_repeats(target), without_repeats(source)
    target.copy_(source)
