"""
The decode kernels: the interpreter runs small cases without a GPU, a GPU runs the full list.

Every cache is filled with NaN beyond its valid part, and every output starts as NaN.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kv_cache_cases import (
    HAS_GPU,
    SMALL,
    Case,
    Tensors,
    appended,
    assert_right,
    bits,
    make,
    run_kernel,
)

from flashcore_kernels import attention_with_kv_cache

# A GPU gives -inf for log2(0), as the kernel means it; NumPy, in the interpreter, also warns.
pytestmark = pytest.mark.filterwarnings("ignore:divide by zero encountered in log2")
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA GPU")

KINDS = [  # nheads_k, headdim, causal, dtype, num_splits
    (1, 64, True, torch.float16, 7),
    (2, 128, True, torch.float16, 2),
    (8, 128, True, torch.bfloat16, 1),
    (2, 64, False, torch.bfloat16, 3),
    (1, 128, False, torch.float16, 16),
]
FULL = [
    Case((339, 1000, 0), 1024, new=new, seqlen_q=seqlen_q, nheads=8, nheads_k=nheads_k,
         headdim=headdim, causal=causal, dtype=dtype, num_splits=splits)
    for (seqlen_q, new), (nheads_k, headdim, causal, dtype, splits) in itertools.product(
        [(1, 0), (1, 1), (3, 3), (24, 24), (64, 10)], KINDS
    )
] + [
    Case((n,), 20_000, seqlen_q=seqlen_q, nheads=6, nheads_k=2, num_splits=splits)
    for (seqlen_q, n), splits in itertools.product(
        [(1, 128), (1, 339), (3, 1024), (64, 800), (3, 799), (64, 2048), (16, 20_000)],
        [1, 33, 200],
    )
] + [
    Case((n,), 4096, seqlen_q=seqlen_q, nheads=6, nheads_k=nheads_k, num_splits=3)
    for (seqlen_q, n), nheads_k in itertools.product(
        [(64, 256), (128, 128), (256, 512), (2048, 3577)], [1, 2, 6]
    )
]  # fmt: skip


@pytest.mark.parametrize("case", SMALL + (FULL if HAS_GPU else []), ids=str)
def test_the_kernel_agrees_with_the_reference(case: Case, device: str) -> None:
    """Output, log-sum-exp and both caches, for one length per sequence."""
    t = make(case, device)
    expected_k, expected_v = appended(case, t.k_cache, t.k), appended(case, t.v_cache, t.v)

    out, lse = run_kernel(case, t)

    assert_right(case, t, out, lse)
    assert torch.equal(bits(expected_k), bits(t.k_cache))
    assert torch.equal(bits(expected_v), bits(t.v_cache))


@pytest.mark.parametrize("case", SMALL[::3], ids=str)
def test_the_public_function_agrees_with_the_reference(case: Case, device: str) -> None:
    """On a CPU this is the reference path, on a GPU the plan that the function chooses."""
    t = make(case, device)
    expected_k = appended(case, t.k_cache, t.k)

    out, lse = attention_with_kv_cache(
        t.q, t.k_cache, t.v_cache, t.lens, t.k, t.v,
        causal=case.causal, scale=case.scale, return_lse=True,
    )  # fmt: skip

    assert_right(case, t, out, lse)
    assert torch.equal(bits(expected_k), bits(t.k_cache))


@settings(max_examples=25 if HAS_GPU else 12, deadline=None)
@given(
    lens=st.lists(st.integers(0, 70), min_size=1, max_size=2),
    new=st.integers(0, 9),
    seqlen_q=st.integers(1, 9),
    group=st.integers(1, 3),
    nheads_k=st.integers(1, 2),
    headdim=st.sampled_from([16, 24, 64]),
    num_splits=st.integers(1, 4),
    causal=st.booleans(),
)
def test_any_small_shape_is_right(
    lens, new, seqlen_q, group, nheads_k, headdim, num_splits, causal
) -> None:
    device = "cuda" if HAS_GPU else "cpu"
    case = Case(
        tuple(lens), 80, new, seqlen_q, nheads_k * group, nheads_k, headdim, causal,
        num_splits=num_splits,
    )  # fmt: skip
    t = make(case, device)
    expected_v = appended(case, t.v_cache, t.v)

    out, lse = run_kernel(case, t)

    assert_right(case, t, out, lse)
    assert torch.equal(bits(expected_v), bits(t.v_cache))


@pytest.mark.parametrize("num_splits", [1, 3])
def test_an_empty_cache_gives_zero_and_minus_infinity(num_splits: int, device: str) -> None:
    case = Case((0, 0), 100, num_splits=num_splits)

    out, lse = run_kernel(case, make(case, device))

    assert int(out.count_nonzero()) == 0
    assert bool((lse == -math.inf).all())


def test_strided_inputs_give_the_same_bits_as_contiguous_ones(device: str) -> None:
    """Caches, queries, new tokens and output as transposed [batch, seqlen, nheads, headdim]."""
    from flashcore_kernels.decode_launch import launch_decode

    case = Case((33, 70), 100, new=3, seqlen_q=3)
    plain = make(case, device)
    expected, _ = run_kernel(case, plain)
    fresh = make(case, device)

    def transposed(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.transpose(1, 2).contiguous().transpose(1, 2)

    moved = Tensors(
        **{name: transposed(x) if x.ndim == 4 else x for name, x in vars(fresh).items()}
    )
    out = transposed(torch.full_like(fresh.q, math.nan))
    launch_decode(
        moved.q, moved.k_cache, moved.v_cache, moved.lens, moved.k, moved.v, out, None,
        1 / math.sqrt(64), True, case.plan(),
    )  # fmt: skip

    assert torch.equal(expected, out)
    assert torch.equal(bits(plain.k_cache), bits(moved.k_cache.contiguous()))


@pytest.mark.parametrize("name", ["q", "k", "v", "lens"])
def test_a_lazy_sign_is_read_like_any_other(name: str, device: str) -> None:
    """The memory of such a view holds the other sign, and memory is what the kernel reads."""
    case = Case((33,), 100, new=2, seqlen_q=2)
    t = make(case, device)
    expected_k, expected_v = appended(case, t.k_cache, t.k), appended(case, t.v_cache, t.v)

    out, lse = run_kernel(case, replace(t, **{name: torch._neg_view(-getattr(t, name))}))

    assert_right(case, t, out, lse)
    assert torch.equal(bits(expected_k), bits(t.k_cache))
    assert torch.equal(bits(expected_v), bits(t.v_cache))


@pytest.mark.parametrize("new", [0, 2])
@pytest.mark.parametrize("moved", ["k_cache", "v_cache"])
def test_misaligned_and_sliced_tensors_are_right(moved: str, new: int, device: str) -> None:
    """Addresses that are no multiple of 16 bytes, queries with a last stride of 2."""
    case = Case((33,), 100, new=new, seqlen_q=2)
    t = make(case, device)
    wide_q = torch.zeros(*t.q.shape[:3], 128, dtype=t.q.dtype, device=device)
    wide_q[..., ::2] = t.q
    cache = getattr(t, moved)
    shifted = torch.empty(cache.numel() + 1, dtype=cache.dtype, device=device)[1:]
    shifted = shifted.view(cache.shape).copy_(cache)

    out, lse = run_kernel(case, replace(t, q=wide_q[..., ::2], **{moved: shifted}))

    assert_right(case, t, out, lse)


@pytest.mark.parametrize("kind", ["misaligned", "far apart"])
def test_new_keys_with_awkward_rows_are_right(kind: str, device: str) -> None:
    """New keys at odd addresses; new keys whose stride overflows 32 bits within a block."""
    case = Case((33,), 100, new=1)
    t = make(case, device)
    if kind == "misaligned":
        shifted = torch.empty(t.k.numel() + 1, dtype=t.k.dtype, device=device)[1:]
        k = shifted.view(t.k.shape).copy_(t.k)
    else:
        k = t.k.as_strided(t.k.shape, (128, 64, 2**31 - 1, 1))

    out, lse = run_kernel(case, replace(t, k=k))

    assert_right(case, t, out, lse)


@pytest.mark.parametrize(
    ("length", "new"), [(95, 10), (100, 1), (150, 2), (2**31 - 1, 2), (-5, 3)], ids=str
)
def test_a_wrong_length_writes_nothing_outside_the_cache(
    length: int, new: int, device: str
) -> None:
    """The cache lies between guard positions; too long a sequence is cut off at the capacity."""
    case = Case((100,), 100, new=new)
    t = make(case, device)
    guarded = torch.full((3, 2, 100, 64), 7.0, dtype=case.dtype, device=device)
    guarded[1] = t.k_cache[0]
    t = replace(t, k_cache=guarded[1:2], lens=torch.full_like(t.lens, length))
    before = guarded.clone()

    out, _ = run_kernel(case, t)

    start = min(max(length, 0), 100)
    stored = min(new, 100 - start)
    before[1, :, start : start + stored] = t.k[0, :, :stored]
    assert torch.equal(before, guarded)
    assert bool(torch.isfinite(out).all())


def test_nan_in_a_query_stays_in_its_row(device: str) -> None:
    case = Case((70,), 100, seqlen_q=3, num_splits=2)
    t = make(case, device)
    clean, _ = run_kernel(case, t)
    t.q[0, 1, 2, 5] = math.nan

    out, lse = run_kernel(case, t)

    assert bool(out[0, 1, 2].isnan().all())
    assert bool(lse[0, 1, 2].isnan())
    out[0, 1, 2] = clean[0, 1, 2]
    assert torch.equal(clean, out)


def test_huge_scores_neither_overflow_nor_lose_their_winner(device: str) -> None:
    """Scores around 1e5: the softmax is one-hot, and no exponential becomes infinite."""
    case = Case((70,), 100, scale=1000.0, num_splits=3)
    t = make(case, device)

    out, lse = run_kernel(case, t)

    assert_right(case, t, out, lse)


def test_two_runs_give_the_same_bits(device: str) -> None:
    case = Case((70, 33), 100, seqlen_q=2, num_splits=3)
    t = make(case, device)

    first, second = run_kernel(case, t), run_kernel(case, t)

    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_what_lies_beyond_the_valid_part_does_not_change_a_bit(device: str) -> None:
    case = Case((70, 33), 100, num_splits=2)
    t = make(case, device)
    poisoned, _ = run_kernel(case, t)
    for cache in (t.k_cache, t.v_cache):
        cache[cache.isnan()] = 1e4

    assert torch.equal(poisoned, run_kernel(case, t)[0])


def test_decoding_token_by_token_equals_one_causal_call(device: str) -> None:
    """Appending one token at a time gives what all tokens at once give."""
    case = Case((5,), 16, new=4, seqlen_q=4, num_splits=1)
    at_once = make(case, device)
    expected, _ = run_kernel(case, at_once)
    t = make(case, device)
    lens = t.lens.clone()
    for i in range(4):
        out = attention_with_kv_cache(
            t.q[:, :, i : i + 1], t.k_cache, t.v_cache, lens,
            t.k[:, :, i : i + 1], t.v[:, :, i : i + 1],
        )  # fmt: skip
        lens += 1
        torch.testing.assert_close(expected[:, :, i : i + 1], out, rtol=2e-3, atol=1e-3)

    assert torch.equal(bits(at_once.k_cache), bits(t.k_cache))


def test_no_queries_still_append(device: str) -> None:
    case = Case((5,), 16, new=2, seqlen_q=0, num_splits=1)
    t = make(case, device)
    expected = appended(case, t.k_cache, t.k)

    out, _ = run_kernel(case, t)

    assert out.shape == (1, 4, 0, 64)
    assert torch.equal(bits(expected), bits(t.k_cache))


@pytest.mark.parametrize("case", [Case((), 16), Case((), 16, new=1), Case((0,), 0)], ids=str)
def test_empty_batches_and_caches_are_fine(case: Case, device: str) -> None:
    t = make(case, device)

    out = attention_with_kv_cache(t.q, t.k_cache, t.v_cache, t.lens, t.k, t.v)

    assert out.shape == t.q.shape
    assert int(out.count_nonzero()) == 0


def test_out_is_written_and_returned(device: str) -> None:
    case = Case((9,), 16)
    t = make(case, device)
    out = torch.full_like(t.q, math.nan)

    result = attention_with_kv_cache(t.q, t.k_cache, t.v_cache, t.lens, out=out)

    assert result is out
    assert_right(case, t, out, None)


@needs_gpu
def test_a_captured_call_follows_the_lengths_on_the_device() -> None:
    """Captured once, replayed while sequences grow: nothing was read by the host."""
    case = Case((100, 900), 4096, new=1, nheads=8)
    t = make(case, "cuda")
    attention_with_kv_cache(t.q, t.k_cache, t.v_cache, t.lens, t.k, t.v)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = attention_with_kv_cache(t.q, t.k_cache, t.v_cache, t.lens, t.k, t.v)
    for lens in [(100, 900), (0, 3000), (2047, 1)]:
        now = replace(case, lens=lens)
        fresh = make(now, "cuda", seed=1)
        for name in ("q", "k_cache", "v_cache", "lens", "k", "v"):
            getattr(t, name).copy_(getattr(fresh, name))
        graph.replay()
        assert_right(now, fresh, out, None)


@needs_gpu
def test_a_call_does_not_synchronise() -> None:
    t = make(Case((100, 900), 4096, new=1, nheads=8), "cuda")
    attention_with_kv_cache(t.q, t.k_cache, t.v_cache, t.lens, t.k, t.v)
    torch.cuda.set_sync_debug_mode("error")
    try:
        attention_with_kv_cache(t.q, t.k_cache, t.v_cache, t.lens, t.k, t.v)
    finally:
        torch.cuda.set_sync_debug_mode("default")


FAR = {  # strides of a cache [3, 3, 301, 64]
    "sequences": (2**30, 301 * 64, 64, 1),
    "heads": (301 * 64, 2**30, 64, 1),
    "positions": (3 * 64, 64, 2**23, 1),
    "64-bit strides": (2**31, 301 * 64, 64, 1),
}


@pytest.mark.parametrize("strides", FAR.values(), ids=FAR)
def test_offsets_beyond_two_to_the_31_elements_are_right(
    strides: tuple[int, ...], device: str, tmp_path: Path
) -> None:
    """
    Products of an index and a stride pass 32 bits, in keys, values and where new ones go.

    Both caches lie in one buffer, and 2^31 elements before them belong to it too: an address that
    wraps reads wrong values there, rather than ending the process.
    """
    case = Case((300, 257, 5), 301, new=1, nheads=6, nheads_k=3)
    t = make(case, device)
    between = 2**20  # more than a sequence, a head or a position takes; less than the wide stride
    size = 2**31 + sum((n - 1) * step for n, step in zip(t.k_cache.shape, strides, strict=True))
    size += between + 1
    if device == "cpu":  # a sparse file: a few of its pages exist
        buffer = torch.from_file(str(tmp_path / "caches"), True, size, dtype=case.dtype)
    else:
        buffer = torch.empty(size, dtype=case.dtype, device=device)
    far_k, far_v = (
        buffer.as_strided(cache.shape, strides, offset).copy_(cache)
        for cache, offset in ((t.k_cache, 2**31), (t.v_cache, 2**31 + between))
    )

    out, lse = run_kernel(case, replace(t, k_cache=far_k, v_cache=far_v))

    assert_right(case, t, out, lse)
    assert torch.equal(bits(appended(case, t.k_cache, t.k)), bits(far_k))
    assert torch.equal(bits(appended(case, t.v_cache, t.v)), bits(far_v))


@needs_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_tensors_on_the_second_gpu_run_there() -> None:
    case = Case((100, 900), 1024, new=1)
    t = make(case, "cuda:1")

    out = attention_with_kv_cache(t.q, t.k_cache, t.v_cache, t.lens, t.k, t.v)

    assert out.device == torch.device("cuda:1")
    assert_right(case, t, out, None)
