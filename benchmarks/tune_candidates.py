"""What `tune_attention.py` measures: shapes, our candidate tiles, and whether one is right."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import attention_peers
from attention_peers import Shape

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

RMSE_LIMIT = 5e-4
ROW_LIMIT = 10 * RMSE_LIMIT
# Heads walked together under a causal mask; `tile_order` takes 128 at S = 512.
SECTIONS = (8, 32)
PLAIN_TILES = [(64, 64, 4, 3), (64, 128, 4, 2)]  # block_m, block_n, num_warps, num_stages

SHAPES = {
    "nine": attention_peers.nine(),
    "causal": attention_peers.nine(causal=True),
    "long": attention_peers.long(64, (1024, 4096, 16384)),
    "d128": attention_peers.long(128, (512, 1024, 4096, 16384)),
    "diagonal": [s for s in attention_peers.long(64, (16384, 8192, 4096)) if s.causal],
    # Rows of the table for calls of few tiles.
    "few": [
        Shape(*size, causal=causal)
        for causal in (False, True)
        for size in ((4096, 2, 8, 64), (1024, 1, 8, 128), (4096, 1, 2, 128))
    ],
    # Where the table's rows meet.
    "between": [s for d in (64, 128) for s in attention_peers.long(d, (2048, 8192))],
}

# f(q, k, v, out); a peer's result goes where the peer puts it.
Candidate = Callable[[Any, Any, Any, Any], object]


def has_one_of(words: str, name: str) -> bool:
    """
    Whether a name has one of some words, which commas part; no words are in every name.

    "=" is either end of a name: "=solo1-n64-s2=" is in that one alone.
    """
    return any(word in f"={name}=" for word in words.split(","))


def candidates(shape: Shape, only: str) -> dict[str, Candidate]:
    """Every kernel that makes sense at this shape and has a word of `only` in its name."""
    from flashcore_kernels.configs import TileConfig
    from flashcore_kernels.forward import plain_forward
    from flashcore_kernels.forward_hopper import HOPPER_CONFIGS, hopper_forward

    mask = {"scale": shape.headdim**-0.5, "causal": shape.causal, "causal_offset": 0}

    def of(forward: Any, config: Any) -> Candidate:
        return lambda q, k, v, out: forward(q, k, v, out, None, **mask, config=config)

    found = {
        config.name: of(hopper_forward, config)
        for config in HOPPER_CONFIGS[shape.headdim]
        if worth_a_try(config, shape)
    }
    if shape.causal:
        found |= in_sections(found)
    for m, n, warps, stages in PLAIN_TILES:
        if n <= shape.seqlen:
            config = TileConfig(m, n, warps, stages)
            found[f"plain-{m}x{n}-w{warps}-s{stages}"] = of(plain_forward, config)
    return {name: call for name, call in found.items() if has_one_of(only, name)}


def in_sections(found: dict[str, Candidate]) -> dict[str, Candidate]:
    """The same kernels with fewer heads walked together: more of K and V at once, less of them."""
    return {
        f"{name}-h{heads}": _in_sections(call, heads)
        for name, call in found.items()
        for heads in SECTIONS
        if name in ("solo1-n64-s2-d1", "solo1-n64-s2-r96-serial-d1")
    }


def _in_sections(call: Candidate, heads: int) -> Candidate:
    from flashcore_kernels import forward_hopper

    def walked(q: Any, k: Any, v: Any, out: Any) -> object:
        with patch.object(forward_hopper, "tile_order", lambda *_: heads):
            return call(q, k, v, out)

    return walked


def worth_a_try(config: Any, shape: Shape) -> bool:
    """Whether earlier runs and arithmetic leave this tile a chance at this shape."""
    if config.block_m > shape.seqlen or config.block_n > shape.seqlen:
        return False  # mostly padding
    if config.one_block and shape.seqlen > config.block_n:
        return False
    if config.block_m > 64 and config.block_n == 128 and shape.seqlen < 512:
        return False  # 20 to 60 % behind at S = 256
    return not (config.persistent and shape.seqlen == 128)  # one turn


def peers(shape: Shape, inputs: tuple[Any, Any, Any]) -> dict[str, Candidate]:
    """SDPA's backends that run this shape."""
    found = attention_peers.peers(shape, inputs)
    found.pop(attention_peers.FA4, None)  # its inputs lie otherwise
    return {name: _with_out(call) for name, (call, _) in found.items()}


def _with_out(call: Callable[..., Any]) -> Candidate:
    return lambda q, k, v, out: call(q, k, v)


def reference(shape: Shape, q: Any, k: Any, v: Any) -> list[tuple[int, int, Any]]:
    """(batch, head, float32 attention) of a first, a middle and the last head."""
    import torch

    picks = {(0, 0), (shape.batch // 2, shape.heads // 2), (shape.batch - 1, shape.heads - 1)}
    found = []
    for b, h in sorted(picks):
        s = (q[b, h].float() @ k[b, h].float().T) * shape.headdim**-0.5
        if shape.causal:
            s.masked_fill_(torch.ones_like(s, dtype=torch.bool).triu_(1), float("-inf"))
        found.append((b, h, torch.softmax(s, -1) @ v[b, h].float()))
    return found


def error(expected: list[tuple[int, int, Any]], out: Any) -> float:
    """The worst rel-RMSE over the reference heads; infinity for NaN or a bad row anywhere."""
    import torch

    if not bool(torch.isfinite(out).all()):
        return float("inf")
    worst = 0.0
    for b, h, want in expected:
        wrong = out[b, h].float() - want
        if float((wrong.norm(dim=-1) / want.norm(dim=-1)).max()) > ROW_LIMIT:
            return float("inf")
        worst = max(worst, float(wrong.norm() / want.norm()))
    return worst
