"""A kernel that does nothing, launched by the fastest way there is here: the least a call costs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import triton

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

GRID = (1, 1, 1)


@triton.jit
def empty_kernel(q, k, v, out, lse):
    """Take as many addresses as attention, and leave them alone."""


def empty_call(model: torch.Tensor) -> Callable[..., torch.Tensor]:
    """
    Return a callable that launches one empty kernel and returns its first argument.

    Args:
        model: A CUDA tensor like those that it will be called with.
    """
    from flashcore_kernels import launch

    handle = launch.launch(empty_kernel, GRID, (model,) * 5, {"num_warps": 4})
    prepared = launch.prepare(handle, GRID, (model,) * 5, ())
    if prepared is None:
        raise RuntimeError(f"no prepared launch here: expected Triton {launch.KNOWN_TRITON}x")
    launched, stream, device = prepared.__call__, launch.current_stream, model.get_device()

    def call(q: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        address = q.data_ptr()
        launched(stream(device), address, address, address, address, address)
        return q

    return call
