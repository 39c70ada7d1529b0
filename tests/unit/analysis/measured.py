"""
Made-up measurements with the noise that was found on H100s: the same every time they are built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pytest_kernelperf.analysis import Noise, judge
from pytest_kernelperf.model import (
    Case,
    Entry,
    Environment,
    Gpu,
    Limits,
    Measurement,
    Plan,
    Process,
    Reference,
    Round,
    Verdict,
)

CASE = Case("t.py", "test_x", "", "device", "cold", "paced", ("f16[8]",))
PLAN = Plan(300, 300, 2000.0, 20, 5, 4)
QUIET = Noise()
LAUNCH = replace(CASE, timer="launch")
BASE_US = 20.0
JUST_THE_MEDIAN = Limits()


def environment(card: str = "GPU-1", **state: Any) -> Environment:
    gpu = Gpu(card and "NVIDIA H100", card, 132, "9.0", 80 << 30, 50 << 20, "", True, 700.0, 1980.0)
    return Environment(replace(gpu, **state), "Xeon")


def a_round(times_us: Sequence[float], **evidence: Any) -> Round:
    return Round(tuple(float(each) for each in times_us), **evidence)


def a_process(
    level_us: float,
    *,
    rounds: int = 5,
    samples: int = 20,
    round_sd: float = 0.002,
    card: str = "GPU-1",
    clock_mhz: float = 1980.0,
    name: str = "p",
    **evidence: Any,
) -> Process:
    """
    Return a process whose P50 is exactly `level_us`: rounds and samples lie evenly about it.
    """
    offsets = np.linspace(-1.4, 1.4, rounds) if rounds > 1 else np.zeros(1)
    spread = np.exp(np.linspace(-0.001, 0.001, samples))
    taken = tuple(
        a_round(
            level_us * np.exp(round_sd * offset) * spread,
            clock_mhz=(clock_mhz,) * samples if clock_mhz else (),
            **evidence,
        )
        for offset in offsets
    )
    return Process(name, "2026-09-01T10:00:00Z", environment(card), taken)


def a_reference(
    level_us: float = BASE_US, *, processes: int = 7, sd: float = 0.003, **shape: Any
) -> Reference:
    """
    Return processes about a level, with exactly the given standard deviation between their P50.
    """
    offsets = np.linspace(-1.0, 1.0, processes) if processes > 1 else np.zeros(1)
    if processes > 1:
        offsets = offsets / offsets.std(ddof=1)
    levels = level_us * np.exp(sd * offsets)
    made = tuple(a_process(level, name=f"b{i}", **shape) for i, level in enumerate(levels))
    return Reference(PLAN, "graph", CASE.inputs, made)


def a_measurement(*processes: Process, **changes: Any) -> Measurement:
    return replace(Measurement(CASE, PLAN, "graph", processes), **changes)


def same() -> Measurement:
    """
    Return what `a_reference` holds, measured again in one process.
    """
    return a_measurement(a_process(BASE_US))


def slower(by: float, processes: int = 1, **evidence: Any) -> Measurement:
    """
    Return the same, slower by so much, from processes that all say so.
    """
    process = a_process(BASE_US * (1 + by), **evidence)
    return a_measurement(*[process] * processes)


def on_card(**state: Any) -> Measurement:
    """
    Return the same, on a card that is set up otherwise.
    """
    return a_measurement(replace(a_process(BASE_US), environment=environment(**state)))


def judged(
    measurement: Measurement,
    reference: Reference | None,
    limits: Limits = JUST_THE_MEDIAN,
    noise: Noise = QUIET,
    percentile: float = 50.0,
    elsewhere: Sequence[str] = (),
) -> Verdict:
    """
    Return the verdict of one percentile.
    """
    entry = Entry(reference) if reference else None
    verdicts = judge(measurement, entry, limits, noise, elsewhere=elsewhere)
    return next(each for each in verdicts if each.percentile == percentile)


def slowed(process: Process, factor: float) -> Process:
    """
    Return the process with all its times multiplied.
    """
    rounds = tuple(
        replace(each, times_us=tuple(time * factor for time in each.times_us))
        for each in process.rounds
    )
    return replace(process, rounds=rounds)
