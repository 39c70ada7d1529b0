"""
The public function: results and layouts, refusals, streams, graphs, several GPUs.

On a GPU it runs the kernels by both ways, checked and remembered; without one, the reference.
"""

from __future__ import annotations

import math

import pytest
import torch
from accuracy import assert_accurate, assert_no_worse_than_plain_torch
from attention_inputs import DEVICE, forward, make, needs_gpu, shifted, transposed

from flashcore_kernels import attention
from flashcore_kernels.reference import attention_reference


@pytest.mark.parametrize("causal", [False, True])
def test_the_public_function_is_right_on_this_device(causal):
    """CPU tensors take the reference, CUDA tensors the kernel; twice, to take the fast path too."""
    for seed in range(2):
        q, k, v = make(2, 4, 2, 66, 66, 64, seed=seed)

        out, lse = attention(q, k, v, causal=causal, return_lse=True)

        assert_accurate(out, lse, q, k, v, causal=causal)


def test_the_result_has_the_strides_of_the_queries():
    q, k, v = (transposed(x) for x in make(1, 4, 4, 16, 16, 64))

    assert attention(q, k, v).stride() == q.stride()


def test_out_is_written_and_returned():
    q, k, v = make(1, 2, 2, 65, 65, 64)
    expected = attention(q, k, v)
    out = torch.full((1, 2, 65, 128), math.nan, dtype=q.dtype, device=DEVICE)[..., :64]

    for _ in range(2):
        result = attention(q, k, v, out=out)

        assert result is out
        assert torch.equal(expected, out)


def test_the_kernel_writes_nothing_beyond_out():
    q, k, v = make(1, 2, 2, 65, 65, 40)
    buffer = torch.full((1, 2, 128, 64), 7.0, dtype=q.dtype, device=DEVICE)

    out, _ = forward(q, k, v, out=buffer[:, :, :65, :40])

    assert_accurate(out, None, q, k, v)
    buffer[:, :, :65, :40] = 7.0
    assert bool((buffer == 7.0).all())


@pytest.mark.parametrize("length", [64, 65])
def test_inputs_are_left_alone(length):
    inputs = make(1, 2, 2, length, length, 64)
    copies = [tensor.clone() for tensor in inputs]

    forward(*inputs, scale=-1.0)

    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


def _bad(**changes):
    q, k, v = make(2, 4, 2, 8, 9, 64)
    return {"q": q, "k": k, "v": v, **changes}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"q": [1.0]}, TypeError, "q is not a tensor: expected .*got list"),
        ({"q": torch.zeros(2, 8, 64)}, ValueError, "q has the wrong number of dimensions"),
        ({"k": torch.zeros(2, 2, 9, 64)}, TypeError, "k has another dtype than q"),
        ({"v": torch.zeros(2, 2, 8, 64).half()}, ValueError, "v has another shape than k"),
        ({"scale": math.nan}, ValueError, "scale is out of range"),
        (
            {"scale": -2e38},
            ValueError,
            "scale is out of range: expected at most 1e.38 in magnitude",
        ),
        ({"scale": 10**400}, ValueError, "scale is out of range"),
        ({"scale": "1"}, TypeError, "scale is not a number"),
        ({"causal": torch.tensor(True)}, TypeError, "causal is not a bool"),
        ({"return_lse": torch.tensor(True)}, TypeError, "return_lse is not a bool"),
        ({"return_lse": 1}, TypeError, "return_lse is not a bool"),
    ],
)
def test_wrong_arguments_are_named(changes, error, message):
    changes = {k: x.to(DEVICE) if isinstance(x, torch.Tensor) else x for k, x in changes.items()}

    with pytest.raises(error, match=message):
        attention(**_bad(**changes))


@pytest.mark.parametrize(
    ("shape_k", "message"),
    [
        ((3, 2, 9, 64), "k has another batch size than q: expected 2, got 3"),
        ((2, 3, 9, 64), "expected a multiple of nheads_k=3, got nheads=4"),
        ((2, 2, 9, 32), "k has another headdim than q: expected 64, got 32"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shape_k, message):
    k = torch.zeros(shape_k, dtype=torch.float16, device=DEVICE)

    with pytest.raises(ValueError, match=message):
        attention(**_bad(k=k, v=k))


def test_a_head_dimension_over_128_is_refused():
    q = torch.zeros(1, 1, 4, 192, dtype=torch.float16, device=DEVICE)

    with pytest.raises(ValueError, match=r"headdim is out of range: expected 1 to 128 .* got 192"):
        attention(q, q, q)


def test_an_integer_dtype_is_refused():
    q = torch.zeros(1, 1, 4, 64, dtype=torch.int8, device=DEVICE)

    with pytest.raises(TypeError, match="q has an unsupported dtype on"):
        attention(q, q, q)


@pytest.mark.parametrize(
    ("make_out", "message"),
    [
        (lambda q: q, "out overlaps q in memory"),
        (lambda q: q.new_empty(2, 4, 8, 32), "out has the wrong shape"),
        (lambda q: q.new_empty(q.shape, dtype=torch.bfloat16), "out has another dtype than q"),
        (lambda q: q.new_empty(*q.shape, 2)[..., 0], "out is not dense in its last dimension"),
        (lambda q: q.new_empty(1, 4, 8, 64).expand(q.shape), "out has elements that share memory"),
    ],
)
def test_an_unfit_out_is_refused(make_out, message):
    arguments = _bad()

    for _ in range(2):  # the second time past what the first remembered
        with pytest.raises((ValueError, TypeError), match=message):
            attention(**arguments, out=make_out(arguments["q"]))


def test_out_is_refused_when_gradients_are_needed():
    """Its history would end there: the gradient would be lost without a word."""
    q, k, v = make(1, 1, 1, 8, 8, 64)

    with pytest.raises(ValueError, match="out has no gradient"):
        attention(q.requires_grad_(), k, v, out=torch.empty_like(q))


def test_gradients_reach_the_inputs_through_both_results():
    q, k, v = (tensor.requires_grad_() for tensor in make(1, 2, 1, 8, 8, 64))

    out, lse = attention(q, k, v, causal=True, return_lse=True)
    (out.float().sum() + lse.sum()).backward()

    assert all(float(tensor.grad.abs().sum()) > 0 for tensor in (q, k, v))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cpu_tensors_may_be_float32_and_float64(dtype):
    q, k, v = (tensor.cpu().to(dtype) for tensor in make(1, 2, 1, 8, 8, 64))

    expected, _ = attention_reference(q, k, v, dtype=dtype)

    assert torch.equal(expected, attention(q, k, v))


# --- on the GPU only ---------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("batch", [8, 16, 32])
@pytest.mark.parametrize("seqlen", [128, 256, 512])
@pytest.mark.parametrize("causal", [False, True])
def test_the_nine_shapes_of_the_report(batch, seqlen, causal):
    q, k, v = make(batch, 8, 8, seqlen, seqlen, 64)

    out, lse = attention(q, k, v, causal=causal, return_lse=True)

    assert_accurate(out, lse, q, k, v, causal=causal)
    assert_no_worse_than_plain_torch(out, q, k, v, causal=causal)


@needs_gpu
def test_a_graph_replays_the_call_on_new_values():
    q, k, v = make(2, 4, 4, 128, 128, 64)
    attention(q, k, v)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = attention(q, k, v)
    for tensor, fresh in zip((q, k, v), make(2, 4, 4, 128, 128, 64, seed=1), strict=True):
        tensor.copy_(fresh)

    graph.replay()
    torch.cuda.synchronize()

    assert_accurate(out, None, q, k, v)


@needs_gpu
def test_the_current_stream_is_used():
    """The kernel waits for what the same stream did before, behind a long delay."""
    q, k, v = make(2, 4, 4, 128, 128, 64)
    attention(q, k, v)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        fresh_v = v + 1
        out = attention(q, k, fresh_v)
    stream.synchronize()

    assert_accurate(out, None, q, k, fresh_v)


@needs_gpu
def test_the_fast_path_is_taken_and_gives_the_same_bits():
    """The second call launches the remembered handle; a misaligned one must not."""
    from flashcore_kernels.plans import plans

    plans.clear()
    q, k, v = make(2, 4, 4, 100, 100, 64)
    first = attention(q, k, v)
    assert len(plans.by_key) == 1

    again = attention(q, k, v)
    misaligned = attention(shifted(q), shifted(k), shifted(v))

    assert torch.equal(first, again)
    assert_accurate(misaligned, None, q, k, v)  # an H100 takes another kernel for these


@needs_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_tensors_of_the_other_gpu_are_computed_there():
    q, k, v = (tensor.to("cuda:1") for tensor in make(2, 4, 4, 128, 128, 64))

    for _ in range(2):
        out, lse = attention(q, k, v, return_lse=True)

        assert out.device == q.device
        assert_accurate(out, lse, q, k, v)
