"""The Hopper kernels: their configurations, and, on an H100, each family's results."""

from __future__ import annotations

import needs
import pytest
import torch

from flashcore_kernels.forward_hopper import (
    HOPPER_CONFIGS,
    HopperConfig,
    hopper_forward,
    is_supported,
    launch_plan,
    solo_grid,
    tile_order,
)

RUN_ON_H100 = [
    HopperConfig("solo", 1, 64, 2),
    HopperConfig("solo", 1, 64, 3, pdl=True),
    HopperConfig("solo", 1, 128, 1, pdl=True),
    HopperConfig("solo", 1, 128, 2, pdl=True),
    HopperConfig("solo", 1, 128, 1, maxnreg=128, pdl=True, serial=True),
    HopperConfig("solo", 1, 64, 2, maxnreg=96, pdl=True, serial=True),
    HopperConfig("ws", 2, 128, 2, consumer_regs=240, persistent=1),
    HopperConfig("ws", 2, 128, 2, consumer_regs=240, persistent=1, ordered=True),
    HopperConfig("ws", 2, 64, 4, consumer_regs=240, persistent=1),
    HopperConfig("ws", 3, 64, 3, consumer_regs=160),
    HopperConfig("ws", 3, 128, 5, consumer_regs=160, persistent=1, ordered=True),
]


def test_every_candidate_has_its_own_name() -> None:
    for configs in HOPPER_CONFIGS.values():
        names = [config.name for config in configs]
        assert len(set(names)) == len(names)


def test_one_stage_and_scores_ahead_take_one_block_of_keys() -> None:
    config = HopperConfig("solo", 1, 128, 1)
    q, k, v, out = (torch.zeros(1, 1, 129, 64, dtype=torch.float16) for _ in range(4))

    with pytest.raises(ValueError, match="solo1-n128-s1 takes 128 keys at most, got 129"):
        launch_plan(q, k, v, out, None, scale=1.0, causal=False, causal_offset=0, config=config)


@needs.TRITON_3_6
@pytest.mark.parametrize(
    ("keys", "expected"), [(1, 1), (64, 1), (65, 2), (128, 2), (129, 3), (193, 3), (100000, 3)]
)
def test_the_solo_kernel_is_compiled_for_one_block_of_keys_more_than_its_ring_holds(
    keys, expected
) -> None:
    """More of them are all alike: they refill the ring."""
    q, out = (torch.empty(1, 1, 64, 64, dtype=torch.float16) for _ in range(2))
    k = torch.empty(1, 1, keys, 64, dtype=torch.float16)
    mask = {"scale": 1.0, "causal": True, "causal_offset": 0}

    _, _, constants, *_ = launch_plan(
        q, k, k, out, None, **mask, config=HopperConfig("solo", 1, 64, 2)
    )

    assert expected == constants["BLOCKS"]


@pytest.mark.parametrize(
    ("sizes", "causal", "section", "expected"),
    [
        ((4, 8, 16), False, 1, ("heads", (4, 8, 16))),
        ((4, 8, 16), True, 128, ("rows", (8, 16, 4))),
        ((4, 8, 16), True, 127, ("line", (512, 1, 1))),
        ((4, 8, 65536), False, 1, ("line", (2097152, 1, 1))),
        ((65536, 8, 1), True, 8, ("line", (524288, 1, 1))),
    ],
)
def test_the_solo_grid_counts_tiles_heads_and_batch_where_its_axes_are_long_enough(
    sizes, causal, section, expected
) -> None:
    assert solo_grid(*sizes, causal=causal, section=section) == expected


def test_cpu_tensors_are_not_supported() -> None:
    q = torch.zeros(1, 1, 64, 64, dtype=torch.float16)
    assert is_supported(q, q, q, scale=1.0) is False


def test_without_a_mask_the_tiles_of_one_head_follow_each_other() -> None:
    assert tile_order(False, 256, 4096, 64) == 1


def test_under_a_mask_as_many_heads_are_walked_together_as_fit_in_cache() -> None:
    assert tile_order(True, 256, 4096, 64) == 16
    assert tile_order(True, 4, 4096, 64) == 4
    assert tile_order(True, 256, 1 << 20, 128) == 1


CASES = [
    # batch, heads, heads_k, seqlen_q, seqlen_k, headdim, causal, offset
    (2, 4, 4, 128, 128, 64, False, 0),
    (2, 4, 2, 256, 256, 64, True, 0),
    (1, 4, 1, 113, 203, 64, False, 0),
    (1, 2, 2, 113, 203, 64, True, 90),
    (1, 2, 2, 300, 100, 64, True, -200),
    (1, 2, 2, 1, 1, 64, False, 0),
    (3, 2, 1, 513, 1000, 64, True, 0),
    (1, 2, 2, 640, 640, 128, False, 0),
    (1, 2, 1, 239, 1000, 128, True, 761),
    # more tiles than programs of a persistent grid: several turns, key rings that run on across
    # tiles, tiles shorter than the ring, tiles without any key
    (60, 16, 8, 130, 70, 64, True, -20),
    (60, 16, 16, 130, 450, 64, False, 0),
    (40, 16, 4, 300, 300, 64, True, 0),
]


@pytest.mark.h100
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("config", RUN_ON_H100, ids=lambda c: c.name)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_results_match_float64(
    case: tuple[int, ...], config: HopperConfig, dtype: torch.dtype
) -> None:
    batch, heads, heads_k, seqlen_q, seqlen_k, headdim, causal, offset = case
    too_large = config.stages * config.block_n > 256 or config.maxnreg is not None
    if headdim == 128 and too_large:
        pytest.skip("does not fit registers or shared memory at this headdim")
    if config.one_block and seqlen_k > config.block_n:
        pytest.skip("takes one block of keys")
    torch.manual_seed(seqlen_q)

    def random(h: int, s: int) -> torch.Tensor:
        # [batch, seqlen, heads, headdim] seen with heads before seqlen: strided, as models have it
        return torch.randn(batch, s, h, headdim, device="cuda", dtype=dtype).transpose(1, 2)

    q, k, v = random(heads, seqlen_q), random(heads_k, seqlen_k), random(heads_k, seqlen_k)
    out = torch.full_like(q, float("nan"))
    lse = torch.full((batch, heads, seqlen_q), float("nan"), device="cuda")
    scale = headdim**-0.5
    hopper_forward(
        q, k, v, out, lse, scale=scale, causal=bool(causal), causal_offset=offset, config=config
    )

    group = heads // heads_k
    k64, v64 = (t.double().repeat_interleave(group, 1) for t in (k, v))
    scores = q.double() @ k64.transpose(2, 3) * scale
    if causal:
        rows = torch.arange(seqlen_q, device="cuda")[:, None]
        hidden = torch.arange(seqlen_k, device="cuda")[None, :] > rows + offset
        scores = scores.masked_fill(hidden, float("-inf"))
    want_lse = torch.logsumexp(scores, -1)
    want = torch.nan_to_num(torch.softmax(scores, -1), nan=0.0) @ v64
    limit = 5e-4 if dtype == torch.float16 else 3e-3
    assert float((out.double() - want).norm() / want.norm()) <= limit
    seen = torch.isfinite(want_lse)
    assert torch.equal(torch.isfinite(lse), seen)
    assert float((lse.double() - want_lse)[seen].abs().max()) <= 1e-3
