"""The drop-in: torch's answer, torch's alignment, and no silent detour through torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from flashcore_kernels import scaled_dot_product_attention, sdpa

HAS_GPU = torch.cuda.is_available()
# CPU tensors are computed by the reference, and compare tightly; on a GPU the kernels answer.
DTYPE = torch.float16 if HAS_GPU else torch.float32
TOLERANCE = {"rtol": 2e-3, "atol": 2e-3} if HAS_GPU else {"rtol": 1e-5, "atol": 1e-5}


def draw(*shape: int, device: str, dtype: torch.dtype = DTYPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(device, dtype)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize(
    ("query_shape", "key_shape"),
    [
        ((2, 3, 33, 64), (2, 3, 33, 64)),
        ((2, 3, 5, 64), (2, 3, 70, 64)),
        ((2, 3, 70, 64), (2, 3, 5, 64)),
        ((3, 20, 64), (3, 20, 64)),
        ((20, 64), (30, 64)),
        ((2, 4, 9, 64), (2, 1, 9, 64)),  # torch broadcasts a single head
    ],
    ids=str,
)
def test_it_answers_as_torch(query_shape, key_shape, scale, is_causal, device) -> None:
    q, k = draw(*query_shape, device=device), draw(*key_shape, device=device)
    v = draw(*key_shape, device=device) + 1

    out = scaled_dot_product_attention(q, k, v, is_causal=is_causal, scale=scale)

    expected = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal, scale=scale)
    torch.testing.assert_close(out, expected, **TOLERANCE)


def test_causal_is_aligned_top_left(device: str) -> None:
    """With two queries and four keys, query 0 sees key 0 alone and query 1 sees two keys."""
    q, k = draw(1, 1, 2, 64, device=device) * 0, draw(1, 1, 4, 64, device=device)
    v = torch.arange(4, device=device, dtype=DTYPE)[:, None].expand(1, 1, 4, 64)

    out = scaled_dot_product_attention(q, k, v, None, 0.0, True)

    assert out[0, 0, :, 0].tolist() == [0.0, 0.5]


def test_grouped_heads_need_permission(device: str) -> None:
    q, k = draw(2, 4, 9, 64, device=device), draw(2, 2, 9, 64, device=device)

    with pytest.raises(ValueError, match="enable_gqa=True"):
        scaled_dot_product_attention(q, k, k)

    out = scaled_dot_product_attention(q, k, k, enable_gqa=True)
    expected = F.scaled_dot_product_attention(q, k, k, enable_gqa=True)
    torch.testing.assert_close(out, expected, **TOLERANCE)


UNSUPPORTED = {
    "attn_mask": lambda q, k, v: ((q, k, v, torch.zeros(9, 9, dtype=q.dtype)), "attn_mask.*None"),
    "dropout_p": lambda q, k, v: ((q, k, v, None, 0.5), "dropout_p.*0.0, got 0.5"),
    "five dimensions": lambda q, k, v: ((q[None], k[None], v[None]), "5 dimensions"),
    "headdim 256": lambda q, k, v: (
        (q.repeat(1, 1, 1, 4), k.repeat(1, 1, 1, 4), v), "query.*headdim.*1 to 128, got 256",
    ),
    "other headdim of value": lambda q, k, v: ((q, k, v[..., :32]), "value.*expected 64, got 32"),
    "broadcast batch": lambda q, k, v: ((q, k[:1], v[:1]), "batch"),
    "broadcast heads of value": lambda q, k, v: ((q, k, v[:, :1]), r"value is broadcast.*\(2, 1\)"),
    "broadcast heads of key": lambda q, k, v: ((q, k[:, :1], v), r"value is broadcast.*\(2, 2\)"),
    "broadcast batch of value": lambda q, k, v: ((q, k, v[:1]), r"value is broadcast.*\(1, 2\)"),
    "no batch of value": lambda q, k, v: ((q, k, v[0]), r"value is broadcast.*\(2,\)"),
    "broadcast query": lambda q, k, v: ((q[:, :1], k, v), "broadcast over the heads"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_what_it_cannot_do_raises_or_goes_to_torch_when_asked(what: str) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, 9, 64) for _ in range(3))
    arguments, words = UNSUPPORTED[what](q, k, v)

    with pytest.raises(NotImplementedError, match=words):
        scaled_dot_product_attention(*arguments)

    torch.manual_seed(1)
    out = scaled_dot_product_attention(*arguments, fallback="torch")
    torch.manual_seed(1)
    assert torch.equal(F.scaled_dot_product_attention(*arguments), out)


WRONG = {
    "query is no tensor": ({"query": [1.0]}, TypeError, "query is not a tensor: .* got list"),
    "value is no tensor": ({"value": None}, TypeError, "value is not a tensor: .* got NoneType"),
    "mask is no tensor": ({"attn_mask": 1}, TypeError, "attn_mask is not a tensor: .* got int"),
    "causal is no bool": ({"is_causal": 1}, TypeError, "is_causal is not a bool: .* got 1"),
    "another dtype": (
        {"value": torch.zeros(2, 2, 9, 64).double()}, TypeError, "value has another dtype than que",
    ),
    "another device": (
        {"key": torch.zeros(2, 2, 9, 64, device="meta")}, ValueError, "key is on another device",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fallback", [None, "torch"])
@pytest.mark.parametrize("what", WRONG)
def test_what_no_attention_takes_is_named_as_the_caller_wrote_it(what: str, fallback) -> None:
    changes, error, words = WRONG[what]
    arguments = {name: torch.randn(2, 2, 9, 64) for name in ("query", "key", "value")}

    with pytest.raises(error, match=words):
        scaled_dot_product_attention(**{**arguments, **changes}, fallback=fallback)


def test_a_nested_tensor_is_called_one() -> None:
    nested = torch.nested.nested_tensor([torch.randn(2, 3, 64)], layout=torch.strided)

    with pytest.raises(NotImplementedError, match=r"query is not dense: .* got a nested"):
        scaled_dot_product_attention(nested, nested, nested)


@pytest.mark.parametrize("shape", [(2, 3, 9, 64), (3, 9, 64)], ids=str)
def test_autocast_converts_as_it_does_for_torch(shape, device: str) -> None:
    """Queries and keys that were normalised in float32 meet values in half precision."""
    q, k = draw(*shape, device=device, dtype=torch.float32), draw(*shape, device=device)
    v = draw(*shape, device=device, dtype=torch.bfloat16)

    with torch.autocast(device, dtype=torch.bfloat16):
        out = scaled_dot_product_attention(q, k, v, is_causal=True)
        expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)

    assert out.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected, rtol=2e-2, atol=2e-2)


def test_autocast_leaves_float64_alone() -> None:
    q = torch.randn(1, 2, 9, 64, dtype=torch.float64)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert scaled_dot_product_attention(q, q, q).dtype == torch.float64


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_call_like_most_is_not_searched_for_obstacles(monkeypatch, heads, device: str) -> None:
    """The search costs the host more than the kernel's launch does."""

    def searched(*args: object) -> None:
        raise AssertionError("the long way was taken")

    monkeypatch.setattr(sdpa, "_obstacle", searched)
    q = draw(2, 4, 9, 64, device=device, dtype=torch.float16)
    k = draw(2, heads, 9, 64, device=device, dtype=torch.float16)

    out = scaled_dot_product_attention(q, k, k, enable_gqa=heads < 4)

    expected = F.scaled_dot_product_attention(q, k, k, enable_gqa=True)
    torch.testing.assert_close(out, expected, rtol=2e-3, atol=2e-3)


def test_the_fallback_is_not_taken_where_it_is_not_needed(monkeypatch, device: str) -> None:
    def forbidden(*args, **kwargs):
        raise AssertionError("torch was asked for what the package can do")

    monkeypatch.setattr(F, "scaled_dot_product_attention", forbidden)
    q = draw(1, 2, 9, 64, device=device)

    scaled_dot_product_attention(q, q, q, fallback="torch")


def test_an_unknown_fallback_is_refused() -> None:
    q = torch.randn(1, 2, 9, 64)

    with pytest.raises(ValueError, match="expected None or 'torch', got 'cudnn'"):
        scaled_dot_product_attention(q, q, q, fallback="cudnn")


def test_the_signature_is_torchs_plus_fallback() -> None:
    """Positional calls written for torch mean the same here."""
    import inspect

    names = list(inspect.signature(scaled_dot_product_attention).parameters)

    assert names == [
        "query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa",
        "fallback",
    ]  # fmt: skip


def test_gradients_flow_through_the_drop_in(device: str) -> None:
    q = draw(2, 3, 9, 64, device=device).requires_grad_()

    scaled_dot_product_attention(q, q, q, is_causal=True).sum().backward()

    assert q.grad is not None
    assert bool(torch.isfinite(q.grad).all())


@pytest.mark.parametrize("dtype", [torch.float16, DTYPE], ids=str)
def test_it_compiles_to_one_graph_with_dynamic_shapes(dtype, device: str) -> None:
    """By the short way and by the long one."""
    graphs = []

    def count(graph, examples):
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    compiled = torch.compile(
        scaled_dot_product_attention, backend=count, fullgraph=True, dynamic=True
    )
    for length in (9, 33, 50):
        q = draw(2, 4, length, 64, device=device, dtype=dtype)
        k = draw(2, 4, length + 1, 64, device=device, dtype=dtype)

        out = compiled(q, k, k, is_causal=True)

        expected = F.scaled_dot_product_attention(q, k, k, is_causal=True)
        torch.testing.assert_close(out, expected, rtol=2e-3, atol=2e-3)
    assert len(graphs) == 1
