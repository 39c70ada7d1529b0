"""What the attention tests share: random inputs, layouts, and the kernel without its front door."""

from __future__ import annotations

import math

import pytest
import torch

from flashcore_kernels.attention import _forward

HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="needs a GPU")


def make(batch, nheads, nheads_k, seqlen_q, seqlen_k, headdim, dtype=torch.float16, seed=0):
    """Draw independent q, k, v from a normal distribution."""
    generator = torch.Generator(DEVICE).manual_seed(seed)

    def draw(heads, length):
        return torch.randn(
            batch, heads, length, headdim, generator=generator, device=DEVICE, dtype=torch.float32
        ).to(dtype)

    return draw(nheads, seqlen_q), draw(nheads_k, seqlen_k), draw(nheads_k, seqlen_k)


def forward(q, k, v, *, causal=False, scale=None, causal_offset=0, out=None):
    """Run the kernel itself, interpreted or compiled, whatever the public function would choose."""
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    return _forward(q, k, v, causal, scale, causal_offset, out, True)


def transposed(tensor):
    """Lay a tensor out as [batch, seqlen, heads, headdim] in memory."""
    return tensor.transpose(1, 2).contiguous().transpose(1, 2)


def shifted(tensor):
    """Start one element into an allocation: not 16-byte aligned."""
    buffer = torch.empty(tensor.numel() + 1, dtype=tensor.dtype, device=tensor.device)
    view = buffer[1:].view(tensor.shape)
    view.copy_(tensor)
    return view
