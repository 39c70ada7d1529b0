"""
Where a process measures: card, driver, toolchain, processor.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_kernelperf.model import Environment, Gpu

#: Where a package's distribution has another name.
_DISTRIBUTIONS = {"pytest_kernelperf": "pytest-kernelperf"}
#: "NVIDIA H100 80GB HBM3 MIG 1g.10gb": the slice's size follows the model.
_MIG = re.compile(r"\s+MIG\s+(\S+)$")


@functools.cache
def environment(device: str) -> Environment:
    """
    Return the fingerprint of this machine as seen from a device.

    Args:
        device: "cpu", or "cuda:<index>".
    """
    if not device.startswith("cuda"):
        return Environment(gpu=None, cpu=cpu_name(), versions=_versions())
    return _cuda_environment(int(device.partition(":")[2] or 0))


def _cuda_environment(index: int) -> Environment:
    import torch

    from pytest_kernelperf.measure.card import card_for
    from pytest_kernelperf.measure.nvml import driver_version
    from pytest_kernelperf.measure.probes import probe_timer

    with torch.cuda.device(index):
        card = card_for(index)
        tick_us, empty_us = probe_timer(index)
    versions = {"cuda": torch.version.cuda or "", "driver": driver_version()}
    return Environment(
        gpu=_gpu(index),
        cpu=cpu_name(),
        versions={**_versions(), **{name: text for name, text in versions.items() if text}},
        tick_us=tick_us,
        empty_interval_us=empty_us,
        blocker=card.blocker.name if card.blocker else "none",
    )


def _gpu(index: int) -> Gpu:
    import torch

    from pytest_kernelperf.measure.nvml import nvml_card

    properties: Any = torch.cuda.get_device_properties(index)
    facts = nvml_card(index).facts()
    name, size = split_mig(properties.name)
    return Gpu(
        name=name,
        uuid=facts.uuid or f"GPU-{getattr(properties, 'uuid', index)}",
        sm_count=properties.multi_processor_count,
        compute_capability=f"{properties.major}.{properties.minor}",
        memory_bytes=properties.total_memory,
        l2_bytes=int(getattr(properties, "L2_cache_size", 0)),
        mig=size or ("enabled" if facts.mig else ""),
        ecc=facts.ecc,
        power_limit_w=facts.power_limit_w,
        max_sm_clock_mhz=facts.max_sm_clock_mhz,
    )


def split_mig(device_name: str) -> tuple[str, str]:
    """
    Return a card's model and the size of the MIG slice that its name ends with ("" for none).
    """
    found = _MIG.search(device_name)
    return (device_name[: found.start()], found[1]) if found else (device_name, "")


def _versions() -> dict[str, str]:
    """
    Return the versions of what can change a time, of those that are installed.
    """
    versions = {"python": platform.python_version()}
    # From the installed packages' data: importing torch for its version would take seconds.
    for name in ("torch", "triton", "pytest_kernelperf"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(_DISTRIBUTIONS.get(name, name))
    return versions


@functools.cache
def cpu_name() -> str:
    """
    Return the processor's model name.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine() or "unknown"
