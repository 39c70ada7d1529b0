"""
Holds a CUDA stream back until the host has enqueued everything, and proves that it did.

A fixed-length spin is a guess: enqueueing a graph took 50 to 1700 µs on one machine, and whatever
did not fit was timed as if it were the kernel. Here the device waits for a word of pinned memory,
which only the host writes, after its last enqueue. A callable that synchronises would wait for
itself; a watchdog thread then writes the word, and the late enqueue is the evidence.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal

#: Longer than any honest enqueue of 512 nodes (1.7 ms at most was seen), short enough to sit out.
TIME_LIMIT_S = 2.0
#: The watchdog looks this often; polling wakes no thread while a sample is being enqueued.
_WATCH_EVERY_S = 0.25


class BlockerUnavailableError(Exception):
    """
    One way of blocking does not work on this machine; the next one is tried.
    """


class Hold:
    """
    One blocked stretch of a stream: `with` it, enqueue, and leave to release.

    Attributes:
        enqueued_ns: Host clock after the last enqueue.
        released_ns: Host clock when the word was written, by the host or by the watchdog.
    """

    def __init__(self, begin: Callable[[], None], release: Callable[[], None]) -> None:
        self._begin = begin
        self._release = release
        self._lock = threading.Lock()
        self.began_ns = 0
        self.enqueued_ns = 0
        self.released_ns = 0

    def __enter__(self) -> Hold:
        self.began_ns = time.perf_counter_ns()
        _watchdog().watch(self)
        try:
            self._begin()
        except BaseException:
            self.release()
            _watchdog().forget()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        # Also after an error: a stream that is never released hangs the process.
        self.enqueued_ns = time.perf_counter_ns()
        self.release()
        _watchdog().forget()
        return False

    def release(self) -> None:
        """
        Write the word, once; whoever comes second changes nothing.
        """
        with self._lock:
            if not self.released_ns:
                self.released_ns = time.perf_counter_ns()
                self._release()

    @property
    def slack_us(self) -> float:
        """
        Host time from the last enqueue to the release: negative if the release came first.
        """
        return round((self.released_ns - self.enqueued_ns) * 1e-3, 3)


class Watchdog:
    """
    One daemon thread that releases a hold which lasts too long.
    """

    def __init__(self, limit_s: float = TIME_LIMIT_S, every_s: float = _WATCH_EVERY_S) -> None:
        self._limit_ns = int(limit_s * 1e9)
        self._every_s = every_s
        self._hold: Hold | None = None
        threading.Thread(target=self._run, name="kernelperf-blocker", daemon=True).start()

    def watch(self, hold: Hold) -> None:
        """
        Release this hold if it is still the watched one after the limit.
        """
        self._hold = hold

    def forget(self) -> None:
        """
        Stop watching: the hold has ended.
        """
        self._hold = None

    def _run(self) -> None:
        while True:
            time.sleep(self._every_s)
            hold = self._hold
            if hold is not None and time.perf_counter_ns() - hold.began_ns > self._limit_ns:
                hold.release()


class Blocker:
    """
    Blocks the current stream of the current device on a word of pinned memory.

    Tickets only grow, and the device waits for "at least my ticket", so a word never has to be
    reset while an earlier wait may still look at it.

    Attributes:
        name: What `Environment.blocker` calls it.
        records: Profiler records that one block leaves (a polling kernel leaves one).
    """

    def __init__(self, name: str, wait: Callable[[Any, int], None], records: int) -> None:
        import torch

        self.name = name
        self.records = records
        self._wait = wait
        self._word = torch.zeros(16, dtype=torch.int32, device="cpu", pin_memory=True)
        self._value = ctypes.c_int32.from_address(self._word.data_ptr())
        self._ticket = 0

    def hold(self) -> Hold:
        """
        Return a new hold on what will be the current stream when it is entered.
        """
        self._ticket += 1
        ticket = self._ticket
        return Hold(
            begin=lambda: self._wait(self._word, ticket),
            release=lambda: self._write(ticket),
        )

    def _write(self, ticket: int) -> None:
        # The watchdog may write late, after a newer ticket: the word must never go back.
        self._value.value = max(self._value.value, ticket)


@functools.cache
def blocker_for(device_index: int) -> Blocker | None:
    """
    Return the best blocker that works on a device, or None; the device must be the current one.

    Each candidate has to hold an event back for a moment before it is trusted.
    """
    for make in (_wait_value_blocker, _polling_blocker):
        try:
            blocker = make()
            if _holds_back(blocker):
                return blocker
        except (BlockerUnavailableError, ImportError, RuntimeError, AttributeError, TypeError):
            continue
    return None


def _holds_back(blocker: Blocker) -> bool:
    import torch

    # Twice: the first hold may load a module, which waits for the device and trips the watchdog.
    held = False
    for _ in range(2):
        torch.cuda.synchronize()
        passed = torch.cuda.Event()
        with blocker.hold() as hold:
            passed.record()
            time.sleep(0.001)
            held = not passed.query()
        torch.cuda.synchronize()
        held = held and hold.slack_us >= 0
    return held


def _wait_value_blocker() -> Blocker:
    """
    The stream itself waits (`cuStreamWaitValue32`): no kernel spins, no SM is used.
    """
    driver = driver_api()
    at_least = driver.CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_GEQ.value

    def wait(word: Any, ticket: int) -> None:
        import torch

        stream = torch.cuda.current_stream().cuda_stream
        status = driver.cuStreamWaitValue32(
            driver.CUstream(stream), driver.CUdeviceptr(word.data_ptr()), ticket, at_least
        )[0]
        if status != driver.CUresult.CUDA_SUCCESS:
            raise BlockerUnavailableError(f"cuStreamWaitValue32 returned {status}")

    return Blocker("wait-value", wait, records=0)


def _polling_blocker() -> Blocker:
    """
    A one-warp Triton kernel reads the word until it changes.
    """
    from pytest_kernelperf.measure.polling_kernel import launch_poll

    return Blocker("polling-kernel", launch_poll, records=1)


def driver_api() -> Any:
    """
    Return the CUDA driver bindings, in their new or old place.

    Raises:
        BlockerUnavailableError: cuda-bindings is not installed, or finds no driver.
    """
    for name in ("cuda.bindings.driver", "cuda.cuda"):
        try:
            driver = importlib.import_module(name)
        except ImportError:
            continue
        if hasattr(driver, "cuStreamWaitValue32"):
            return driver
    raise BlockerUnavailableError("cuda-bindings is not installed")


@functools.cache
def _watchdog() -> Watchdog:
    return Watchdog()
