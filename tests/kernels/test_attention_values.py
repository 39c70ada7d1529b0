"""
The forward kernel on large, small, equal, infinite and undefined numbers, and its repeatability.

Without a GPU the kernel runs in Triton's interpreter on small cases; with one, the whole list.
"""

from __future__ import annotations

import math

import pytest
import torch
from accuracy import assert_accurate
from attention_inputs import DEVICE, HAS_GPU, forward, make

from flashcore_kernels.reference import attention_reference


@pytest.mark.parametrize("scale", [0.3, 1.0, 0.0, -0.125, 1e-6])
def test_any_finite_scale(scale):
    """A negative scale turns the smallest product into the largest score; zero averages."""
    q, k, v = make(1, 2, 2, 65, 70, 64)

    out, lse = forward(q, k, v, causal=True, scale=scale)

    assert_accurate(out, lse, q, k, v, causal=True, scale=scale)


def test_equal_scores_average_the_values():
    q, k, v = make(1, 1, 1, 64, 130, 64)
    k = k[:, :, :1].expand(-1, -1, 130, -1)

    out, lse = forward(q, k, v)

    assert_accurate(out, lse, q, k, v)
    torch.testing.assert_close(
        out.float(), v.float().mean(2, keepdim=True).expand_as(out), rtol=0, atol=1e-3
    )


def test_one_dominant_key_returns_its_value_exactly():
    q = torch.zeros(1, 1, 64, 64, dtype=torch.float16, device=DEVICE)
    q[..., 0] = 64.0
    _, k, v = make(1, 1, 1, 64, 100, 64)
    k[..., 0] = 0.0
    k[0, 0, 77, 0] = 64.0

    out, _ = forward(q, k, v)

    assert torch.equal(v[:, :, 77:78].expand_as(out), out)


@pytest.mark.parametrize("magnitude", [1e-4, 8.0, 60.0, 255.0])
def test_large_and_small_scores_stay_finite_and_right(magnitude):
    """255 * 255 * 64 / 8 = 5e5: far beyond float16's range, and one key takes all."""
    q, k, v = make(1, 1, 1, 65, 130, 64)
    q, k = q.clamp(-1, 1) * magnitude, k.clamp(-1, 1) * magnitude

    out, lse = forward(q, k, v)

    assert bool(torch.isfinite(out).all())
    if magnitude <= 60.0:
        assert_accurate(out, lse, q, k, v)


def test_scores_of_sixty_thousand_do_not_overflow():
    """Identical rows at the edge of float16: scores of 2.6e6 each, and still a plain average."""
    q = torch.full((1, 1, 64, 64), 570.0, dtype=torch.float16, device=DEVICE)
    _, _, v = make(1, 1, 1, 64, 64, 64)

    out, _ = forward(q, q, v)

    torch.testing.assert_close(
        out.float(), v.float().mean(2, keepdim=True).expand_as(out), rtol=0, atol=2e-3
    )


@pytest.mark.parametrize("causal", [False, True])
def test_nan_in_a_query_stays_in_its_row(causal):
    q, k, v = make(1, 2, 2, 70, 70, 64)
    clean, _ = forward(q, k, v, causal=causal)
    q[0, 1, 33, 5] = math.nan

    out, lse = forward(q, k, v, causal=causal)

    hit = torch.zeros(1, 2, 70, dtype=torch.bool, device=DEVICE)
    hit[0, 1, 33] = True
    assert bool(out[hit].isnan().all())
    assert torch.equal(hit, lse.isnan())
    assert torch.equal(clean[~hit], out[~hit])


def test_nan_in_a_key_reaches_every_row_that_sees_it_and_no_other():
    q, k, v = make(1, 1, 1, 130, 130, 64)
    clean, _ = forward(q, k, v, causal=True)
    k[0, 0, 100, 0] = math.nan

    out, _ = forward(q, k, v, causal=True)

    assert torch.equal(clean[:, :, :100], out[:, :, :100])
    assert bool(out[:, :, 100:].isnan().all())


def test_nan_in_a_hidden_value_stays_in_its_column_and_block_of_keys():
    """Rows that share a block of keys with it may get 0 * NaN, as in unfused attention."""
    q, k, v = make(1, 2, 2, 200, 200, 64)
    clean, clean_lse = forward(q, k, v, causal=True)
    v[0, 0, 150, 7] = math.nan

    out, lse = forward(q, k, v, causal=True)

    assert bool(out[0, 0, 150:, 7].isnan().all())
    out[0, 0, 128:, 7] = clean[0, 0, 128:, 7]
    assert torch.equal(clean, out)
    assert torch.equal(clean_lse, lse)


@pytest.mark.parametrize(("seqlen_k", "key"), [(100, 40), (257, 40), (257, 256)])
def test_an_infinite_key_gives_what_the_arithmetic_says(seqlen_k, key):
    """
    A score of +inf makes its row NaN, as inf - inf is; one of -inf counts as hidden.

    The last of 257 keys has its block to itself: rows that do not see it see nothing there.
    """
    q, k, v = make(1, 2, 2, 70, seqlen_k, 64)
    k[0, 1, key, 3] = math.inf
    exact, exact_lse = attention_reference(q, k, v, dtype=torch.float64)

    out, lse = forward(q, k, v)

    broken = exact.isnan()
    assert bool(broken.any())
    assert bool((~broken[0, 1]).any())
    assert torch.equal(broken, out.isnan())
    assert torch.equal(exact_lse.isnan(), lse.isnan())
    error = (out.double() - exact)[~broken]
    assert float(error.norm() / exact[~broken].norm()) <= 5e-4


def test_repeats_are_bit_identical():
    q, k, v = make(1, 2, 1, 129, 129, 64)
    expected, expected_lse = forward(q, k, v, causal=True)

    for _ in range(10 if HAS_GPU else 2):
        out, lse = forward(q, k, v, causal=True)

        assert torch.equal(expected, out)
        assert torch.equal(expected_lse, lse)


def test_a_sequence_does_not_depend_on_its_batch():
    q, k, v = make(3, 2, 2, 65, 65, 64)
    whole, _ = forward(q, k, v)

    alone, _ = forward(q[1:2], k[1:2], v[1:2])

    assert torch.equal(whole[1:2], alone)
