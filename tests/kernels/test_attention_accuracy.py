"""
The forward kernel against the float64 reference: lengths, masks, head dimensions, groups of heads.

Without a GPU the kernel runs in Triton's interpreter on small cases; with one, the whole list.
"""

from __future__ import annotations

import math

import pytest
import torch
from accuracy import assert_accurate, assert_no_worse_than_plain_torch
from attention_inputs import DEVICE, HAS_GPU, forward, make, needs_gpu

from flashcore_kernels import attention, configs
from flashcore_kernels.forward import plain_forward
from flashcore_kernels.reference import causal_offset_for

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


@pytest.mark.parametrize(
    ("nheads_k", "dtype"), [(6, torch.float16), (2, torch.bfloat16), (1, torch.float16)]
)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("seqlen_q", "seqlen_k"), FEW_PAIRS)
def test_many_sequences_and_heads_of_the_same_lengths(seqlen_q, seqlen_k, causal, nheads_k, dtype):
    """FlashAttention 3's sizes: 9 sequences, 2 if they are long, of 6 heads on 6, 2 and 1."""
    batch = 9 if HAS_GPU and seqlen_k <= 2048 else 2
    q, k, v = make(batch, 6, nheads_k, seqlen_q, seqlen_k, 64, dtype)
    offset = causal_offset_for(seqlen_q, seqlen_k, "bottom-right") if causal else 0

    out, lse = forward(q, k, v, causal=causal, causal_offset=offset)

    assert_accurate(out, lse, q, k, v, causal=causal, causal_offset=offset)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
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


@pytest.mark.parametrize(
    "strides",
    [(2**30, 520 * 64, 64, 1), (520 * 64, 2**30, 64, 1), (3 * 64, 64, 2**22, 1)],
    ids=["sequences", "heads", "positions"],
)
def test_keys_and_values_beyond_two_to_the_31_elements(strides, tmp_path):
    """
    The product of an index and a stride of theirs passes 32 bits.

    They end where their buffer does, and 2^31 elements in front of them belong to it too: an
    address that wraps reads zeros there, rather than ending the process.
    """
    q, k, v = make(3, 6, 3, 33, 520, 64)
    between = 2**20  # more than a row, a head or a sequence takes; less than the wide stride
    reach = sum((n - 1) * step for n, step in zip(k.shape, strides, strict=True))
    assert reach > 2**31
    size = 2**31 + reach + between + 1
    if HAS_GPU:
        buffer = torch.zeros(size, dtype=q.dtype, device=DEVICE)
    else:  # a sparse file: a few of its pages exist
        buffer = torch.from_file(str(tmp_path / "far"), True, size, dtype=q.dtype)
    far_k, far_v = (
        buffer.as_strided(near.shape, strides, offset).copy_(near)
        for near, offset in ((k, 2**31), (v, 2**31 + between))
    )

    out, lse = forward(q, far_k, far_v, causal=True, causal_offset=487)

    assert_accurate(out, lse, q, k, v, causal=True, causal_offset=487)


@needs_gpu
def test_more_sequences_than_the_grid_has_rows():
    q, k, v = make(70_000, 1, 1, 16, 16, 16)

    out, lse = forward(q, k, v)

    assert_accurate(out, lse, q, k, v)
