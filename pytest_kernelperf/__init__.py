"""
pytest_kernelperf: a slower GPU kernel fails its test, with evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_kernelperf.errors import (
    KernelPerfError,
    KernelPerfFailure,
    NotMeasuredError,
    OptionsError,
    SubjectError,
    TimerUnavailableError,
)

if TYPE_CHECKING:
    from pytest_kernelperf.fixture import KernelPerf

#: The marker: `@kernel_perf(target_us=5)` is `@pytest.mark.kernel_perf(target_us=5)`.
kernel_perf = pytest.mark.kernel_perf

__all__ = [
    "KernelPerf",
    "KernelPerfError",
    "KernelPerfFailure",
    "NotMeasuredError",
    "OptionsError",
    "SubjectError",
    "TimerUnavailableError",
    "kernel_perf",
]


def __getattr__(name: str) -> object:
    # The fixture's type is for annotations; a plain pytest run should not pay for loading it.
    if name == "KernelPerf":
        from pytest_kernelperf.fixture import KernelPerf

        return KernelPerf
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
