"""
The forward kernel on tensors of any layout, and what lies around them in memory.

Without a GPU the kernel runs in Triton's interpreter on small cases; with one, the whole list.
"""

from __future__ import annotations

import math

import pytest
import torch
from accuracy import assert_accurate
from attention_inputs import DEVICE, HAS_GPU, forward, make, shifted, transposed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flashcore_kernels.reference import causal_offset_for


def _every_other(tensor):
    return torch.stack([tensor, tensor + 1], dim=-1)[..., 0]


def _sliced_heads(tensor):
    return torch.cat([tensor, tensor, tensor], dim=1)[:, tensor.shape[1] : 2 * tensor.shape[1]]


@pytest.mark.parametrize("relayout", [transposed, shifted, _every_other, _sliced_heads])
@pytest.mark.parametrize("which", [0, 1, 2, None])
def test_strides_do_not_change_a_bit(relayout, which):
    inputs = make(1, 4, 2, 65, 70, 64)
    expected, expected_lse = forward(*inputs, causal=True)
    views = [relayout(x) if which in (None, i) else x for i, x in enumerate(inputs)]

    out, lse = forward(*views, causal=True)

    if HAS_GPU and relayout is shifted:  # TMA can't start there: the plain kernel runs instead
        assert_accurate(out, lse, *inputs, causal=True)
    else:
        assert torch.equal(expected, out)
        assert torch.equal(expected_lse, lse)


def test_expanded_tensors_are_read_in_place():
    q, k, v = make(1, 2, 2, 65, 65, 64)
    q, k, v = (tensor[:, :1].expand(3, 4, -1, -1) for tensor in (q, k, v))

    out, lse = forward(q, k, v)

    assert_accurate(out, lse, q, k, v)


def test_nan_around_the_valid_range_changes_nothing():
    """Keys and values lie in buffers full of NaN; a hidden key's 0 * NaN would be NaN."""
    q, k, v = make(1, 2, 2, 70, 100, 64)
    expected, expected_lse = forward(q, k, v, causal=True, causal_offset=30)

    def poisoned(tensor):
        batch, heads, length, headdim = tensor.shape
        buffer = torch.full(
            (batch, heads, length + 64, headdim + 64), math.nan, dtype=q.dtype, device=DEVICE
        )
        buffer[:, :, :length, :headdim] = tensor
        return buffer[:, :, :length, :headdim]

    out, lse = forward(*(poisoned(x) for x in (q, k, v)), causal=True, causal_offset=30)

    assert torch.equal(expected, out)
    assert torch.equal(expected_lse, lse)


@pytest.mark.parametrize("fill", [1e4, -1e4, math.inf])
def test_large_keys_and_values_beyond_the_end_change_nothing(fill):
    q, k, v = make(1, 1, 1, 17, 65, 64)
    expected, _ = forward(q, k, v)
    k_long, v_long = (torch.nn.functional.pad(x, (0, 0, 0, 63), value=fill) for x in (k, v))

    out, _ = forward(q, k_long[:, :, :65], v_long[:, :, :65])

    assert torch.equal(expected, out)


def test_keys_after_the_diagonal_do_not_matter():
    """Whatever the last keys are, the rows before them are the same."""
    q, k, v = make(1, 2, 2, 100, 100, 64)
    expected, _ = forward(q, k, v, causal=True)
    k[:, :, 80:], v[:, :, 80:] = 1e4, -1e4

    out, _ = forward(q, k, v, causal=True)

    assert torch.equal(expected[:, :, :80], out[:, :, :80])
    assert not torch.equal(expected[:, :, 80:], out[:, :, 80:])


@settings(
    max_examples=60 if HAS_GPU else 25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    batch=st.integers(1, 2),
    nheads_k=st.integers(1, 2),
    group=st.integers(1, 3),
    seqlen_q=st.integers(1, 300 if HAS_GPU else 90),
    seqlen_k=st.integers(1, 300 if HAS_GPU else 140),
    headdim=st.sampled_from([16, 40, 64, 128]),
    mask=st.sampled_from([None, "top-left", "bottom-right"]),
    order=st.permutations([0, 1, 2]),
    # The last is that of the rows: 0 and 8 keep their 16 bytes, which TMA needs.
    pads=st.tuples(*[st.integers(0, 3)] * 3, st.sampled_from([0, 8, 1])),
    dtype=st.sampled_from([torch.float16, torch.bfloat16]),
)
def test_random_shapes_and_strides(
    batch, nheads_k, group, seqlen_q, seqlen_k, headdim, mask, order, pads, dtype
):
    """Any permutation of the first three dimensions in memory, with gaps of any width."""

    def restride(tensor):
        memory = [*order, 3]
        permuted = tensor.permute(memory)
        padded = [n + gap for n, gap in zip(permuted.shape, pads, strict=True)]
        buffer = torch.full(padded, math.nan, dtype=dtype, device=DEVICE)
        view = buffer[tuple(slice(n) for n in permuted.shape)]
        view.copy_(permuted)
        return view.permute([memory.index(i) for i in range(4)])

    inputs = make(batch, nheads_k * group, nheads_k, seqlen_q, seqlen_k, headdim, dtype)
    q, k, v = (restride(tensor) for tensor in inputs)
    offset = causal_offset_for(seqlen_q, seqlen_k, mask) if mask else 0

    out, lse = forward(q, k, v, causal=mask is not None, causal_offset=offset)

    assert_accurate(out, lse, q, k, v, causal=mask is not None, causal_offset=offset)
