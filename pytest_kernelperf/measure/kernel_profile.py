"""
Kernel records from CUPTI, through torch's profiler: when each kernel, memset and copy really ran.
"""

from __future__ import annotations

import os
import warnings
from types import TracebackType
from typing import Any, Literal

from pytest_kernelperf.measure.records import KernelRecord

#: Kineto's names for what occupies the device.
_WORK = frozenset({"kernel", "concurrent_kernel", "gpu_memset", "gpu_memcpy"})


class ProfilerUnavailableError(Exception):
    """
    The profiler can't start here: CUPTI is missing or refused, or another profile is running.
    """


class KernelProfile:
    """
    A stretch of time whose kernel records are wanted: `with` it, then read `records`.

    Attributes:
        records: In order of start, of one device; empty until the end.
    """

    def __init__(self, device_index: int) -> None:
        self._device_index = device_index
        self._profile: Any = None
        self.records: tuple[KernelRecord, ...] = ()

    def __enter__(self) -> KernelProfile:
        # CUPTI must stay attached between profiles: taking it down while CUDA graphs live crashed
        # in several versions (pytorch/pytorch#112507).
        os.environ.setdefault("TEARDOWN_CUPTI", "0")
        try:
            from torch.profiler import ProfilerActivity, profile

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._profile = profile(activities=[ProfilerActivity.CUDA])
                self._profile.__enter__()
        except (ImportError, RuntimeError, AssertionError, ValueError) as error:
            raise ProfilerUnavailableError(f"the profiler can't start: {error}") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._profile.__exit__(kind, error, trace)
        if error is None:
            self.records = self._read()
        self._profile = None
        return False

    def _read(self) -> tuple[KernelRecord, ...]:
        # The raw events: their times are whole nanoseconds, and no tree of them is built.
        results = getattr(getattr(self._profile, "profiler", None), "kineto_results", None)
        if results is None:
            return ()
        found = [
            KernelRecord(event.name(), event.start_ns(), event.start_ns() + event.duration_ns())
            for event in results.events()
            if self._is_work(event)
        ]
        return tuple(sorted(found, key=lambda record: (record.start_ns, record.end_ns)))

    def _is_work(self, event: Any) -> bool:
        from torch.autograd import DeviceType

        if event.device_type() != DeviceType.CUDA or event.device_index() != self._device_index:
            return False
        # Before it said the type, only annotations had to be told from work.
        kind = getattr(event, "activity_type", None)
        return kind is None or kind() in _WORK
