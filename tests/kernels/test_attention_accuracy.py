"""
The forward kernel against the float64 reference: shapes, masks, strides, values.

Without a GPU the kernel runs in Triton's interpreter on small cases; with one, the whole list.
"""

from __future__ import annotations

import math

import pytest
import torch
from accuracy import assert_accurate, assert_no_worse_than_plain_torch
from attention_inputs import DEVICE, HAS_GPU, forward, make, needs_gpu, shifted, transposed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flashcore_kernels import attention, configs
from flashcore_kernels.forward import plain_forward
from flashcore_kernels.reference import attention_reference, causal_offset_for

DTYPES = [torch.float16, torch.bfloat16]

# Around every tile edge (64 and 128), and the lengths at which the seed was wrong (100, 127).
LENGTHS = [1, 15, 16, 17, 31, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 511, 512, 513]
# FlashAttention 3's own list of (seqlen_q, seqlen_k).
PAIRS = [
    (1, 1), (64, 128), (128, 192), (256, 256), (239, 1), (799, 3), (113, 203), (113, 128),
    (128, 217), (113, 211), (108, 256), (256, 512), (384, 256), (640, 128), (512, 256),
    (1024, 1024), (1023, 1024), (1024, 1023), (2048, 2048), (4096, 4096), (4224, 4224),
]  # fmt: skip
FEW_LENGTHS = LENGTHS if HAS_GPU else [1, 17, 64, 100, 127, 129]
FEW_PAIRS = PAIRS if HAS_GPU else [(1, 1), (64, 128), (70, 3), (113, 203), (130, 65)]
EDGES = [(65, 129), (100, 63), (128, 128), (130, 300)]
# The plain kernel's, in the table's order.
TILES = list(dict.fromkeys(row.tile for row in configs.HEADDIM_64))


# --- shapes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("seqlen", FEW_LENGTHS)
def test_any_length_is_right(seqlen, causal):
    q, k, v = make(1, 2, 2, seqlen, seqlen, 64)

    out, lse = forward(q, k, v, causal=causal)

    assert_accurate(out, lse, q, k, v, causal=causal)
    assert_no_worse_than_plain_torch(out, q, k, v, causal=causal)


@pytest.mark.parametrize(("headdim", "dtype"), [(64, torch.float16), (128, torch.bfloat16)])
@pytest.mark.parametrize("mask", [None, "top-left", "bottom-right"])
@pytest.mark.parametrize(("seqlen_q", "seqlen_k"), FEW_PAIRS)
def test_queries_and_keys_may_differ_in_length(seqlen_q, seqlen_k, mask, headdim, dtype):
    """Bottom-right with more queries than keys has rows that see nothing: 0, and lse -inf."""
    q, k, v = make(1, 2, 1, seqlen_q, seqlen_k, headdim, dtype)
    offset = causal_offset_for(seqlen_q, seqlen_k, mask) if mask else 0

    out, lse = forward(q, k, v, causal=mask is not None, causal_offset=offset)

    assert_accurate(out, lse, q, k, v, causal=mask is not None, causal_offset=offset)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("headdim", [64, 128])
@pytest.mark.parametrize("causal", [False, True])
def test_both_dtypes_and_both_fast_head_dimensions(dtype, headdim, causal):
    q, k, v = make(2, 2, 2, 130, 130, headdim, dtype)

    out, lse = forward(q, k, v, causal=causal)

    assert_accurate(out, lse, q, k, v, causal=causal)
    assert_no_worse_than_plain_torch(out, q, k, v, causal=causal)


@pytest.mark.parametrize("mask", [None, "bottom-right"])
@pytest.mark.parametrize(("seqlen_q", "seqlen_k"), EDGES if HAS_GPU else EDGES[:2])
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_every_tile_of_the_table_is_right_below_at_and_behind_its_edges(
    tile, seqlen_q, seqlen_k, mask
):
    """Whatever shapes the table gives it just now: the short ones here all get the same tile."""
    q, k, v = make(1, 2, 1, seqlen_q, seqlen_k, 64)
    out, lse = torch.empty_like(q), torch.empty(q.shape[:3], device=DEVICE)
    offset = causal_offset_for(seqlen_q, seqlen_k, mask) if mask else 0
    causal = mask is not None

    plain_forward(
        q, k, v, out, lse, scale=0.125, causal=causal, causal_offset=offset, config=tile
    )  # fmt: skip

    assert_accurate(out, lse, q, k, v, causal=causal, causal_offset=offset)


@pytest.mark.parametrize("headdim", [1, 8, 32, 40, 80, 96, 127])
def test_other_head_dimensions_are_padded_inside(headdim):
    q, k, v = make(1, 2, 1, 70, 66, headdim)

    out, lse = forward(q, k, v, causal=True)

    assert_accurate(out, lse, q, k, v, causal=True)


@pytest.mark.parametrize("nheads_k", [1, 2, 4, 8])
def test_grouped_heads_equal_expanded_heads_bit_for_bit(nheads_k):
    q, k, v = make(1, 8, nheads_k, 33, 65, 64)
    expanded = [tensor.repeat_interleave(8 // nheads_k, dim=1) for tensor in (k, v)]
    expected, expected_lse = forward(q, *expanded)

    out, lse = forward(q, k, v)

    assert torch.equal(expected, out)
    assert torch.equal(expected_lse, lse)


@pytest.mark.parametrize(
    ("shape_q", "shape_k"),
    [
        ((0, 2, 5, 64), (0, 2, 7, 64)),
        ((2, 0, 5, 64), (2, 0, 7, 64)),
        ((2, 2, 0, 64), (2, 2, 7, 64)),
    ],
)
def test_nothing_to_compute_gives_an_empty_result(shape_q, shape_k):
    q = torch.empty(shape_q, dtype=torch.float16, device=DEVICE)
    k = torch.empty(shape_k, dtype=torch.float16, device=DEVICE)

    out, lse = attention(q, k, k, return_lse=True)

    assert out.shape == q.shape
    assert lse.shape == q.shape[:3]


@pytest.mark.parametrize("entry", ["public", "kernel"])
def test_no_keys_give_zero_and_minus_infinity(entry):
    q, k, v = make(1, 2, 2, 5, 0, 64)

    out, lse = attention(q, k, v, return_lse=True) if entry == "public" else forward(q, k, v)

    assert int(out.count_nonzero()) == 0
    assert bool((lse == -math.inf).all())


@needs_gpu
def test_offsets_beyond_two_to_the_31_elements():
    """The last rows of 8.6-GB tensors are right: base offsets have 64 bits, contiguous or not."""
    q, k, v = make(2, 1, 1, 128, 64, 128)
    far = torch.zeros(2, 1, 2**24, 128, dtype=torch.float16, device=DEVICE)
    far[:, :, -128:] = q

    out, lse = forward(far, k, v)
    strided_out, strided_lse = forward(far[:, :, -128:], k, v)

    assert_accurate(out[:, :, -128:], lse[:, :, -128:], q, k, v)
    assert_accurate(strided_out, strided_lse, q, k, v)


@needs_gpu
def test_more_sequences_than_the_grid_has_rows():
    q, k, v = make(70_000, 1, 1, 16, 16, 16)

    out, lse = forward(q, k, v)

    assert_accurate(out, lse, q, k, v)


# --- strides -----------------------------------------------------------------------------------


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
    dtype=st.sampled_from(DTYPES),
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


# --- values ------------------------------------------------------------------------------------


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
