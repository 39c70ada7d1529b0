"""
What the driver says about a card: clock, power, temperature, limits, other processes.

Cards are found by UUID: NVML counts all cards of a machine, torch only those in
CUDA_VISIBLE_DEVICES. Whatever NVML won't tell (in a virtual machine, a container, a MIG slice) is
None or empty, never an error.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_kernelperf.measure.neighbours import Neighbours, turn_age_s

#: Bits of the clock event reasons (nvml.h). Idle (1) and "none" limit nothing that runs.
_REASONS = {
    0x2: "applications_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake",
    0x100: "display_clocks",
}

#: A process that keeps the card busy for less of the time touches fewer samples than could move a
#: median.
_BUSY_PERCENT = 5
#: The driver averages utilisation over up to a second.
_UTILISATION_PERIOD_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Reading:
    """
    One look at a card.
    """

    clock_mhz: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    throttle: tuple[str, ...] = ()
    foreign_processes: int = 0
    memory_clock_mhz: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """
    What NVML knows of a card that does not change while measuring.
    """

    uuid: str = ""
    mig: bool = False
    ecc: bool | None = None
    power_limit_w: float | None = None
    max_sm_clock_mhz: float | None = None


class Watch:
    """
    Looks at a card before and after a round.
    """

    def __init__(self, card: NvmlCard) -> None:
        self._card = card
        self._throttle = card.throttle()
        self._since_us = time.time_ns() // 1000 - _UTILISATION_PERIOD_US

    def read(self) -> Reading:
        """
        Return the card's state now, with what limited its clock when the watch began.
        """
        return self._card.read(self._since_us, self._throttle)


class NvmlCard:
    """
    A card's handle; without NVML every question has an empty answer.

    Args:
        nvml: The pynvml module, or None.
        uuid: torch's UUID of the device, without prefix.
    """

    def __init__(self, nvml: Any, uuid: str) -> None:
        self._nvml = nvml
        self._slice = self._find(uuid)
        self._card = self._whole_card(self._slice)
        self._sliced = bool((self._ask("nvmlDeviceGetMigMode") or (0,))[0])

    def facts(self) -> Facts:
        """
        Return the card's settings.
        """
        return Facts(
            uuid=self._ask("nvmlDeviceGetUUID", self._slice) or "",
            mig=self._slice is not self._card
            or bool((self._ask("nvmlDeviceGetMigMode") or (0,))[0]),
            ecc=_flag(self._ask("nvmlDeviceGetEccMode")),
            power_limit_w=_scaled(self._ask("nvmlDeviceGetEnforcedPowerLimit"), 1e-3),
            max_sm_clock_mhz=_scaled(self._ask("nvmlDeviceGetMaxClockInfo", self._card, 1), 1.0),
        )

    def read(self, since_us: int = 0, throttle: tuple[str, ...] = ()) -> Reading:
        """
        Look at the card now; some tenths of a millisecond.

        Args:
            since_us: From when on other processes' work counts, microseconds since the epoch.
            throttle: What limited the clock at an earlier look, and counts as well.
        """
        # 1 is the SM clock (NVML_CLOCK_SM), 2 the memory's (NVML_CLOCK_MEM), 0 the sensor on the
        # GPU (NVML_TEMPERATURE_GPU).
        return Reading(
            clock_mhz=_scaled(self._ask("nvmlDeviceGetClockInfo", self._card, 1), 1.0),
            memory_clock_mhz=_scaled(self._ask("nvmlDeviceGetClockInfo", self._card, 2), 1.0),
            power_w=_scaled(self._ask("nvmlDeviceGetPowerUsage"), 1e-3),
            temperature_c=_scaled(self._ask("nvmlDeviceGetTemperature", self._card, 0), 1.0),
            throttle=tuple(sorted({*throttle, *self.throttle()})),
            foreign_processes=self.foreign_processes(since_us),
        )

    def watch(self) -> Watch:
        """
        Begin to look at the card, for a round that is about to be taken.
        """
        return Watch(self)

    def throttle(self) -> tuple[str, ...]:
        """
        Return what limits the clock now.
        """
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:  # The name before driver 535.
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return reason_names(int(bits or 0))

    def foreign_processes(self, since_us: int = 0) -> int:
        """
        Return how many other processes compute on the card (or the slice).

        Where the driver does not tell who computes, whoever is there counts.
        """
        neighbours = self._neighbours()
        return 0 if neighbours.is_alone else neighbours.count(self._busy(since_us))

    def siblings_fade_s(self) -> float:
        """
        Return in how long a watch will not see any more what the run's other processes did earlier.

        Only where they can't be told from strangers; elsewhere 0.0, at once.
        """
        if len(self._neighbours().unnamed) <= 1:
            return 0.0
        # A watch looks back by one period, and what it then finds is the mean over another.
        return max(2e-6 * _UTILISATION_PERIOD_US - turn_age_s(), 0.0)

    def memory_peak_gbs(self) -> float | None:
        """
        Return what the memory's highest clock and its width allow, 10^9 bytes a second.
        """
        # 2 is the memory clock (NVML_CLOCK_MEM). It is stated for one edge, and both carry data.
        clock_mhz = _scaled(self._ask("nvmlDeviceGetMaxClockInfo", self._card, 2), 1.0)
        width_bits = self._ask("nvmlDeviceGetMemoryBusWidth")
        if not clock_mhz or not width_bits:
            return None
        return round(2 * clock_mhz * int(width_bits) / 8 * 1e-3, 1)

    def readable(self) -> bool:
        """
        Return whether NVML knows this card.
        """
        return self._card is not None

    def usual_power_limit_w(self) -> float | None:
        """
        Return the power limit that the card comes with.
        """
        return _scaled(self._ask("nvmlDeviceGetPowerManagementDefaultLimit"), 1e-3)

    def stays_loaded(self) -> bool | None:
        """
        Return whether the driver stays loaded while nobody uses the card (persistence mode).
        """
        mode = self._ask("nvmlDeviceGetPersistenceMode")
        return None if mode is None else bool(mode)

    def _neighbours(self) -> Neighbours:
        if self._sliced and self._slice is self._card:
            return Neighbours()  # The card's list has the processes of all slices.
        running = self._ask("nvmlDeviceGetComputeRunningProcesses", self._slice) or ()
        return Neighbours.around(process.pid for process in running)

    def _busy(self, since_us: int) -> set[int] | None:
        """
        Return who computed since then; None where the driver does not tell.
        """
        used = self._utilisation(since_us)
        if used is None:
            # It refuses to say that nobody did, too; one that tells has told of us before.
            return None if self._utilisation(0) is None else set()
        return {each.pid for each in used if each.smUtil >= _BUSY_PERCENT}

    def _utilisation(self, since_us: int) -> Any:
        return self._ask("nvmlDeviceGetProcessUtilization", self._slice, since_us)

    def _find(self, uuid: str) -> Any:
        for prefix in ("GPU-", "MIG-", ""):
            handle = self._call("nvmlDeviceGetHandleByUUID", prefix + uuid)
            if handle is not None:
                return handle
        return None

    def _whole_card(self, handle: Any) -> Any:
        """
        Return the card that a MIG slice belongs to: clocks and power are the card's.
        """
        if handle is None or not self._call("nvmlDeviceIsMigDeviceHandle", handle):
            return handle
        return self._call("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle) or handle

    def _ask(self, name: str, handle: Any = None, *arguments: Any) -> Any:
        handle = self._card if handle is None else handle
        return None if handle is None else self._call(name, handle, *arguments)

    def _call(self, name: str, *arguments: Any) -> Any:
        if self._nvml is None:
            return None
        try:
            return getattr(self._nvml, name)(*arguments)
        except (AttributeError, self._nvml.NVMLError):
            return None


def reason_names(bits: int) -> tuple[str, ...]:
    """
    Return the names of the clock event reasons in a bit mask, idleness left out.
    """
    return tuple(name for bit, name in sorted(_REASONS.items()) if bits & bit)


def _flag(pair: Any) -> bool | None:
    return None if pair is None else bool(pair[0])


def _scaled(value: Any, factor: float) -> float | None:
    return None if value is None else round(float(value) * factor, 3)


@functools.cache
def _nvml() -> Any:
    """
    Return pynvml, initialised, or None.
    """
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    start: Callable[[], None] = nvml.nvmlInit
    try:
        start()
    except nvml.NVMLError:
        return None
    return nvml


@functools.cache
def nvml_card(device_index: int) -> NvmlCard:
    """
    Return NVML's view of one of torch's CUDA devices.
    """
    import torch

    uuid = str(getattr(torch.cuda.get_device_properties(device_index), "uuid", ""))
    return NvmlCard(_nvml(), uuid.removeprefix("GPU-").removeprefix("MIG-"))


def driver_version() -> str:
    """
    Return the display driver's version, "" where nobody says.
    """
    nvml = _nvml()
    if nvml is None:
        return ""
    try:
        version = nvml.nvmlSystemGetDriverVersion()
    except nvml.NVMLError:
        return ""
    return version.decode() if isinstance(version, bytes) else str(version)
