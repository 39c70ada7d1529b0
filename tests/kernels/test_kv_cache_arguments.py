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
    "v is missing": ("v", lambda _: None, ValueError, "v is missing"),
    "v is longer than k": ("v", lambda x: torch.cat([x, x], 2), ValueError, "v has the wrong"),
    "k has other heads": ("k", lambda x: x[:, :1], ValueError, "k has the wrong shape"),
    "scale is infinite": ("scale", lambda _: math.inf, ValueError, "finite"),
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
