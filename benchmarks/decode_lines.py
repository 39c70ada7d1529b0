"""The decode slice of the attention table: one new token, against a copy of as many bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from attention_lines import OURS, Bench, Line
from attention_peers import Callables

# From here on the cache does not fit the L2, and the bandwidth is what can be asked for.
LARGE_BYTES = 64 << 20
MOST_BYTES = 2 << 30  # the largest cache at D = 64; copies of it rotate
BATCHES, CACHES = (1, 8, 64), (1024, 4096, 16384, 65536)
HEADS = ((8, 2, 64), (32, 8, 128))  # nheads, nheads_k, headdim


@dataclass(frozen=True)
class Decode:
    """One decode step; `cache` counts the new token."""

    batch: int
    cache: int
    nheads: int
    nheads_k: int
    headdim: int

    @property
    def cache_bytes(self) -> int:
        """Bytes of the keys and values, float16: what must be read once."""
        return self.batch * self.nheads_k * self.cache * self.headdim * 2 * 2

    @property
    def name(self) -> str:
        """A short name for tables."""
        return f"{self.cache}x{self.batch} H{self.nheads}/{self.nheads_k} D{self.headdim}"


def shapes() -> list[Decode]:
    """All that the issue names, as far as memory goes."""
    found = [Decode(b, c, *heads) for heads in HEADS for b in BATCHES for c in CACHES]
    return [one for one in found if one.cache_bytes <= MOST_BYTES]


def decode(bench: Bench) -> Iterator[Callable[[], list[Line]]]:
    """
    Ours against a copy that moves the cache's bytes, half of them read and half written.

    The ratio is the share of the copy bandwidth. More than 1 is possible: reading alone is faster.
    """
    for shape in shapes():
        if bench.device != "cuda":
            shape = Decode(min(shape.batch, 2), shape.cache // 256, *HEADS[0])
        yield partial(_line, bench, shape)


def _line(bench: Bench, shape: Decode) -> list[Line]:
    import torch

    inputs = _inputs(shape, bench.device)
    _step(*inputs)  # the token is in the cache: from now on appending it changes nothing
    if bench.device == "cuda":
        _refuse_synchronisation(inputs)
    half = torch.ones(shape.cache_bytes // 4, dtype=torch.float16, device=bench.device)
    q, k_cache, v_cache = inputs[:3]
    subjects: Callables = {
        OURS: (_step, inputs),
        "copy": (torch.clone, (half,)),
        "sdpa": (_sdpa, (q, k_cache, v_cache)),
    }
    must = 0.8 if shape.cache_bytes > LARGE_BYTES else None
    floor = {}
    if bench.limits is not None:
        floor = {"bytes": shape.cache_bytes / bench.limits.copy_bytes_per_us}
    about = {"must": must, "against": "copy", "floor_us": floor}
    return [bench.line("decode", shape.name, subjects, **about)]


def _inputs(shape: Decode, device: str) -> tuple[Any, ...]:
    import torch

    def draw(heads: int, length: int) -> Any:
        size = (shape.batch, heads, length, shape.headdim)
        return torch.randn(size, dtype=torch.float16, device=device)

    lens = torch.full((shape.batch,), shape.cache - 1, dtype=torch.int32, device=device)
    new = (draw(shape.nheads_k, 1), draw(shape.nheads_k, 1))
    caches = (draw(shape.nheads_k, shape.cache), draw(shape.nheads_k, shape.cache))
    return draw(shape.nheads, 1), *caches, lens, *new


def _step(*inputs: Any) -> Any:
    from flashcore_kernels import attention_with_kv_cache

    return attention_with_kv_cache(*inputs)


def _sdpa(q: Any, k_cache: Any, v_cache: Any) -> Any:
    import torch

    sdpa = torch.nn.functional.scaled_dot_product_attention
    return sdpa(q, k_cache, v_cache, enable_gqa=True)


def _refuse_synchronisation(inputs: tuple[Any, ...]) -> None:
    """Call once in the mode in which torch raises where the host would wait for the GPU."""
    import torch

    torch.cuda.set_sync_debug_mode("error")
    try:
        _step(*inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
