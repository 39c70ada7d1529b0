"""Decoding with wrong arguments: each is named, and the cache is left as it was."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from flashcore_kernels import attention_with_kv_cache


def tensors() -> SimpleNamespace:
    """Return the arguments of a good call: two sequences, one new token each."""
    cache, new = (2, 2, 16, 64), (2, 2, 1, 64)
    return SimpleNamespace(
        q=torch.randn(2, 4, 1, 64).half(),
        k_cache=torch.randn(cache).half(),
        v_cache=torch.randn(cache).half(),
        cache_seqlens=torch.tensor([5, 6], dtype=torch.int32),
        k=torch.randn(new).half(),
        v=torch.randn(new).half(),
    )


WRONG = {
    "lens are 64-bit": ("cache_seqlens", lambda x: x.long(), TypeError, "torch.int32"),
    "lens are too few": ("cache_seqlens", lambda x: x[:1], ValueError, "batch=2"),
    "lens have two dims": ("cache_seqlens", lambda x: x[:, None], ValueError, "dimensions"),
    "q has another dtype": ("q", lambda x: x.bfloat16(), TypeError, "another dtype"),
    "q is no tensor": ("q", lambda x: x.tolist(), TypeError, "not a tensor"),
    "q has 3 heads": ("q", lambda x: x[:, :3], ValueError, "multiple of nheads_k=2"),
    "k_cache has another batch": ("k_cache", lambda x: x[:1], ValueError, "k_cache has the wrong"),
    "v_cache is shorter": ("v_cache", lambda x: x[:, :, 1:], ValueError, "v_cache has the wrong"),
    "k_cache's rows have gaps": ("k_cache", lambda x: x.repeat_interleave(2, 3)[..., ::2],
                                 ValueError, "stride 1"),
    "k_cache is expanded": ("k_cache", lambda x: x[:1].expand(2, -1, -1, -1), ValueError,
                            "appended"),
    "k_cache's sign is lazy": ("k_cache", torch._neg_view, ValueError, "lazily negated"),
    "out's sign is lazy": ("out", lambda _: torch._neg_view(torch.empty(2, 4, 1, 64).half()),
                           ValueError, "out is a lazily negated view"),
    "v is missing": ("v", lambda _: None, ValueError, "v is missing"),
    "v is longer than k": ("v", lambda x: torch.cat([x, x], 2), ValueError, "v has the wrong"),
    "k has other heads": ("k", lambda x: x[:, :1], ValueError, "k has the wrong shape"),
    "scale is infinite": ("scale", lambda _: math.inf, ValueError, "scale is out of range"),
    "out is too small": ("out", lambda _: torch.empty(1, 1, 1, 64).half(), ValueError, "out has"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_argument_is_named_and_the_cache_left_alone(what: str) -> None:
    name, change, error, words = WRONG[what]
    arguments = vars(tensors()) | {"scale": None, "out": None}
    cache, before = arguments["v_cache"], arguments["v_cache"].clone()
    arguments[name] = change(arguments[name])

    with pytest.raises(error, match=words):
        attention_with_kv_cache(**arguments)

    assert torch.equal(before, cache)


@pytest.mark.parametrize("lens", [[5, 16], [5, -1]])
def test_a_length_that_leaves_no_room_is_refused_on_a_cpu(lens: list[int]) -> None:
    arguments = vars(tensors()) | {"cache_seqlens": torch.tensor(lens, dtype=torch.int32)}
    before = arguments["k_cache"].clone()

    with pytest.raises(ValueError, match=r"cache_seqlens\[1\] does not fit: expected 0 to 15"):
        attention_with_kv_cache(**arguments)

    assert torch.equal(before, arguments["k_cache"])


def test_gradients_are_refused_and_not_detached() -> None:
    arguments = vars(tensors())
    arguments["q"].requires_grad_()

    with pytest.raises(NotImplementedError, match="no_grad"):
        attention_with_kv_cache(**arguments)
    with torch.no_grad():
        out = attention_with_kv_cache(**arguments)
    assert not out.requires_grad


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("cache", ["k_cache", "v_cache"])
def test_appending_from_a_view_of_the_cache_is_refused(name: str, cache: str) -> None:
    """Another program of the launch may have overwritten it already."""
    arguments = vars(tensors())
    _, heads, _, headdim = arguments[name].shape
    buffer = torch.zeros(2, heads, 16, headdim).half()
    arguments[cache] = buffer[:, :2]
    arguments[name] = buffer[:, :, 15:]

    with pytest.raises(ValueError, match=f"{name} overlaps {cache} in memory"):
        attention_with_kv_cache(**arguments)

    arguments[name] = arguments[name].clone()
    attention_with_kv_cache(**arguments)


def test_appending_keys_and_values_to_one_cache_is_refused() -> None:
    arguments = vars(tensors())
    arguments["v_cache"] = arguments["k_cache"]

    with pytest.raises(ValueError, match="v_cache is k_cache"):
        attention_with_kv_cache(**arguments)

    attention_with_kv_cache(**{**arguments, "k": None, "v": None})


def test_caches_that_alternate_in_one_buffer_can_be_appended_to() -> None:
    """Their address ranges meet, their elements do not."""
    arguments = vars(tensors())
    both = torch.zeros(2, 16, 2, 2, 64).half()
    arguments["k_cache"], arguments["v_cache"] = (both[:, :, i].transpose(1, 2) for i in range(2))

    attention_with_kv_cache(**arguments)

    assert torch.equal(arguments["k"][0, :, 0], both[0, 5, 0])
    assert torch.equal(arguments["v"][1, :, 0], both[1, 6, 1])
