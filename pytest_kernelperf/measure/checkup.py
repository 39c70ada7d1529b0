"""
The probes of `kernelperf doctor`: each looks at one thing and returns plain facts, judging nothing.

Facts of a card are empty where torch finds none.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from pytest_kernelperf.measure.apart import Probe
from pytest_kernelperf.measure.environment import cpu_name, environment

#: Distributions whose versions are told beside those of every record.
_PACKAGES = ("pytest", "numpy", "scipy", "cuda-bindings", "nvidia-ml-py")
#: Plugins of pytest that matter to measurements.
_PLUGINS = ("pytest-xdist", "pytest-rerunfailures", "flaky", "pytest-retry", "pytest-benchmark")
_HOST_SAMPLES = 200
_CANARY_SHOTS = 15
_CANARY_RUN_CYCLES = 2_000_000
#: About 30 ms, longer than a look at the driver takes.
_READING_CYCLES = 60_000_000
_PACE_US = 2000.0
_GRAPH_CALLS = 10


def look_at_software(device: int) -> Mapping[str, Any]:
    """
    Look at what is installed, without importing it.
    """
    versions = dict(environment("cpu").versions)
    for name in (*_PACKAGES, *_PLUGINS):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "versions": {name: text for name, text in versions.items() if name not in _PLUGINS},
        "plugins": {name: text for name, text in versions.items() if name in _PLUGINS},
    }


def look_at_host(device: int) -> Mapping[str, Any]:
    """
    Look at the processor and its clock: the step, and how much one fixed loop's times scatter.
    """
    from pytest_kernelperf.measure.host_clock import probe_clock

    tick_us, empty_us = probe_clock()
    times_us = sorted(_loop_us() for _ in range(_HOST_SAMPLES))
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count() or 0,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "governor": governor.read_text().strip() if governor.is_file() else "",
        "tick_us": tick_us,
        "empty_us": empty_us,
        "p95_over_p50": times_us[int(0.95 * _HOST_SAMPLES)] / median(times_us),
    }


def look_for_cards(device: int) -> Mapping[str, Any]:
    """
    Look at which devices torch finds, and of which kind.
    """
    if "torch" not in environment("cpu").versions:
        return {"torch": False}
    import torch

    mps = getattr(torch.backends, "mps", None)
    found = torch.cuda.is_available()
    return {
        "torch": True,
        "hip": torch.version.hip or "",
        "cuda": torch.version.cuda or "",
        "mps": bool(mps is not None and mps.is_available()),
        "cards": [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]
        if found
        else [],
    }


def look_at_card(device: int) -> Mapping[str, Any]:
    """
    Look at the card as a measurement's record has it: identity, tick, blocker.
    """
    if not _has_card(device):
        return {}
    from pytest_kernelperf.measure.ceilings import peaks

    found = environment(f"cuda:{device}")
    return {"environment": found, "peaks": peaks(device)}


def look_at_graphs(device: int) -> Mapping[str, Any]:
    """
    Capture a few kernels in a graph, replay it, and count its nodes.
    """
    if not _has_card(device):
        return {}
    import torch

    from pytest_kernelperf.measure.graph import capture, nodes_of

    with torch.cuda.device(device):
        cell = torch.zeros(1, device=f"cuda:{device}")
        cell.add_(1)
        torch.cuda.synchronize()
        captured = capture(lambda _: cell.add_(1), _GRAPH_CALLS)
        captured.run()
        torch.cuda.synchronize()
        nodes = nodes_of(captured)
        return {"ran": int(cell.item()) == _GRAPH_CALLS + 1, "nodes": nodes.count if nodes else 0}


def look_at_profiler(device: int) -> Mapping[str, Any]:
    """
    Attach the profiling interface, and see whether it reports a kernel.
    """
    if not _has_card(device):
        return {}
    import torch

    from pytest_kernelperf.measure.kernel_profile import KernelProfile

    with torch.cuda.device(device):
        cell = torch.zeros(1, device=f"cuda:{device}")
        with KernelProfile(device) as profile:
            cell.add_(1)
            torch.cuda.synchronize()
        return {"records": len(profile.records)}


def look_at_state(device: int) -> Mapping[str, Any]:
    """
    Look at clocks, power, memory and neighbours while the card does paced work.
    """
    if not _has_card(device):
        return {}
    import torch

    from pytest_kernelperf.measure.card import card_for
    from pytest_kernelperf.measure.nvml import nvml_card

    nvml = nvml_card(device)
    with torch.cuda.device(device):
        card = card_for(device)
        clocks_mhz = _canary_mhz(card) if card.canary else []
        free_bytes, all_bytes = torch.cuda.mem_get_info(device)
        # Read while the card works: an idle one soon lowers its clock.
        card.spin(_READING_CYCLES)
        reading, facts = nvml.read(), nvml.facts()
        torch.cuda.synchronize()
    return {
        "nvml": nvml.readable(),
        "canary_mhz": median(clocks_mhz) if clocks_mhz else None,
        "nvml_mhz": reading.clock_mhz,
        "max_mhz": facts.max_sm_clock_mhz,
        "power_w": reading.power_w,
        "power_limit_w": facts.power_limit_w,
        "usual_power_limit_w": nvml.usual_power_limit_w(),
        "temperature_c": reading.temperature_c,
        "throttle": list(reading.throttle),
        "foreign_processes": reading.foreign_processes,
        "stays_loaded": nvml.stays_loaded(),
        "free_bytes": free_bytes,
        "all_bytes": all_bytes,
    }


def look_at_ceilings(device: int) -> Mapping[str, Any]:
    """
    Measure the card's ceilings.
    """
    if not _has_card(device):
        return {}
    from pytest_kernelperf.measure.ceilings import measure_ceilings

    return {"ceilings": measure_ceilings(device)}


#: In this order: what imports torch first has the time for it.
PROBES = (
    Probe("software", look_at_software),
    Probe("host", look_at_host),
    Probe("cards", look_for_cards, limit_s=180.0),
    Probe("card", look_at_card),
    Probe("graphs", look_at_graphs),
    Probe("profiler", look_at_profiler),
    Probe("state", look_at_state),
)
CEILINGS = Probe("ceilings", look_at_ceilings, limit_s=120.0)


def _has_card(device: int) -> bool:
    if "torch" not in environment("cpu").versions:
        return False
    import torch

    usable = torch.version.hip is None and torch.cuda.is_available()
    return usable and device < torch.cuda.device_count()


def _canary_mhz(card: Any) -> list[float]:
    from pytest_kernelperf.measure.card import rest

    card.wake()
    shots = []
    for _ in range(_CANARY_SHOTS):
        rest(_PACE_US)
        shots.append(card.shoot(lambda: card.spin(_CANARY_RUN_CYCLES), 1, flush=False))
    return [shot.clock_mhz for shot in shots if shot.clock_mhz is not None]


def _loop_us() -> float:
    began_ns = time.perf_counter_ns()
    for _ in range(10_000):
        pass
    return (time.perf_counter_ns() - began_ns) * 1e-3
