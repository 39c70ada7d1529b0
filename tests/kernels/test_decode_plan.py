"""How a decode call is cut into programs."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flashcore_kernels import decode_launch, kv_cache
from flashcore_kernels.decode_plan import choose_num_splits, for_unaligned, plan_decode


@pytest.mark.parametrize(
    ("programs", "max_splits", "expected"),
    [
        (264, 64, 1),  # one full wave of 264 slots
        (256, 64, 1),  # 97 % of one
        (8, 128, 32),  # 256 of 264; 31 splits fill 94 %, the best is 33
        (8, 16, 16),  # the cache is too short for more
        (1, 256, 244),  # within 5 % of 256, the most allowed
        (140, 64, 9),  # 1260 of 5 waves; from 2 to 8 the last wave is too empty
        (0, 64, 1),
    ],
)
def test_splits_fill_the_card(programs: int, max_splits: int, expected: int) -> None:
    assert expected == choose_num_splits(programs=programs, slots=264, max_splits=max_splits)


@given(
    batch=st.integers(0, 300),
    nheads_k=st.integers(0, 64),
    group=st.integers(1, 16),
    seqlen_q=st.integers(0, 600),
    capacity=st.integers(0, 200_000),
    headdim=st.integers(1, 128),
    num_sms=st.integers(1, 160),
)
def test_a_plan_covers_the_queries_and_stays_in_its_limits(**shape: int) -> None:
    plan = plan_decode(**shape)

    packed = shape["seqlen_q"] * shape["group"]
    assert plan.num_q_tiles >= 1
    assert packed <= plan.num_q_tiles * plan.block_q
    assert plan.num_q_tiles == 1 or packed > (plan.num_q_tiles - 1) * plan.block_q
    assert 1 <= plan.num_splits <= 256
    assert plan.num_splits == 1 or plan.num_splits * 4 * plan.block_n <= shape["capacity"] + 128


@given(group=st.integers(1, 16), seqlen_q=st.integers(0, 600), headdim=st.integers(1, 128))
def test_the_tiles_for_unaligned_keys_cover_the_queries_too(**shape: int) -> None:
    plan = plan_decode(batch=2, nheads_k=2, capacity=5000, num_sms=132, **shape)

    smaller = for_unaligned(plan)

    assert shape["seqlen_q"] * shape["group"] <= smaller.num_q_tiles * smaller.block_q
    assert smaller.num_splits == plan.num_splits
    assert smaller.block_n < 64  # rows of a wgmma: K must not be one of its operands


def test_a_card_gets_all_tensors_in_order_and_a_plan_for_its_size(monkeypatch) -> None:
    launched = []
    monkeypatch.setattr(kv_cache, "_card", lambda index: (132, (9, 0)))
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(decode_launch, "launch_decode", lambda *args: launched.append(args))
    q = SimpleNamespace(
        shape=torch.Size((1, 16, 1, 64)), dtype=torch.half, device=torch.device("cpu"), is_cuda=True
    )
    k_cache, v_cache = (torch.empty(1, 8, 65536, 64, device="meta") for _ in range(2))
    lens = torch.empty(1, dtype=torch.int32)

    out, lse = kv_cache.compute(q, k_cache, v_cache, lens, None, None, False, 0.3, return_lse=True)

    (given,) = launched
    expected = (q, k_cache, v_cache, lens, None, None, out, lse, 0.3, False)
    assert all(a is b for a, b in zip(given, expected, strict=False))
    plan = plan_decode(
        batch=1, nheads_k=8, group=2, seqlen_q=1, capacity=65536, headdim=64, num_sms=132,
        dependent_launch=True,
    )  # fmt: skip
    assert plan.num_splits > 1
    assert given[10:] == (plan,)
