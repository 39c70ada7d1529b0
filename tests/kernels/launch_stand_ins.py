"""What the launch tests share: stand-ins for a compiled kernel, its launcher, its descriptors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import triton

from flashcore_kernels import forward, launch
from flashcore_kernels.attention import _forward
from flashcore_kernels.plans import plan_key
from flashcore_kernels.repeated_launch import Plan

STREAM = 77
only_known_triton = pytest.mark.skipif(
    not triton.__version__.startswith(launch.KNOWN_TRITON), reason="another Triton: no fast path"
)
METADATA = {
    "swizzle": 3, "elem_size": 2, "elem_type": 6, "block_size": [1, 1, 64, 64], "fp4_padded": False
}  # fmt: skip


def make_handle(calls, **changes):
    """Make a compiled kernel as Triton 3.6 returns it."""
    runner = {
        "launch": lambda *args: calls.append(args),
        "global_scratch_size": 0,
        "profile_scratch_size": 0,
        "launch_cooperative_grid": False,
        "launch_pdl": False,
        **changes,
    }
    return SimpleNamespace(
        run=SimpleNamespace(**runner), function=1234, packed_metadata=(4, 1, 57344)
    )


def make_described_handle(calls, metadata=METADATA, **changes):
    """Make a handle whose launcher is wrapped by Triton's own code for descriptors."""
    driver = pytest.importorskip("triton.backends.nvidia.driver")
    signature = dict.fromkeys("qkvo", "tensordesc<fp16[1, 1, 64, 64]>") | {"lse": "*fp32"}
    described = [metadata] * 4 if metadata else None
    wrapped = driver.wrap_handle_tensordesc(lambda *args: calls.append(args), signature, described)
    return make_handle(calls, launch=wrapped, **changes)


def make_descriptor(tensor):
    """Describe a tensor as Triton's host-side descriptors do."""
    return SimpleNamespace(
        base=tensor,
        shape=list(tensor.shape),
        strides=list(tensor.stride()),
        block_shape=[1, 1, 64, 64],
        padding="zero",
    )


def make_inputs(seqlen=64, dtype=torch.float16):
    """Draw q, k, v on the CPU."""
    return tuple(torch.randn(2, 4, seqlen, 64).to(dtype) for _ in range(3))


def make_plan(prepared, like, device_index=None, lse_is_needed=False):
    """Make a plan that takes any tensors."""
    plan = Plan(prepared, device_index, lse_is_needed, like)
    plan.guard = lambda *tensors: True
    return plan


def first_call(monkeypatch, calls, inputs, **changes):
    """Go through the checked way once, with Triton replaced by the stand-in."""
    monkeypatch.setattr(forward, "launch", lambda *args: make_handle(calls, **changes))
    key = plan_key(*inputs[:2], False, None, None, False)
    return _forward(*inputs, False, 0.125, 0, None, False, plan_key=key)
