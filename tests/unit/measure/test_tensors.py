"""
Copies of a call's arguments are, to a kernel, the arguments.
"""

from __future__ import annotations

import collections
import dataclasses
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kernelperf.measure import tensors

torch = pytest.importorskip("torch")

Pair = collections.namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass(frozen=True)
class Cache:
    keys: torch.Tensor
    label: str


class Opaque(torch.Tensor):
    pass


def _address(tensor: torch.Tensor) -> int:
    return tensor.data_ptr() % tensors.ALIGNMENT_BYTES


def test_tensors_are_found_in_every_kind_of_container() -> None:
    one = torch.ones(2)
    tree = ([one], (one, 3), Pair(one, "x"), {"a": {"b": one}}, Cache(one, "k"))

    found = [path for path, _ in tensors.tensors(tree)]

    assert [(0, 0), (1, 0), (2, 0), (3, "a", "b"), (4, "keys")] == found


def test_a_container_that_holds_itself_is_walked_once() -> None:
    tree: list[Any] = [torch.ones(1)]
    tree.append(tree)

    assert [(0,), (1,)] == [path for path, _ in tensors.walk(tree)]


def test_containers_keep_their_types() -> None:
    tree = (
        [torch.ones(1)],
        Pair(torch.ones(1), "x"),
        {"a": torch.ones(1)},
        Cache(torch.ones(1), "k"),
    )

    (lst, pair, dct, cache), _ = tensors.copy_call(tree, {})

    assert [list, Pair, dict, Cache] == [type(lst), type(pair), type(dct), type(cache)]
    assert "k" == cache.label
    assert cache.keys is not tree[3].keys


def test_the_users_containers_are_not_changed() -> None:
    """
    A copy goes into new containers; the old ones hold the old tensors still.
    """
    original = torch.ones(1)
    box = {"a": [original]}

    tensors.copy_call((box,), {})

    assert box["a"][0] is original


def test_what_is_no_tensor_is_never_copied() -> None:
    thing, plain = object(), [1, 2]

    (same, same_list, _), kwargs = tensors.copy_call((thing, plain, torch.ones(1)), {"k": thing})

    assert thing is same
    assert plain is same_list
    assert thing is kwargs["k"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(4, 6),
        lambda: torch.randn(4, 6).t(),
        lambda: torch.randn(10, 10)[2:7, 1::3],
        lambda: torch.randn(4, 1).expand(4, 5),
        lambda: torch.randn(()),
        lambda: torch.randn(9)[3:],
        lambda: torch.randn(8, dtype=torch.float64)[1:].to(torch.bfloat16),
        lambda: torch.randn(3, dtype=torch.complex64).conj(),
        lambda: torch.randn(3, dtype=torch.complex64).conj().imag,
        lambda: torch.tensor([True, False]),
        lambda: torch.arange(5, dtype=torch.uint8).to(torch.float8_e4m3fn),
    ],
)
def test_a_copy_looks_like_its_original(make: Any) -> None:
    original = make()

    (copied,), _ = tensors.copy_call((original,), {})

    assert original.shape == copied.shape
    assert original.stride() == copied.stride()
    assert original.dtype == copied.dtype
    assert _address(original) == _address(copied)
    assert original.data_ptr() != copied.data_ptr()
    assert (original.is_conj(), original.is_neg()) == (copied.is_conj(), copied.is_neg())
    assert tensors.same_bytes(original, copied)


@pytest.mark.parametrize("elements", [8, 2**16, 2**23])
def test_copies_lie_elsewhere_even_in_the_block_that_the_last_one_had(
    elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Allocators hand a block that was given back to the next who asks.
    """
    block = torch.empty(2**26, dtype=torch.uint8)
    original = torch.arange(elements, dtype=torch.int32)
    empty = torch.empty

    def from_the_block(*size: Any, **kwargs: Any) -> torch.Tensor:
        is_buffer = size != (0,) and kwargs.get("dtype") is torch.uint8
        return block[: size[0]] if is_buffer else empty(*size, **kwargs)

    monkeypatch.setattr(torch, "empty", from_the_block)
    addresses = set()
    for _ in range(12):
        (copied,), _ = tensors.copy_call((original,), {})
        assert _address(original) == _address(copied)
        assert tensors.same_bytes(original, copied)
        addresses.add(copied.data_ptr())

    assert len(addresses) > 6


def test_copies_lie_elsewhere_whatever_the_test_seeds() -> None:
    original = torch.zeros(8)
    shifts = set()
    for _ in range(12):
        random.seed(0)
        (copied,), _ = tensors.copy_call((original,), {})
        shifts.add(copied.storage_offset())

    assert len(shifts) > 6


def test_writing_to_a_copy_leaves_the_original() -> None:
    original = torch.zeros(3)

    (copied,), _ = tensors.copy_call((original,), {})
    copied += 1

    assert [0.0, 0.0, 0.0] == original.tolist()


def test_views_of_one_storage_share_memory_again() -> None:
    packed = torch.randn(4, 3, 8)
    q, k = packed[:, 0], packed[:, 1]

    (new_q, new_k), kwargs = tensors.copy_call((q, k), {"packed": packed})

    kwargs["packed"].zero_()
    assert 0.0 == new_q.abs().sum() + new_k.abs().sum()
    assert k.data_ptr() - q.data_ptr() == new_k.data_ptr() - new_q.data_ptr()


def test_one_tensor_passed_twice_stays_one_tensor() -> None:
    q = torch.randn(3)

    (first, second), _ = tensors.copy_call((q, q), {})

    assert first is second


@pytest.mark.parametrize("wanted", [True, False])
def test_requires_grad_is_left_as_it_is(wanted: bool) -> None:
    (copied,), _ = tensors.copy_call((torch.randn(3, requires_grad=wanted),), {})

    assert wanted == copied.requires_grad
    assert copied.is_leaf


def test_a_parameter_stays_a_parameter() -> None:
    (copied,), _ = tensors.copy_call((torch.nn.Parameter(torch.ones(2)),), {})

    assert isinstance(copied, torch.nn.Parameter)


@pytest.mark.parametrize(
    "special", [torch.ones(2).to_sparse(), torch.ones(2).as_subclass(Opaque)], ids=["sparse", "sub"]
)
def test_tensors_whose_bytes_are_hidden_are_passed_on(special: torch.Tensor) -> None:
    (same,), _ = tensors.copy_call((special,), {})

    assert special is same


def test_a_line_says_dtype_shape_strides_and_device() -> None:
    q = torch.zeros(2, 3, dtype=torch.float16)

    assert ("float16[2, 3] strides (3, 1) cpu",) == tensors.describe((q, 1), {})


def test_a_line_says_which_inputs_share_memory() -> None:
    packed = torch.zeros(4, 2)

    lines = tensors.describe((packed, packed[1]), {"other": torch.zeros(1)})

    assert "float32[2] strides (1,) cpu (shares memory with input 0)" == lines[1]
    assert "float32[1] strides (1,) cpu" == lines[2]


def test_a_line_says_that_gradients_are_wanted() -> None:
    """
    Recording gradients makes a callable do other work, so it is another case.
    """
    q = torch.zeros(2, requires_grad=True)

    assert ("float32[2] strides (1,) cpu requires_grad",) == tensors.describe((q,), {})


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((), 0),
        ((1, "x"), 0),
        ((torch.zeros(4), torch.zeros(4, dtype=torch.float16)), 24),
        ((torch.zeros(1).expand(100),), 4),
        ((torch.zeros(10, 10)[:, 0],), 40),
    ],
    ids=["nothing", "no tensor", "two", "expanded", "strided"],
)
def test_the_footprint_is_what_a_call_can_touch(args: Any, expected: int) -> None:
    assert expected == tensors.footprint_bytes(args, {})


def test_shared_memory_counts_once() -> None:
    x = torch.zeros(100)

    assert 400 == tensors.footprint_bytes((x, x[:50], x[25:75]), {"again": x})


def test_a_copy_takes_the_whole_span() -> None:
    column = torch.zeros(10, 10)[:, 0]

    around = tensors.ALIGNMENT_BYTES + 16 * 1024

    assert 91 * 4 + around == tensors.copy_bytes((column,), {})


def test_the_same_nan_is_the_same_bytes() -> None:
    x = torch.tensor([float("nan"), 1.0])

    assert tensors.same_bytes(x, x.clone())


@pytest.mark.parametrize(
    "other",
    [
        torch.tensor([0.0, -0.0]),
        torch.tensor([0.0, 0.0], dtype=torch.float64),
        torch.tensor([[0.0, 0.0]]),
        torch.tensor([0.0, float("nan")]),
    ],
    ids=["negative zero", "dtype", "shape", "nan"],
)
def test_other_bits_are_not_the_same_bytes(other: torch.Tensor) -> None:
    assert not tensors.same_bytes(torch.tensor([0.0, 0.0]), other)


def test_equal_elements_under_other_strides_are_the_same_bytes() -> None:
    assert tensors.same_bytes(torch.ones(1, 1).expand(3, 2), torch.ones(3, 2))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    offset=st.integers(0, 7),
    strides=st.lists(st.integers(0, 6), min_size=3, max_size=3),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.int64, torch.uint8]),
)
def test_any_strided_view_is_copied_exactly(
    sizes: list[int], offset: int, strides: list[int], dtype: torch.dtype
) -> None:
    memory = torch.randint(0, 100, (128,)).to(dtype)
    view = memory.as_strided(sizes, strides[: len(sizes)], offset)

    (copied,), _ = tensors.copy_call((view,), {})

    assert view.stride() == copied.stride()
    assert view.tolist() == copied.tolist()
    assert _address(view) == _address(copied)
    assert tensors.footprint_bytes((view,), {}) <= tensors.copy_bytes((view,), {})


def test_contents_are_overwritten_where_torch_itself_refuses() -> None:
    with torch.inference_mode():
        inference = torch.zeros(2)
    expanded = torch.zeros(1).expand(2)
    leaf = torch.zeros(2, requires_grad=True)

    for tensor in (inference, expanded, leaf):
        tensors.overwrite(tensor, torch.ones(1).expand(2))

    assert [[1.0, 1.0]] * 3 == [inference.tolist(), expanded.tolist(), leaf.tolist()]
