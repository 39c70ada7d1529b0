"""
A kernel that does nothing but what `gl.warp_specialize` does: the control for racecheck.

Its warp groups are those of the `ws2` kernels, so the compiler dispatches them by the same
instructions. Each writes its own part of the output; no shared memory is ours. A hazard that
racecheck reports here is one between Triton's own instructions.
"""

# no "from __future__ import annotations" here: Gluon reads the annotations as types

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

THREADS = 128 + 128 + 32


@gluon.jit
def _number(out, FIRST: gl.constexpr, WARPS: gl.constexpr):
    layout: gl.constexpr = gl.BlockedLayout([1], [32], [WARPS], [0])
    thread = FIRST + gl.arange(0, 32 * WARPS, layout)
    gl.store(out + thread, thread)


@gluon.jit
def dispatch_only_kernel(out):
    """Write 0, 1, ... 287 to `out`, int32: every thread of three warp groups its own number."""
    gl.warp_specialize(
        [(_number, (out, 0, 4)), (_number, (out, 128, 4)), (_number, (out, 256, 1))],
        [4, 1],
        [240, 24],
    )
