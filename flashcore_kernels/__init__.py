"""Attention kernels for PyTorch tensors, written in Triton."""

from __future__ import annotations

from .attention import attention
from .kv_cache import attention_with_kv_cache
from .sdpa import scaled_dot_product_attention

__all__ = ["attention", "attention_with_kv_cache", "scaled_dot_product_attention"]
