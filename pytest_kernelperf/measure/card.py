"""
One CUDA device, made ready to time: blocker, canary, L2 flush, events.

Everything here runs once unblocked before it is used under the blocker: a module that loads lazily
or memory that is allocated for the first time may wait for the device, which waits for the host.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from pytest_kernelperf.measure.blocker import Blocker, Hold, blocker_for
from pytest_kernelperf.measure.canary import Canary, Shot, calibrated

#: Spun before a measurement, so that an idle card has raised its clocks.
_WAKE_CYCLES = 20_000_000


class Card:
    """
    The current device with its instruments; get it from `card_for`.

    Attributes:
        index: torch's device index.
        l2_bytes: Size of the L2 cache.
        blocker: None where no way of blocking works.
        canary: None where there is no spin kernel, or no blocker to protect it.
    """

    def __init__(self, index: int) -> None:
        import torch

        self.index = index
        properties = torch.cuda.get_device_properties(index)
        self.l2_bytes = int(getattr(properties, "L2_cache_size", 0)) or 64 * 2**20
        self._spins = hasattr(torch.cuda, "_sleep")
        self._marks = [torch.cuda.Event(enable_timing=True) for _ in range(6)]
        self._junk: Any = None
        self._idle_sync_us = 0.0
        self._warm_up()
        self.blocker: Blocker | None = blocker_for(index)
        self.canary: Canary | None = calibrated(self.blocker) if self.blocker else None

    def _warm_up(self) -> None:
        import torch

        for mark in self._marks:
            mark.record()
        self.flush()
        self.wake()
        torch.cuda.synchronize()
        self._marks[0].elapsed_time(self._marks[-1])
        self._idle_sync_us = median(_synchronised_us() for _ in range(9))

    def wake(self) -> None:
        """
        Keep the device busy for about 10 ms, so that it leaves its idle clocks.
        """
        import torch

        self.spin(_WAKE_CYCLES)
        torch.cuda.synchronize()

    def spin(self, cycles: int) -> None:
        """
        Enqueue a spin of so many SM cycles, where torch has one.
        """
        import torch

        if self._spins:
            torch.cuda._sleep(cycles)

    def flush(self) -> None:
        """
        Enqueue a write of twice the L2, after which nothing else is in it.
        """
        import torch

        # Made and written in one mode: torch refuses to write what was made in inference mode
        # anywhere else, and a test may be in either.
        with torch.inference_mode():
            if self._junk is None:
                self._junk = torch.empty(
                    2 * self.l2_bytes, dtype=torch.uint8, device=f"cuda:{self.index}"
                )
            self._junk.zero_()

    def free_bytes(self) -> int:
        """
        Return what copies could use: free on the card, or kept free by torch's allocator.
        """
        import torch

        kept = torch.cuda.memory_reserved(self.index) - torch.cuda.memory_allocated(self.index)
        return int(torch.cuda.mem_get_info(self.index)[0]) + int(max(kept, 0))

    def hold(self) -> Hold:
        """
        Return a hold on the current stream; only where there is a blocker.
        """
        assert self.blocker is not None
        return self.blocker.hold()

    def shoot(self, run: Callable[[], None], calls: int, *, flush: bool) -> Shot:
        """
        Time one blocked sample: [flush] canary, event, the calls, event, canary, then release.

        Returns:
            A shot whose `time_us` is the time per call, rounded so that JSON keeps it exactly.
        """
        before, start, end, after = self._pairs()
        with self.hold() as hold:
            if flush:
                self.flush()
            if self.canary is not None:
                self.canary.lead_in()
            self._watch_clock(before)
            start.record()
            run()
            end.record()
            self._watch_clock(after)
        busy_us = self._busy_after(after[1] if self.canary else end)
        return self._shot(calls, hold.slack_us, busy_us)

    def shoot_unblocked(self, run: Callable[[], None], calls: int, *, flush: bool) -> Shot:
        """
        Time one sample with nothing held back: host time is inside where the host is slower.
        """
        _, start, end, _ = self._pairs()
        if flush:
            self.flush()
        start.record()
        run()
        end.record()
        busy_us = self._busy_after(end)
        device_us = start.elapsed_time(end) * 1e3
        return Shot(rounded(device_us / calls), busy_us=busy_us, device_us=device_us)

    def warm(self, run: Callable[[], None], *, flush: bool) -> None:
        """
        Run, unblocked, everything that a blocked sample will run; the canary comes last.
        """
        if flush:
            self.flush()
        run()
        self._watch_clock(self._pairs()[3])
        rest(0.0)

    def _shot(self, calls: int, slack_us: float, busy_us: float) -> Shot:
        _, start, end, _ = self._pairs()
        device_us = start.elapsed_time(end) * 1e3
        before, after = self._read_clocks()
        return Shot(rounded(device_us / calls), before, after, slack_us, busy_us, device_us)

    def _busy_after(self, last: Any) -> float:
        """
        Wait for the last event, then for the device; return how much longer the second took, µs.

        Work that a callable hid on another stream is still running then.
        """
        last.synchronize()
        return max(_synchronised_us() - self._idle_sync_us, 0.0)

    def _pairs(self) -> tuple[tuple[Any, Any], Any, Any, tuple[Any, Any]]:
        marks = self._marks
        return (marks[0], marks[1]), marks[2], marks[3], (marks[4], marks[5])

    def _watch_clock(self, pair: tuple[Any, Any]) -> None:
        if self.canary is not None:
            self.canary.enqueue(*pair)

    def _read_clocks(self) -> tuple[float | None, float | None]:
        if self.canary is None:
            return None, None
        before, _, _, after = self._pairs()
        return self.canary.read_mhz(*before), self.canary.read_mhz(*after)


def rounded(time_us: float) -> float:
    """
    Return a time rounded to a picosecond: far below the tick, and exact in JSON.
    """
    return round(time_us, 6)


def rest(gap_us: float) -> None:
    """
    Wait until the device is idle, then leave it idle for the gap: so it never meets its power cap.
    """
    import torch

    torch.cuda.synchronize()
    if gap_us > 0:
        time.sleep(gap_us * 1e-6)


def _synchronised_us() -> float:
    """
    Return how long waiting for the whole device takes now, microseconds.
    """
    import torch

    began_ns = time.perf_counter_ns()
    torch.cuda.synchronize()
    return (time.perf_counter_ns() - began_ns) * 1e-3


@functools.cache
def card_for(index: int) -> Card:
    """
    Return the device's instruments, made once per process; the device must be the current one.
    """
    return Card(index)
