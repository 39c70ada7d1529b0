"""The Hopper kernels: their configurations, what ptxas makes of them, and, on an H100, their results."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flashcore_kernels.forward_hopper import (
    HOPPER_CONFIGS,
    HopperConfig,
    hopper_forward,
    is_supported,
    tile_order,
)

HAS_TRITON = importlib.util.find_spec("triton") is not None
COMPILE = Path(__file__).with_name("compile_hopper.py")
PAIR = HopperConfig("pair", 2, 64, 3)
STREAMED = HopperConfig("ws", 2, 128, 2, consumer_regs=240, persistent=1)


def test_every_candidate_has_its_own_name() -> None:
    for configs in HOPPER_CONFIGS.values():
        names = [config.name for config in configs]
        assert len(set(names)) == len(names)


def test_cpu_tensors_are_not_supported() -> None:
    q = torch.zeros(1, 1, 64, 64, dtype=torch.float16)
    assert is_supported(q, q, q, scale=1.0) is False


def test_without_a_mask_the_tiles_of_one_head_follow_each_other() -> None:
    assert tile_order(False, 256, 4096, 64) == 1


def test_under_a_mask_as_many_heads_are_walked_together_as_fit_in_cache() -> None:
    assert tile_order(True, 256, 4096, 64) == 16
    assert tile_order(True, 4, 4096, 64) == 4
    assert tile_order(True, 256, 1 << 20, 128) == 1


@pytest.mark.skipif(not HAS_TRITON, reason="needs triton")
@pytest.mark.parametrize("name", ["pair1-n64-s3", "pair2-n64-s3", "ws2-n128-s2-c240"])
@pytest.mark.parametrize("causal", [False, True])
def test_products_stay_asynchronous_and_nothing_spills(name: str, causal: bool) -> None:
    """Compiles for sm_90 in a fresh process, because the interpreter may be on in this one."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    env["PYTHONPATH"] = str(COMPILE.parents[2])
    run = subprocess.run(
        [sys.executable, str(COMPILE), name, str(int(causal))],
        capture_output=True, text=True, env=env, timeout=300, check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert re.findall(r"C75\d\d", run.stdout) == []
    assert set(re.findall(r"(\d+) bytes spill", run.stdout)) == {"0"}
    assert "wgmma.mma_async" in run.stdout


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
]


@pytest.mark.h100
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("config", [PAIR, STREAMED, HopperConfig("pair", 1, 64, 2)], ids=lambda c: c.name)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_results_match_float64(case: tuple[int, ...], config: HopperConfig, dtype: torch.dtype) -> None:
    batch, heads, heads_k, seqlen_q, seqlen_k, headdim, causal, offset = case
    if headdim == 128 and config.family == "pair" and config.groups == 2:
        pytest.skip("two tiles of headdim 128 do not fit one warpgroup's registers")
    torch.manual_seed(seqlen_q)

    def random(h: int, s: int) -> torch.Tensor:
        # [batch, seqlen, heads, headdim] seen as [batch, heads, seqlen, headdim]: strided, as models have it
        return torch.randn(batch, s, h, headdim, device="cuda", dtype=dtype).transpose(1, 2)

    q, k, v = random(heads, seqlen_q), random(heads_k, seqlen_k), random(heads_k, seqlen_k)
    out = torch.full_like(q, float("nan"))
    lse = torch.full((batch, heads, seqlen_q), float("nan"), device="cuda")
    scale = headdim**-0.5
    hopper_forward(q, k, v, out, lse, scale=scale, causal=bool(causal), causal_offset=offset, config=config)

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
