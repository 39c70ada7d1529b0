"""
Chooses how the kernels run here: on the GPU, or without one in Triton's interpreter on CPU tensors.

Triton decides between compiling and interpreting when a kernel is *defined*, so the switch is set
while this process's kernels are imported, and taken back afterwards so that child processes, which
compile for real, do not inherit it. A process does one or the other: under `--kernelperf` without a
GPU kernels are compiled and judged, and the tests here are skipped.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from pathlib import Path

import pytest
import torch

HAS_GPU = torch.cuda.is_available()
LARGE_BYTES = 2**30
HERE = Path(__file__).parent
# Gluon belongs here because Triton imports it at a first launch, and it insists on one mode too.
KERNEL_MODULES = (
    "triton.experimental.gluon.nvidia.hopper",
    "flashcore_kernels.forward",
    "flashcore_kernels.decode",
)


def _define_kernels_for_the_interpreter() -> None:
    if "triton" in sys.modules and not sys.modules["triton"].knobs.runtime.interpret:
        raise pytest.UsageError(
            "tests/kernels needs Triton's interpreter on a machine without a GPU, but triton was "
            "imported before it could be chosen; run `pytest tests/kernels` alone, or set "
            "TRITON_INTERPRET=1"
        )
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        for name in KERNEL_MODULES:
            importlib.import_module(name)
    finally:
        if before is None:
            del os.environ["TRITON_INTERPRET"]


def _mend_the_interpreter() -> None:
    """
    Cover three gaps of Triton 3.6's interpreter.

    It turns loop bounds into integers by `int(array)`, which NumPy refuses since 2.4 for arrays of
    shape (1,); it multiplies bfloat16 tiles as the uint16 that it stores them in; and it cuts
    float32 off to bfloat16 where the hardware rounds to nearest even, doubling every error.
    """
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    patch_tensor = interpreter._patch_lang_tensor
    builder = interpreter.InterpreterBuilder
    create_dot, cast = builder.create_dot, builder.cast_impl

    def with_index(tensor, scope):
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    def widened(handle):
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        bits = handle.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    def dot(self, a, b, *rest):
        return create_dot(self, widened(a), widened(b), *rest)

    def rounding_cast(self, source, target):
        if source.dtype.scalar != tl.float32 or target.scalar != tl.bfloat16:
            return cast(self, source, target)
        rounded = torch.from_numpy(np.ascontiguousarray(source.data)).to(torch.bfloat16)
        return interpreter.TensorHandle(rounded.view(torch.uint16).numpy(), tl.bfloat16)

    interpreter._patch_lang_tensor = with_index
    builder.create_dot = dot
    builder.cast_impl = rounding_cast


def _is_to_compile(config: pytest.Config) -> bool:
    options = ("measure", "update", "update_new")
    return not HAS_GPU and any(config.getoption(f"kernelperf_{one}", None) for one in options)


def pytest_configure(config: pytest.Config) -> None:
    """Choose for this process, before any test module here is imported."""
    if not HAS_GPU and not _is_to_compile(config):
        _define_kernels_for_the_interpreter()
        _mend_the_interpreter()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs the interpreter in a process that compiles."""
    if _is_to_compile(config):
        why = "without a GPU --kernelperf compiles, and these tests interpret: run them without it"
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def device() -> str:
    """Where kernel tests put their tensors: the GPU, or the CPU for the interpreter."""
    return "cuda" if HAS_GPU else "cpu"


@pytest.fixture(scope="package", autouse=not HAS_GPU)
def _one_thread():
    """Keep small tensors to one thread: others would spin in wait for work, at 3 times the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=HAS_GPU)
def _give_back_memory():
    """Leave a large test's memory to the other processes on this card."""
    yield
    if HAS_GPU and torch.cuda.memory_reserved() > LARGE_BYTES:
        gc.collect()
        torch.cuda.empty_cache()


@pytest.fixture
def recorded(monkeypatch):
    """Stand in for the CUDA parts of a launch; return the list of argument tuples launched."""
    from launch_stand_ins import STREAM

    from flashcore_kernels import launch
    from flashcore_kernels.plans import plans

    calls: list[tuple] = []
    monkeypatch.setattr(launch, "current_stream", lambda index: STREAM)
    monkeypatch.setattr(launch, "current_device", lambda: None)
    plans.clear()
    yield calls
    plans.clear()
