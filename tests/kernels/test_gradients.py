"""Gradients: against finite differences in float64, against torch, and never silently absent."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from flashcore_kernels import attention, op

HAS_GPU = torch.cuda.is_available()


def draw(*shapes: tuple[int, ...], dtype: torch.dtype, device: str = "cpu") -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(shape, generator=generator).to(device, dtype).requires_grad_()
        for shape in shapes
    ]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("nheads_k", [1, 2, 4])
@pytest.mark.parametrize(("seqlen_q", "seqlen_k"), [(5, 5), (3, 7), (7, 3)])
def test_they_agree_with_finite_differences(causal, nheads_k, seqlen_q, seqlen_k) -> None:
    """Grouped heads sum the gradients of their queries; key/value lengths may differ."""
    q, k, v = draw(
        (2, 4, seqlen_q, 4), (2, nheads_k, seqlen_k, 4), (2, nheads_k, seqlen_k, 4),
        dtype=torch.float64,
    )  # fmt: skip

    assert torch.autograd.gradcheck(
        lambda q, k, v: attention(q, k, v, causal=causal, scale=0.7), (q, k, v)
    )


@pytest.mark.parametrize("offset", [0, 2, -2])
def test_gradients_of_lse_agree_with_finite_differences(offset: int) -> None:
    """Through both outputs at once; rows that see no key are left out, their lse is -inf."""
    q, k, v = draw((1, 2, 5, 4), (1, 1, 6, 4), (1, 1, 6, 4), dtype=torch.float64)

    def both(q, k, v):
        results = torch.ops.flashcore.attention_forward(q, k, v, True, -0.6, offset)
        return tuple(result[:, :, max(0, -offset) :] for result in results)

    assert torch.autograd.gradcheck(both, (q, k, v))


def test_lse_has_one_dtype_whether_gradients_are_recorded_or_not() -> None:
    q, k, v = draw((1, 1, 3, 4), (1, 1, 3, 4), (1, 1, 3, 4), dtype=torch.float64)

    out, lse = attention(q, k, v, return_lse=True)
    with torch.no_grad():
        _, expected = attention(q, k, v, return_lse=True)

    assert (torch.float64, torch.float32, torch.float32) == (out.dtype, lse.dtype, expected.dtype)
    torch.testing.assert_close(expected, lse.detach())
    assert lse.requires_grad


def test_a_row_that_sees_no_key_gets_and_gives_no_gradient() -> None:
    q, k, v = draw((1, 1, 3, 4), (1, 1, 2, 4), (1, 1, 2, 4), dtype=torch.float64)

    out, _ = torch.ops.flashcore.attention_forward(q, k, v, True, 1.0, -3)
    out.sum().backward()

    assert [int(t.grad.count_nonzero()) for t in (q, k, v)] == [0, 0, 0]


@pytest.mark.parametrize("max_scores", [1, 100, 1000, 10_000])
@pytest.mark.parametrize("causal", [False, True])
def test_cutting_into_chunks_changes_nothing(monkeypatch, max_scores: int, causal: bool) -> None:
    """Chunks of single rows, of some rows, of whole sequences."""
    q, k, v = draw((3, 4, 11, 8), (3, 2, 13, 8), (3, 2, 13, 8), dtype=torch.float64)

    def gradients():
        loss = attention(q, k, v, causal=causal).square().sum()
        return torch.autograd.grad(loss, (q, k, v))

    whole = gradients()
    monkeypatch.setattr(op, "MAX_CHUNK_SCORES", max_scores)
    monkeypatch.setattr(op, "MIN_CHUNK_ROWS", 2)

    for expected, got in zip(whole, gradients(), strict=True):
        torch.testing.assert_close(expected, got)


@pytest.mark.parametrize(
    ("batch", "nheads", "seqlen_q", "seqlen_k"),
    [(1, 1, 1, 1), (0, 2, 3, 4), (2, 2, 0, 4), (3, 8, 1000, 777), (64, 32, 5, 2**20)],
)
def test_chunks_cover_every_row_once_and_stay_small(batch, nheads, seqlen_q, seqlen_k) -> None:
    seen = torch.zeros(batch, seqlen_q, dtype=torch.int64)
    for batches, rows in op._chunks(batch, nheads, seqlen_q, seqlen_k):
        seen[batches, rows] += 1
        scores = (batches.stop - batches.start) * (rows.stop - rows.start) * nheads * seqlen_k
        assert scores <= max(op.MAX_CHUNK_SCORES, nheads * seqlen_k)

    assert bool((seen == 1).all())


CASES = [
    ((2, 4, 33, 64), (2, 4, 33, 64), False),
    ((2, 4, 65, 64), (2, 2, 65, 64), True),
    ((1, 8, 17, 128), (1, 1, 100, 128), False),
] + (
    [
        ((4, 8, 512, 64), (4, 8, 512, 64), True),
        ((1, 8, 1000, 128), (1, 2, 1000, 128), True),
        ((1, 2, 4096, 64), (1, 1, 4096, 64), False),  # its float64 scores take 0.3 GB
    ]
    if HAS_GPU
    else []
)


@pytest.mark.parametrize(("q_shape", "k_shape", "causal"), CASES, ids=str)
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16] if HAS_GPU else [torch.float32], ids=str
)
def test_they_agree_with_torch(q_shape, k_shape, causal, dtype, device: str) -> None:
    """No further from the float64 gradients than twice torch's own, plus rounding."""
    q, k, v = draw(q_shape, k_shape, k_shape, dtype=dtype, device=device)
    weight = torch.randn(q_shape, generator=torch.Generator().manual_seed(1)).to(device, dtype)

    def torchs(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)

    ours = torch.autograd.grad((attention(q, k, v, causal=causal) * weight).sum(), (q, k, v))
    theirs = torch.autograd.grad((torchs(q, k, v) * weight).sum(), (q, k, v))
    exact_inputs = [t.detach().double().requires_grad_() for t in (q, k, v)]
    loss = (torchs(*exact_inputs) * weight.double()).sum()
    exact = torch.autograd.grad(loss, exact_inputs)
    del loss  # it holds the scores

    for mine, peer, truth in zip(ours, theirs, exact, strict=True):
        assert mine.dtype == dtype
        rounding = torch.finfo(dtype).eps * truth.norm()
        assert (mine - truth).norm() <= 2 * (peer - truth).norm() + rounding


@pytest.mark.parametrize("rounded", [torch.float16, torch.bfloat16])
def test_a_backward_pass_under_autocast_is_the_same(device: str, rounded: torch.dtype) -> None:
    """Scores of 16 bits against a log-sum-exp of 32 made gradients too large by any factor."""
    q, k, v = draw(*[(1, 2, 33, 16)] * 3, dtype=torch.float16, device=device)
    out = attention(q, k, v, scale=20.0)
    assert isinstance(out, torch.Tensor)
    expected = torch.autograd.grad(out, (q, k, v), torch.ones_like(out), retain_graph=True)

    with torch.autocast(device, rounded):
        grads = torch.autograd.grad(out, (q, k, v), torch.ones_like(out))

    for got, wanted in zip(grads, expected, strict=True):
        assert torch.equal(got, wanted)


def test_a_second_derivative_is_refused() -> None:
    q, k, v = draw((1, 1, 3, 4), (1, 1, 3, 4), (1, 1, 3, 4), dtype=torch.float64)
    (first,) = torch.autograd.grad(attention(q, k, v).sum(), q, create_graph=True)

    with pytest.raises(NotImplementedError, match="second derivative"):
        first.sum().backward()


def test_only_what_requires_a_gradient_gets_one(device: str) -> None:
    dtype = torch.float16 if HAS_GPU else torch.float32
    q, k, v = draw((1, 2, 9, 64), (1, 2, 9, 64), (1, 2, 9, 64), dtype=dtype, device=device)
    k.requires_grad_(False)

    out = attention(q, k, v)
    assert out.requires_grad
    out.sum().backward()

    assert q.grad is not None
    assert v.grad is not None
    assert k.grad is None


def test_no_graph_is_built_where_none_is_wanted() -> None:
    q, k, v = draw((1, 2, 9, 64), (1, 2, 9, 64), (1, 2, 9, 64), dtype=torch.float32)

    with torch.no_grad():
        assert not attention(q, k, v).requires_grad
    with torch.inference_mode():
        assert not attention(q, k, v).requires_grad


def _jvp(call):
    x = torch.linspace(-1, 1, 64).reshape(1, 2, 4, 8)
    return torch.func.jvp(call, (x,), (torch.ones_like(x),))


OTHER_DERIVATIVES = {
    "jvp": lambda: _jvp(lambda x: attention(x, x, x)),
    "vmap in jvp": lambda: _jvp(lambda x: torch.vmap(attention)(x[None], x[None], x[None])),
    "jacfwd": lambda: torch.func.jacfwd(lambda x: attention(x, x, x))(torch.ones(1, 1, 2, 4)),
    "jacrev": lambda: torch.func.jacrev(lambda x: attention(x, x, x))(torch.ones(1, 1, 2, 4)),
    "grad": lambda: torch.func.grad(lambda x: attention(x, x, x).sum())(torch.ones(1, 1, 2, 4)),
    "vmap of grad": lambda: torch.vmap(torch.func.grad(lambda x: attention(x, x, x).sum()))(
        torch.ones(3, 1, 1, 2, 4)
    ),
    "compiled jvp": lambda: torch.compile(
        lambda: _jvp(lambda x: attention(x, x, x)), backend="aot_eager"
    )(),
}


@pytest.mark.parametrize("how", OTHER_DERIVATIVES)
def test_a_derivative_that_the_operator_lacks_is_refused_and_never_zero(how: str) -> None:
    """torch.func sees an operator without a forward-mode rule as a constant."""
    torch._dynamo.reset()

    with pytest.raises(NotImplementedError, match="flashcore attention has no"):
        OTHER_DERIVATIVES[how]()


def test_a_compiled_call_and_the_operator_refuse_a_tangent() -> None:
    """Compiled outside of the forward mode, and called in it."""
    x = torch.ones(1, 1, 2, 4)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: attention(x, x, x), backend="aot_eager")
    compiled(x)

    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        with pytest.raises(NotImplementedError):
            compiled(dual)
        with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
            torch.ops.flashcore.attention_forward(dual, x, x, False, 1.0, 0)


def test_vmap_is_no_derivative() -> None:
    """In a forward mode of someone else's, and inside torch.func.grad of something else."""
    x = torch.linspace(-1, 1, 64).reshape(1, 1, 2, 4, 8)
    expected = attention(x[0], x[0], x[0])

    with torch.autograd.forward_ad.dual_level():
        assert torch.equal(expected, torch.vmap(attention)(x, x, x)[0])
    grad = torch.func.grad(lambda y: (y * torch.vmap(attention)(x, x, x)[0]).sum())(x[0])
    assert torch.equal(expected, grad)
