"""
What a machine's facts mean for measurements on it: findings, each with its cure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pytest_kernelperf.model import Answer, Environment, Finding, Level

Facts = Mapping[str, Any]

# One fixed loop's P95 over P50: 1.0 to 1.1 on a quiet host; wall times scatter as much.
_QUIET_HOST = 1.25
# The canary reads some tenths of a percent beside the driver; a step of the clock is 0.8 %.
_CLOCKS_AGREE = 0.03
# A card that idles between samples holds its highest clock; below this share something keeps it.
_HIGH_CLOCK = 0.9
# Copies of inputs and the L2 flush need room.
_LEAST_FREE = 0.1
_COARSE_TICK_US = 1.0
# What the driver says when something other than paced work's own power slows the card.
_ALARMING = frozenset(
    {"hw_slowdown", "hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake"}
)
_RERUNS = ("pytest-rerunfailures", "flaky", "pytest-retry")


def diagnose(answers: Mapping[str, Answer]) -> tuple[Finding, ...]:
    """
    Return what there is to say about a machine, in a fixed order.

    Args:
        answers: Of the probes, by name; a probe that was not asked has none.
    """
    found: list[Finding] = []
    for name, explain in _EXPLAIN.items():
        answer = answers.get(name)
        if answer is None:
            continue
        if answer.failure:
            text = f"this could not be looked at: {answer.failure}"
            found.append(Finding(name, Level.BAD, text, "run it again; does a plain script do it?"))
        elif answer.facts:
            found.extend(explain(answer.facts))
    return tuple(found)


def is_usable(findings: Sequence[Finding]) -> bool:
    """
    Return whether measurements on this machine can be trusted.
    """
    return all(finding.level is not Level.BAD for finding in findings)


def _software(facts: Facts) -> Iterator[Finding]:
    versions, plugins = facts["versions"], facts["plugins"]
    shown = ", ".join(f"{name} {text}" for name, text in versions.items())
    yield Finding("software", Level.OK, shown)
    if "triton" not in versions:
        yield Finding("triton", Level.NOTE, "Triton is not installed", "pip install triton")
    reruns = [name for name in _RERUNS if name in plugins]
    if reruns:
        yield Finding(
            "plugins",
            Level.NOTE,
            f"{', '.join(reruns)} can run failed tests again, and one lucky rerun is not a pass",
            "leave reruns off for tests marked kernel_perf",
        )
    others = [name for name in plugins if name not in reruns]
    if others:
        text = f"{', '.join(others)}: works beside kernelperf"
        yield Finding("plugins", Level.OK, text + (_ONE_WORKER if _XDIST in others else ""))


_XDIST = "pytest-xdist"
_ONE_WORKER = "; with pytest-xdist one worker (-n 1), since tests that run at once slow each other"


def _host(facts: Facts) -> Iterator[Finding]:
    scatter = facts["p95_over_p50"]
    load = "" if facts["load"] is None else f", load {facts['load']:.1f}"
    text = (
        f"{facts['cpu']}, {facts['cores']} cores{load}; wall timer: tick {facts['tick_us']:g} µs, "
        f"empty {facts['empty_us']:g} µs; P95 of a fixed loop is {scatter:.2f} times its P50"
    )
    if scatter <= _QUIET_HOST:
        yield Finding("host", Level.OK, text)
        return
    cure = "stop other work on this host; device times do not depend on it"
    if facts["governor"] not in ("", "performance"):
        cure += f"; the CPU's governor is {facts['governor']!r}, and 'performance' is steadier"
    yield Finding("host", Level.NOTE, f"{text}: wall times will scatter as much", cure)


def _cards(facts: Facts) -> Iterator[Finding]:
    if not facts["torch"]:
        text = "torch is not installed: plain Python functions can be measured, with the wall timer"
        yield Finding("gpu", Level.NOTE, text, "pip install torch")
    elif facts["hip"]:
        text = f"this torch is built for ROCm {facts['hip']}, whose devices kernelperf can't time"
        yield Finding("gpu", Level.BAD, text, "use an NVIDIA GPU, or tensors on the CPU")
    elif facts["cards"]:
        yield Finding("gpu", Level.OK, f"torch finds {', '.join(facts['cards'])}")
    elif facts["mps"]:
        text = "Apple's GPU (MPS) can't be timed by kernelperf; tensors on the CPU can"
        yield Finding("gpu", Level.BAD, text, "use an NVIDIA GPU, or tensors on the CPU")
    else:
        yield _no_card(facts["cuda"])


def _no_card(cuda: str) -> Finding:
    text = (
        "torch finds no GPU. What works: correctness runs, the wall timer for tensors on the CPU, "
        "judging recorded runs"
    )
    if cuda:
        return Finding("gpu", Level.NOTE, text, "if there is a card, does `nvidia-smi` show it?")
    return Finding("gpu", Level.NOTE, text, "if there is a card, install a CUDA build of torch")


def _card(facts: Facts) -> Iterator[Finding]:
    environment: Environment = facts["environment"]
    gpu = environment.gpu
    if gpu is None:
        return
    state = [
        f"MIG {gpu.mig}" if gpu.mig else "no MIG",
        "ECC unknown" if gpu.ecc is None else f"ECC {'on' if gpu.ecc else 'off'}",
        f"driver {environment.versions.get('driver', 'unknown')}",
    ]
    size = f"{gpu.memory_bytes / 2**30:.0f} GiB, L2 {gpu.l2_bytes / 2**20:.0f} MiB"
    identity = f"{gpu.name} {gpu.uuid}, sm_{gpu.compute_capability.replace('.', '')}"
    text = f"{identity}, {gpu.sm_count} SMs, {size}, {', '.join(state)}"
    yield Finding("card", Level.OK, text)
    yield _timer(environment)
    yield _blocker(environment.blocker)


def _timer(environment: Environment) -> Finding:
    tick_us = environment.tick_us
    text = f"tick {tick_us:g} µs, an empty interval reads {environment.empty_interval_us:.2f} µs"
    if not 0.0 < tick_us <= _COARSE_TICK_US:
        cure = "expected 0.032 to 0.5 µs: is this a virtual or emulated GPU?"
        return Finding("timer", Level.BAD, f"{text}: too coarse for short kernels", cure)
    return Finding("timer", Level.OK, text)


def _blocker(name: str) -> Finding:
    if name == "none":
        text = "nothing can hold the stream back: host time gets into device times"
        cure = "pip install cuda-bindings (of torch's CUDA version) or triton"
        return Finding("blocker", Level.BAD, text, cure)
    return Finding("blocker", Level.OK, f"{name} holds the stream back until all is enqueued")


def _graphs(facts: Facts) -> Iterator[Finding]:
    if not facts["ran"]:
        text = "a captured CUDA graph gave a wrong result when it was replayed"
        yield Finding("graphs", Level.BAD, text, "update the driver, or torch")
    elif not facts["nodes"]:
        text = "capture works, but nobody counts the nodes: bursts are planned with care"
        yield Finding("graphs", Level.NOTE, text, "pip install cuda-bindings")
    else:
        yield Finding("graphs", Level.OK, "capture and replay work, nodes can be counted")


def _profiler(facts: Facts) -> Iterator[Finding]:
    if facts["records"]:
        yield Finding("profiler", Level.OK, "CUPTI attaches and reports kernels")
        return
    yield Finding(
        "profiler",
        Level.NOTE,
        "CUPTI reports no kernels: the launch timer falls back to events, 2 to 3 µs more",
        "end other profilers; let users profile (NVreg_RestrictProfilingToAdminUsers=0)",
    )


def _state(facts: Facts) -> Iterator[Finding]:
    if not facts["nvml"]:
        text = "NVML does not answer: no evidence of power limits, throttling or other processes"
        yield Finding("driver data", Level.NOTE, text, "pip install nvidia-ml-py")
    yield _clock(facts)
    if facts["nvml"]:
        yield _power(facts)
        yield _neighbours(facts["foreign_processes"])
    if facts["stays_loaded"] is False:
        text = "persistence mode is off: the driver unloads, and the first test wakes it"
        yield Finding("persistence", Level.NOTE, text, "nvidia-smi -pm 1 (an administrator)")
    yield _memory(facts["free_bytes"], facts["all_bytes"])


def _clock(facts: Facts) -> Finding:
    canary, driver, highest = facts["canary_mhz"], facts["nvml_mhz"], facts["max_mhz"]
    if canary is None:
        text = "the clock can't be read beside samples: none can be dropped on its evidence"
        return Finding("clock", Level.NOTE, text, "it takes the blocker and torch.cuda._sleep")
    text = f"{canary:.0f} MHz by the canary"
    if driver is not None:
        text += f", {driver:.0f} by the driver"
        if abs(canary / driver - 1) > _CLOCKS_AGREE:
            return Finding(
                "clock",
                Level.NOTE,
                f"{text}: they disagree",
                "the driver's reading may be late, the canary's is beside the work; run again",
            )
    if highest is not None:
        text += f", {highest:.0f} at most"
        if canary < _HIGH_CLOCK * highest:
            cure = "is a clock locked (nvidia-smi -q -d CLOCK), the card hot, or its power limited?"
            return Finding("clock", Level.NOTE, f"{text}: below it even when paced", cure)
    return Finding("clock", Level.OK, text)


def _power(facts: Facts) -> Finding:
    limit, usual = facts["power_limit_w"], facts["usual_power_limit_w"]
    power = f"{facts['power_w']:.0f} W" if facts["power_w"] is not None else "unknown"
    text = f"{power} of {limit:.0f} W" if limit is not None else power
    if facts["temperature_c"] is not None:
        text += f", {facts['temperature_c']:.0f} °C"
    reasons = facts["throttle"]
    if _ALARMING.intersection(reasons):
        cure = "let the card cool, and look at its power supply and fans"
        return Finding("power", Level.BAD, f"{text}; clocks limited: {', '.join(reasons)}", cure)
    if reasons:
        cure = "pace='paced' rests between samples, which avoids the power cap"
        return Finding("power", Level.NOTE, f"{text}; clocks limited: {', '.join(reasons)}", cure)
    if limit is not None and usual is not None and limit < usual:
        cure = "baselines of another limit are INCOMPARABLE"
        return Finding("power", Level.NOTE, f"{text}, below the usual {usual:.0f} W", cure)
    return Finding("power", Level.OK, f"{text}; nothing limits the clocks")


def _neighbours(count: int) -> Finding:
    if count:
        text = f"other processes compute on this card: {count}"
        cure = "end them (nvidia-smi shows them), or measure on another card (CUDA_VISIBLE_DEVICES)"
        return Finding("neighbours", Level.BAD, text, cure)
    return Finding("neighbours", Level.OK, "no other process computes on this card")


def _memory(free_bytes: int, all_bytes: int) -> Finding:
    text = f"{free_bytes / 2**30:.1f} of {all_bytes / 2**30:.1f} GiB free"
    if free_bytes < _LEAST_FREE * all_bytes:
        cure = "free some: rotating copies of inputs keep the cache cold"
        return Finding("memory", Level.BAD, text, cure)
    return Finding("memory", Level.OK, text)


_EXPLAIN: Mapping[str, Callable[[Facts], Iterator[Finding]]] = {
    "software": _software,
    "host": _host,
    "cards": _cards,
    "card": _card,
    "graphs": _graphs,
    "profiler": _profiler,
    "state": _state,
}
