"""
Where a process measured: the card, the processor and the versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Gpu:
    """
    One card, as far as it can change a time.
    """

    name: str
    uuid: str
    sm_count: int
    compute_capability: str
    memory_bytes: int
    l2_bytes: int
    mig: str = ""
    ecc: bool | None = None
    power_limit_w: float | None = None
    max_sm_clock_mhz: float | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """
    Where a process measured.

    Differences in versions are shown, those in the card's state are refused.

    Attributes:
        gpu: The card, or None for a CPU measurement.
        cpu: The processor's model name.
        versions: Of python, torch, triton, cuda, driver, pytest_kernelperf: name to version.
        tick_us: Smallest step of the timer that was seen; 0.0 if unknown.
        empty_interval_us: What the timer reads with nothing in between.
        blocker: "wait-value", "polling-kernel" or "none".
    """

    gpu: Gpu | None
    cpu: str
    versions: Mapping[str, str] = field(default_factory=dict)
    tick_us: float = 0.0
    empty_interval_us: float = 0.0
    blocker: str = "none"

    @property
    def card(self) -> str:
        """
        The card's UUID; the processor's name where there is no card.
        """
        return self.gpu.uuid if self.gpu else self.cpu

    @property
    def device_name(self) -> str:
        """
        The model's name that baselines are filed under.
        """
        return self.gpu.name if self.gpu else f"cpu {self.cpu}"
