"""The reference against PyTorch and against arithmetic done by hand."""

from __future__ import annotations

import math

import pytest
import torch

from flashcore_kernels.reference import attention_reference, causal_offset_for


def _inputs(batch=2, nheads=4, nheads_k=2, seqlen_q=5, seqlen_k=7, headdim=8):
    torch.manual_seed(0)
    q = torch.randn(batch, nheads, seqlen_q, headdim, dtype=torch.float64)
    k = torch.randn(batch, nheads_k, seqlen_k, headdim, dtype=torch.float64)
    return q, k, torch.randn_like(k)


@pytest.mark.parametrize("causal", [False, True])
def test_the_reference_agrees_with_torch_in_float64(causal):
    """Grouped heads and the top-left mask are PyTorch's."""
    q, k, v = _inputs()
    expected = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, is_causal=causal, enable_gqa=True
    )

    out, _ = attention_reference(q, k, v, causal=causal, dtype=torch.float64)

    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_a_worked_example():
    """Scores ln 3 and 0 have weights 3/4 and 1/4, and the sum of exponentials is 4."""
    q = torch.tensor([[[[math.log(3.0)]]]], dtype=torch.float64)
    k = torch.tensor([[[[1.0], [0.0]]]], dtype=torch.float64)
    v = torch.tensor([[[[8.0], [4.0]]]], dtype=torch.float64)

    out, lse = attention_reference(q, k, v, scale=1.0, dtype=torch.float64)

    assert out.item() == pytest.approx(7.0)
    assert lse.item() == pytest.approx(math.log(4.0))


def test_bottom_right_lets_the_last_row_see_every_key():
    q, k, v = _inputs(seqlen_q=2, seqlen_k=5)
    full, _ = attention_reference(q, k, v)

    out, _ = attention_reference(q, k, v, causal=True, causal_alignment="bottom-right")

    assert torch.equal(full[:, :, -1], out[:, :, -1])
    assert not torch.equal(full[:, :, 0], out[:, :, 0])


def test_rows_that_see_no_key_give_zero_and_minus_infinity():
    q, k, v = _inputs(seqlen_q=5, seqlen_k=2)

    out, lse = attention_reference(q, k, v, causal=True, causal_alignment="bottom-right")

    assert int(out[:, :, :3].count_nonzero()) == 0
    assert bool((lse[:, :, :3] == -math.inf).all())
    assert bool(torch.isfinite(lse[:, :, 3:]).all())


def test_no_keys_at_all_give_zero_and_minus_infinity():
    q, k, v = _inputs(seqlen_k=0)

    out, lse = attention_reference(q, k, v)

    assert int(out.count_nonzero()) == 0
    assert bool((lse == -math.inf).all())


def test_nan_in_a_query_stays_in_its_row():
    q, k, v = _inputs()
    q[0, 1, 2, 3] = math.nan

    out, lse = attention_reference(q, k, v)

    expected = torch.zeros(2, 4, 5, dtype=torch.bool)
    expected[0, 1, 2] = True
    assert torch.equal(expected, out.isnan().all(dim=-1))
    assert torch.equal(expected, out.isnan().any(dim=-1))
    assert torch.equal(expected, lse.isnan())


def test_the_reference_has_gradients_even_with_fully_masked_rows():
    q, k, v = (tensor.requires_grad_() for tensor in _inputs(1, 2, 1, 4, 2, 3))

    def last_rows(q, k, v):
        return attention_reference(
            q, k, v, causal=True, causal_alignment="bottom-right", dtype=torch.float64
        )[0]

    assert torch.autograd.gradcheck(last_rows, (q, k, v))


def test_an_unknown_alignment_is_refused_by_name():
    with pytest.raises(ValueError, match="'top-left' or 'bottom-right', got 'left'"):
        causal_offset_for(3, 4, "left")


def test_autocast_rounds_nothing_inside():
    q, k, v = (tensor.float() for tensor in _inputs())
    expected, expected_lse = attention_reference(q, k, v)

    with torch.autocast("cpu", torch.bfloat16):
        out, lse = attention_reference(q, k, v)

    assert torch.equal(out, expected)
    assert torch.equal(lse, expected_lse)
