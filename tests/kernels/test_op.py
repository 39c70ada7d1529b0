"""The registered operators: torch's own checks, one graph when compiled, shapes without data."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from flashcore_kernels import attention, attention_with_kv_cache, op
from flashcore_kernels.reference import attention_reference

HAS_GPU = torch.cuda.is_available()
DTYPE = torch.float16 if HAS_GPU else torch.float32
TOLERANCE = {"rtol": 2e-3, "atol": 2e-3} if HAS_GPU else {"rtol": 1e-5, "atol": 1e-5}


def inputs(device: str, *, seqlen_q: int = 9, seqlen_k: int = 12, grad: bool = False):
    """Draw q with four heads, k and v with two."""
    generator = torch.Generator().manual_seed(seqlen_q)
    shapes = [(2, 4, seqlen_q, 64), (2, 2, seqlen_k, 64), (2, 2, seqlen_k, 64)]
    drawn = [torch.randn(s, generator=generator).to(device, DTYPE) for s in shapes]
    return [tensor.requires_grad_(grad) for tensor in drawn]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(("causal", "offset"), [(False, 0), (True, 0), (True, 3)])
def test_torch_finds_no_fault_in_the_forward_operator(device, causal, offset, grad) -> None:
    """Schema, autograd registration, fake tensors, static and dynamic compilation."""
    q, k, v = inputs(device, grad=grad)

    torch.library.opcheck(
        torch.ops.flashcore.attention_forward.default, (q, k, v, causal, 0.125, offset)
    )


def test_torch_finds_no_fault_in_the_backward_operator(device: str) -> None:
    q, k, v = inputs(device)
    out, lse = torch.ops.flashcore.attention_forward(q, k, v, True, 0.125, 0)

    for grad_lse in (None, torch.ones_like(lse)):
        torch.library.opcheck(
            torch.ops.flashcore.attention_backward.default,
            (torch.ones_like(out), grad_lse, q, k, v, out, lse, True, 0.125, 0),
        )


@pytest.mark.parametrize("append", [False, True])
def test_torch_finds_no_fault_in_the_cache_operator(device: str, append: bool) -> None:
    q, k, v = inputs(device, seqlen_q=1)
    lens = torch.tensor([3, 10], dtype=torch.int32, device=device)
    new = (k[:, :, :1].clone(), v[:, :, :1].clone()) if append else (None, None)

    torch.library.opcheck(
        torch.ops.flashcore.attention_kv_cache.default, (q, k, v, lens, *new, True, 0.125)
    )


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_attention_compiles_to_one_graph_with_dynamic_shapes(backend: str, device: str) -> None:
    """One compilation serves several sequence lengths, with no graph break."""
    graphs = 0

    def count(graph, examples):
        nonlocal graphs
        graphs += 1
        return torch._dynamo.lookup_backend(backend)(graph, examples)

    def model(q, k, v):
        return attention(q * 2, k, v, causal=True) + 1

    torch._dynamo.reset()
    compiled = torch.compile(model, backend=count, fullgraph=True, dynamic=True)
    for seqlen in (9, 33, 50):
        q, k, v = inputs(device, seqlen_q=seqlen, seqlen_k=seqlen + 1)
        torch.testing.assert_close(compiled(q, k, v), model(q, k, v), **TOLERANCE)

    assert graphs == 1


@pytest.mark.parametrize("flag", ["causal", "return_lse"])
def test_a_compiled_call_refuses_a_flag_that_is_no_bool_as_an_eager_one_does(
    device: str, flag: str
) -> None:
    """Without a check the operator's schema takes 1 for True."""
    q, k, v = inputs(device)
    torch._dynamo.reset()
    compiled = torch.compile(attention, backend="eager")

    for function in (attention, compiled):
        with pytest.raises(TypeError, match=f"{flag} is not a bool: expected True or False, got 1"):
            function(q, k, v, **{flag: 1})


def test_compiled_gradients_equal_eager_ones(device: str) -> None:
    q, k, v = inputs(device, grad=True)

    def loss(q, k, v):
        return attention(q, k, v, causal=True).float().square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    expected = torch.autograd.grad(loss(q, k, v), (q, k, v))
    got = torch.autograd.grad(compiled(q, k, v), (q, k, v))

    for a, b in zip(expected, got, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_decode_step_writes_the_cache(device: str, backend: str) -> None:
    """The compiler may copy what it thinks nobody writes: the schema must say that we do."""
    q, k_cache, v_cache = inputs(device, seqlen_q=1)
    lens = torch.tensor([3, 10], dtype=torch.int32, device=device)
    k_new, v_new = k_cache[:, :, :1] + 1, v_cache[:, :, :1] - 1

    def step(q, k_cache, v_cache, lens, k, v):
        return attention_with_kv_cache(q, k_cache, v_cache, lens, k, v), lens + 1

    eager_cache = k_cache.clone()
    expected, _ = step(q, eager_cache, v_cache.clone(), lens, k_new, v_new)
    torch._dynamo.reset()
    compiled = torch.compile(step, backend=backend, fullgraph=True)
    out, next_lens = compiled(q, k_cache, v_cache, lens, k_new, v_new)

    torch.testing.assert_close(expected, out, **TOLERANCE)
    assert torch.equal(eager_cache, k_cache)
    assert torch.equal(k_new[1, :, 0], k_cache[1, :, 10])
    assert next_lens.tolist() == [4, 11]


@pytest.mark.parametrize("transposed", [False, True])
def test_the_fake_knows_shapes_dtypes_and_strides(device: str, transposed: bool) -> None:
    real = inputs(device)
    if transposed:
        real = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in real]
    out, lse = torch.ops.flashcore.attention_forward(*real, True, 0.125, 0)

    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(tensor) for tensor in real]
        fake_out, fake_lse = torch.ops.flashcore.attention_forward(*fakes, True, 0.125, 0)

    for a, b in ((out, fake_out), (lse, fake_lse)):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())


def test_the_operator_computes_attention(device: str) -> None:
    q, k, v = inputs(device)

    out, lse = torch.ops.flashcore.attention_forward(q, k, v, True, 0.125, 3)

    expected, expected_lse = attention_reference(q, k, v, causal=True, causal_offset=3, scale=0.125)
    torch.testing.assert_close(out.float(), expected, **TOLERANCE)
    torch.testing.assert_close(lse, expected_lse, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_a_card_gets_the_kernels_result_and_its_log_sum_exp(device: str, causal: bool) -> None:
    """What is registered for CUDA, called as the dispatcher does."""
    q, k, v = (tensor.half() for tensor in inputs(device))

    out, lse = op._forward_cuda(q, k, v, causal, 0.125, 3)

    expected, expected_lse = attention_reference(
        q, k, v, causal=causal, causal_offset=3, scale=0.125
    )
    torch.testing.assert_close(out.float(), expected, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(lse, expected_lse, rtol=1e-4, atol=1e-4)


def test_importing_anew_keeps_the_operators(device: str) -> None:
    """As pytester does between two runs in one process."""
    before = torch.ops.flashcore.attention_forward.default

    importlib.reload(op)

    assert torch.ops.flashcore.attention_forward.default is before
    q, k, v = inputs(device, grad=True)
    assert attention(q, k, v).requires_grad


def test_the_forward_schema_is_the_published_one() -> None:
    """Other code calls it by position, and passes symbolic offsets."""
    assert str(torch.ops.flashcore.attention_forward.default._schema) == (
        "flashcore::attention_forward(Tensor q, Tensor k, Tensor v, bool causal, float scale, "
        "SymInt causal_offset) -> (Tensor out, Tensor lse)"
    )


class _Recorder(TorchDispatchMode):
    """Record which operators pass through torch's dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("with_out", [False, True])
def test_a_mode_that_watches_operators_sees_attention(device: str, with_out: bool) -> None:
    """Such as a FLOP counter; a launch past the dispatcher would be missing in its books."""
    q, k, v = inputs(device)
    expected = attention(q, k, v, causal=True)
    attention(q, k, v, causal=True)
    out = torch.empty_like(q) if with_out else None

    with _Recorder() as recorder:
        result = attention(q, k, v, causal=True, out=out)

    assert recorder.names[0] == "flashcore.attention_forward.default"
    assert result is out or out is None
    torch.testing.assert_close(expected, result, **TOLERANCE)


def test_a_mode_that_watches_operators_sees_a_decode_step(device: str) -> None:
    q, k_cache, v_cache = inputs(device, seqlen_q=1)
    lens = torch.tensor([3, 10], dtype=torch.int32, device=device)
    expected = attention_with_kv_cache(q, k_cache, v_cache, lens)
    out = torch.empty_like(q)

    with _Recorder() as recorder:
        result = attention_with_kv_cache(q, k_cache, v_cache, lens, out=out)

    assert recorder.names[0] == "flashcore.attention_kv_cache.default"
    assert result is out
    torch.testing.assert_close(expected, out, **TOLERANCE)


def test_attention_can_be_mapped_over_another_dimension(device: str) -> None:
    """Tensors inside vmap have no address."""
    q, k, v = (torch.stack([x, x + 1]) for x in inputs(device))

    mapped = torch.vmap(attention)(q, k, v)

    for i in range(2):
        torch.testing.assert_close(attention(q[i], k[i], v[i]), mapped[i], **TOLERANCE)


def test_a_lazily_negated_tensor_is_read_with_its_sign(device: str) -> None:
    q, k, v = inputs(device)
    lazy = torch._neg_view(q.clone())

    torch.testing.assert_close(attention(-q, k, v), attention(lazy, k, v), **TOLERANCE)
