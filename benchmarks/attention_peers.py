"""What the attention benchmarks compare: shapes, our attention, its peers, and a shape's floor."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

FA4 = "FA4"  # flash-attn-4
Callables = dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]


@dataclass(frozen=True)
class Shape:
    """One attention problem: [batch, heads, seqlen, headdim]."""

    seqlen: int
    batch: int
    heads: int = 8
    headdim: int = 64
    causal: bool = False
    dtype: str = "float16"
    heads_k: int = 0

    @property
    def name(self) -> str:
        """A short name for tables."""
        words = [f"{self.seqlen}x{self.batch}", f"H{self.heads}", f"D{self.headdim}"]
        words += [f"kv{self.heads_k}"] if self.heads_k else []
        words += ["causal"] if self.causal else []
        return " ".join(words + (["bf16"] if self.dtype == "bfloat16" else []))


@dataclass(frozen=True)
class Ceilings:
    """What this card reached: bytes and FLOPs per microsecond, exponentials per microsecond."""

    copy_bytes_per_us: float
    matmul_flops_per_us: float
    exponentials_per_us: float


def nine(dtype: str = "float16", causal: bool = False) -> list[Shape]:
    """The validation report's shapes."""
    sizes = [(s, b) for s in (128, 256, 512) for b in (8, 16, 32)]
    return [Shape(s, b, dtype=dtype, causal=causal) for s, b in sizes]


def long(headdim: int, seqlens: tuple[int, ...] = (1024, 2048, 4096, 8192, 16384)) -> list[Shape]:
    """16384 tokens, heads * headdim = 2048."""
    return [
        Shape(s, 16384 // s, 2048 // headdim, headdim, causal)
        for causal in (False, True)
        for s in seqlens
    ]


def fitted(shape: Shape, device: str) -> Shape:
    """The shape itself; for a dry run on a CPU one that it can compute at once."""
    if device == "cuda":
        return shape
    heads = 2 if not shape.heads_k else shape.heads
    return replace(shape, seqlen=max(1, shape.seqlen // 64), batch=1, heads=heads)


def tensors(shape: Shape, device: str) -> tuple[Any, Any, Any]:
    """Draw q, k, v."""
    import torch

    generator = torch.Generator(device=device).manual_seed(shape.seqlen)

    def draw(heads: int) -> Any:
        size = (shape.batch, heads, shape.seqlen, shape.headdim)
        drawn = torch.randn(size, device=device, generator=generator)
        return drawn.to(getattr(torch, shape.dtype))

    heads_k = shape.heads_k or shape.heads
    return draw(shape.heads), draw(heads_k), draw(heads_k)


def ours(shape: Shape) -> Callable[..., Any]:
    """Our attention, as a user calls it."""
    from flashcore_kernels import attention

    return lambda q, k, v: attention(q, k, v, causal=shape.causal)


def torchs(shape: Shape, backend: Any = None) -> Callable[..., Any]:
    """PyTorch's attention, by default or held to one backend."""
    import torch
    from torch.nn.attention import sdpa_kernel

    sdpa = torch.nn.functional.scaled_dot_product_attention
    options = {"is_causal": shape.causal, "enable_gqa": bool(shape.heads_k)}

    def held(q: Any, k: Any, v: Any) -> Any:
        with sdpa_kernel(backend):
            return sdpa(q, k, v, **options)

    return held if backend is not None else lambda q, k, v: sdpa(q, k, v, **options)


# flash-attn-4 4.0.0b36, CuTe DSL, sm_90, float16, on another H100 80GB HBM3, paced graphs: us by
# (seqlen, headdim, causal), batch * seqlen = 16384, heads * headdim = 2048.
FA4_ELSEWHERE_US = {
    (1024, 64, False): 334.1,
    (4096, 64, False): 1016.6,
    (16384, 64, False): 3801.5,
    (4096, 64, True): 593.5,
    (16384, 64, True): 1948.0,
    (4096, 128, False): 787.4,
    (16384, 128, False): 3007.8,
    (4096, 128, True): 444.9,
    (16384, 128, True): 1574.1,
}


def flash_attention_4(shape: Shape) -> Callable[..., Any] | None:
    """flash-attn-4 on [batch, seqlen, heads, headdim], or None where it is not installed."""
    try:
        from flash_attn.cute import flash_attn_func
    except ImportError:
        return None

    def call(q: Any, k: Any, v: Any) -> Any:
        result = flash_attn_func(q, k, v, causal=shape.causal)
        return result[0] if isinstance(result, tuple) else result

    return call


def peers(shape: Shape, inputs: tuple[Any, ...]) -> Callables:
    """Every peer that runs this shape here, with its inputs in its layout."""
    from torch.nn.attention import SDPBackend

    wanted: Callables = {"sdpa": (torchs(shape), inputs)}
    for name in ("FLASH", "CUDNN", *(["EFFICIENT"] if shape.seqlen <= 512 else [])):
        backend = getattr(SDPBackend, f"{name}_ATTENTION")
        wanted[name] = (torchs(shape, backend), inputs)
    fourth = flash_attention_4(shape)
    if fourth is not None:
        moved = tuple(tensor.transpose(1, 2).contiguous() for tensor in inputs)
        wanted[FA4] = (fourth, moved)
    return {name: pair for name, pair in wanted.items() if _runs(*pair)}


def _runs(call: Callable[..., Any], inputs: tuple[Any, ...]) -> bool:
    try:
        call(*inputs)
    except Exception as problem:  # a peer without this shape, or this GPU, is left out
        print(f"left out: {type(problem).__name__}: {str(problem)[:120]}", file=sys.stderr)
        return False
    return True


def floor_us(shape: Shape, limits: Ceilings | None) -> dict[str, float]:
    """The least time that this card needs for a shape, by each of its resources."""
    if limits is None:
        return {}
    from flashcore_kernels import cost

    size = (shape.batch, shape.heads, shape.seqlen, shape.seqlen)
    heads_k = shape.heads_k or shape.heads
    moved = cost.attention_bytes(*size[:2], heads_k, *size[2:], shape.headdim)
    flops = cost.attention_flops(*size, shape.headdim, causal=shape.causal)
    exponentials = cost.attention_exponentials(*size, causal=shape.causal)
    return {
        "bytes": moved / limits.copy_bytes_per_us,
        "products": flops / limits.matmul_flops_per_us,
        "exponentials": exponentials / limits.exponentials_per_us,
    }
