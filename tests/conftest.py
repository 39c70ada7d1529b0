"""
Records that tests of the store, the gate and the command build on.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_kernelperf.model import (
    Case,
    Entry,
    Environment,
    Gpu,
    Kernel,
    Limits,
    Measurement,
    Plan,
    Process,
    Recorded,
    Reference,
    Round,
    Status,
    Verdict,
)

TICK_US = 0.032
SAMPLES = {"device": 20, "launch": 500, "wall": 200}


class Make:
    """
    Builds records whose times are made up from a seed: like an H100's, and always the same.
    """

    def environment(self, card: str = "GPU-1", name: str = "NVIDIA H100 80GB HBM3") -> Environment:
        gpu = Gpu(name, card, 132, "9.0", 80 << 30, 50 << 20, "", True, 700.0, 1980.0)
        versions = {"python": "3.12.3", "torch": "2.11.0", "driver": "580.159.04"}
        return Environment(gpu, "Xeon", versions, TICK_US, 1.53121, "wait-value")

    def round(self, level_us: float, timer: str = "device", seed: object = 0) -> Round:
        draw = random.Random(repr((level_us, timer, seed)))
        spread = {"device": 0.0005, "launch": 0.012, "wall": 0.18}[timer]
        times = [level_us * draw.lognormvariate(0, spread) for _ in range(SAMPLES[timer])]
        if timer == "launch":
            times = [round(time / TICK_US) * TICK_US for time in times]
        clocks = tuple(draw.gauss(1980, 0.4) for _ in times)
        return Round(
            times_us=tuple(times),
            first_us=(level_us * 1.05,),
            clock_mhz=clocks,
            slack_us=(100.0,),
            nvml_clock_mhz=1980.0,
            memory_clock_mhz=2619.0,
            power_w=draw.gauss(210, 3),
            temperature_c=41.0,
        )

    def process(
        self,
        name: str,
        level_us: float = 3.2,
        timer: str = "device",
        card: str = "GPU-1",
        rounds: int = 5,
        **environment: str,
    ) -> Process:
        draw = random.Random(repr((name, level_us, timer)))
        level_us *= draw.lognormvariate(0, 0.0015)
        return Process(
            id=name,
            started="2026-09-01T10:00:00Z",
            environment=self.environment(card, **environment),
            rounds=tuple(self.round(level_us, timer, (name, i)) for i in range(rounds)),
            commit="0123abc",
            who="A. Author",
        )

    def case(self, test: str = "test_attention[8]", timer: str = "device", **changes: str) -> Case:
        inputs = ("float16[8, 8, 128, 64] strides (65536, 8192, 64, 1) cuda",) * 3
        case = Case("tests/perf/test_attention.py", test, "", timer, "cold", "paced", inputs)
        return replace(case, **changes)

    def plan(self, timer: str = "device") -> Plan:
        calls = 300 if timer == "device" else 1
        return Plan(calls, 300 if timer == "device" else 100, 2000.0, SAMPLES[timer], 5, 20)

    def measurement(
        self, processes: tuple[Process, ...] | None = None, case: Case | None = None
    ) -> Measurement:
        case = case or self.case()
        if processes is None:
            processes = (self.process("p1", timer=case.timer),)
        kernels = (Kernel("attention_forward", 168, 0, 49152, "abc123"),)
        return Measurement(case, self.plan(case.timer), "graph", processes, kernels)

    def recorded(
        self,
        *statuses: Status,
        measurement: Measurement | None = None,
        body_passed: bool = True,
        level_us: float = 3.2,
        name: str = "p1",
        case: Case | None = None,
        processes: int = 1,
    ) -> Recorded:
        case = case or self.case()
        if measurement is None:
            names = [name, *(f"{name}{i}" for i in range(2, processes + 1))]
            measured = tuple(self.process(each, level_us, case.timer) for each in names)
            measurement = self.measurement(measured, case)
        percentiles = (50.0, 95.0, 99.0)
        verdicts = tuple(
            Verdict(measurement.case, q, status, status.value, "made up")
            for q, status in zip(percentiles, statuses, strict=False)
        )
        limits = Limits((50.0,) if case.timer == "device" else percentiles)
        return Recorded(measurement, limits, verdicts, body_passed)

    def reference(
        self, names: str = "abcde", level_us: float = 3.2, timer: str = "device"
    ) -> Reference:
        measurement = self.measurement(
            tuple(self.process(name, level_us, timer) for name in names), self.case(timer=timer)
        )
        return Reference(
            measurement.plan,
            measurement.method,
            measurement.case.inputs,
            measurement.processes,
            measurement.kernels,
            {50.0: 0.015},
        )

    def entry(self, names: str = "abcde", level_us: float = 3.2, timer: str = "device") -> Entry:
        reference = self.reference(names, level_us, timer)
        return Entry(reference, replace(reference, processes=reference.processes[-1:], margins={}))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    Give a test an empty cache folder: nobody's ceilings are read or replaced.
    """
    folder = tmp_path / "own cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def make() -> Make:
    """
    Return the builder of records.
    """
    return Make()
