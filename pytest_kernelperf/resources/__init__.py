"""
What the compiler makes of Triton kernels: read where they are launched, or made without a GPU.

Importing it imports neither torch nor triton: they come with the first kernel.
"""

from __future__ import annotations

from pytest_kernelperf.resources.launches import Launch, watch_launches
from pytest_kernelperf.resources.reading import complete, read_kernel

__all__ = ["Launch", "complete", "read_kernel", "watch_launches"]
