"""
Decode calls for tests: the cases, their tensors, the launch, and what must come out.

Every cache is filled with NaN beyond its valid part, and every output starts as NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from accuracy import assert_accurate

from flashcore_kernels.decode_plan import DecodePlan, plan_decode

HAS_GPU = torch.cuda.is_available()
HAS_HOPPER = HAS_GPU and torch.cuda.get_device_capability() >= (9, 0)


@dataclass(frozen=True)
class Case:
    """One decode call; `lens` gives the batch and each sequence's valid length."""

    lens: tuple[int, ...]
    capacity: int
    new: int = 0
    seqlen_q: int = 1
    nheads: int = 4
    nheads_k: int = 2
    headdim: int = 64
    causal: bool = True
    scale: float | None = None
    dtype: torch.dtype = torch.float16
    num_splits: int = 2

    def __str__(self) -> str:
        """Show only what differs from the default."""
        default = Case((), 0)
        return ",".join(
            f"{name}={str(value).replace('torch.', '')}"
            for name, value in vars(self).items()
            if value != getattr(default, name)
        )

    def plan(self) -> DecodePlan:
        """Plan as ever, but for the number of splits; half the cases overlap the two launches."""
        plan = plan_decode(
            batch=len(self.lens),
            nheads_k=self.nheads_k,
            group=self.nheads // self.nheads_k,
            seqlen_q=self.seqlen_q,
            capacity=self.capacity,
            headdim=self.headdim,
            num_sms=1,
        )
        overlaps = HAS_HOPPER and self.headdim == 64 and self.num_splits > 1
        return replace(plan, num_splits=self.num_splits, dependent_launch=overlaps)


@dataclass
class Tensors:
    """The tensors of one call."""

    q: torch.Tensor
    k_cache: torch.Tensor
    v_cache: torch.Tensor
    lens: torch.Tensor
    k: torch.Tensor | None
    v: torch.Tensor | None


def make(case: Case, device: str, seed: int = 0) -> Tensors:
    """Draw random inputs, NaN in every position of the cache that is not valid."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device=device, dtype=case.dtype)

    batch = len(case.lens)
    caches = [draw(batch, case.nheads_k, case.capacity, case.headdim) for _ in range(2)]
    for b, length in enumerate(case.lens):
        for cache in caches:
            cache[b, :, length:] = math.nan
    new = [draw(batch, case.nheads_k, case.new, case.headdim) for _ in range(2)]
    return Tensors(
        q=draw(batch, case.nheads, case.seqlen_q, case.headdim),
        k_cache=caches[0],
        v_cache=caches[1],
        lens=torch.tensor(case.lens, dtype=torch.int32, device=device),
        k=new[0] if case.new else None,
        v=new[1] if case.new else None,
    )


def run_kernel(case: Case, t: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """Launch the kernels themselves, on CPU tensors in the interpreter."""
    from flashcore_kernels.decode_launch import launch_decode

    out = torch.full_like(t.q, math.nan)
    lse = torch.full(t.q.shape[:3], math.nan, device=t.q.device)
    scale = 1 / math.sqrt(case.headdim) if case.scale is None else case.scale
    launch_decode(
        t.q, t.k_cache, t.v_cache, t.lens, t.k, t.v, out, lse, scale, case.causal, case.plan()
    )
    return out, lse


def assert_right(case: Case, t: Tensors, out: torch.Tensor, lse: torch.Tensor | None) -> None:
    """Compare every sequence with the float64 reference over the keys that it should have seen."""
    for b, length in enumerate(case.lens):
        rows = slice(b, b + 1)
        k, v = t.k_cache[rows, :, :length], t.v_cache[rows, :, :length]
        if t.k is not None and t.v is not None:
            k, v = torch.cat([k, t.k[rows]], dim=2), torch.cat([v, t.v[rows]], dim=2)
        if k.shape[2] == 0:
            assert int(out[b].count_nonzero()) == 0
            assert lse is None or bool((lse[b] == -math.inf).all())
            continue
        assert_accurate(
            out[rows],
            None if lse is None else lse[rows],
            t.q[rows],
            k,
            v,
            causal=case.causal,
            causal_offset=k.shape[2] - case.seqlen_q,
            scale=case.scale,
        )


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy as integers, so that NaN equals NaN."""
    return tensor.view(torch.int16).clone()


def appended(case: Case, cache: torch.Tensor, new: torch.Tensor | None) -> torch.Tensor:
    """Return what a cache must hold after the call."""
    expected = cache.clone()
    if new is not None:
        for b, length in enumerate(case.lens):
            expected[b, :, length : length + case.new] = new[b]
    return expected


SMALL = [
    Case((10, 64), 100),
    Case((0, 100), 100),
    Case((63, 65), 130, num_splits=1),
    Case((1, 129, 0), 200, num_splits=3),
    Case((130,), 200, nheads=2, nheads_k=2, num_splits=9),
    Case((70,), 128, nheads=8, nheads_k=1, dtype=torch.bfloat16),
    Case((3, 98), 128, headdim=128),
    Case((10, 99), 100, new=1),
    Case((0, 60), 200, new=5, seqlen_q=5),
    Case((0, 60), 200, new=5, seqlen_q=5, causal=False),
    Case((2, 130), 200, seqlen_q=3),
    Case((40,), 200, new=70, seqlen_q=30, nheads=6, nheads_k=2, num_splits=3),  # two query tiles
    Case((5,), 100, seqlen_q=9),  # more queries than keys: the first ones see nothing
    Case((17,), 100, new=2, seqlen_q=2, headdim=40),
    Case((65,), 100, scale=-0.3),
    Case((65,), 100, scale=0.0),
    Case((65,), 100, new=2, seqlen_q=20, num_splits=1, dtype=torch.bfloat16),
    # Blocks of cached keys, then blocks of new ones, in every split; tiles that see none of them.
    Case((70, 0), 180, new=100, seqlen_q=70, nheads=1, nheads_k=1, headdim=16, num_splits=3),
]
