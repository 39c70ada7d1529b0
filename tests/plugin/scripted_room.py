"""
A measuring room without a clock: it calls the subject and makes up the times that a test asked for.

The plugin tests copy this file beside the tests that they run.
"""

from __future__ import annotations

import json
import os
import uuid
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from _pytest.runner import runtestprotocol

from pytest_kernelperf.measure import CallShape, Job
from pytest_kernelperf.model import (
    Environment,
    Gpu,
    Limits,
    Measurement,
    Peaks,
    Plan,
    Problem,
    Process,
    Recorded,
    Round,
)
from pytest_kernelperf.processes.escalation import Answer
from pytest_kernelperf.worker import answer_of

PLAN = Plan(calls_per_sample=4, burst=4, gap_us=2000.0, samples=20, rounds=5, input_sets=2)
CARD = Gpu(
    name="NVIDIA Scripted",
    uuid="GPU-1",
    sm_count=132,
    compute_capability="9.0",
    memory_bytes=80 << 30,
    l2_bytes=50 << 20,
    ecc=True,
    power_limit_w=700.0,
)


class ScriptedRoom:
    """
    Reads `script.json` before each measurement.

    Its keys: "times_us" (test name, measurement name or callable's name to the time; "" for the
    rest), "device" ("cuda:0" or "cpu"), "problem" (a code that makes everything INVALID), "notes",
    "calls" (per sample, where nothing pins a plan), and "later" (the same keys for processes from
    the second on, by number).
    """

    def __init__(self, folder: Path) -> None:
        self._script = folder / "script.json"
        self.process = os.environ.get("KERNELPERF_PROCESS", "1")

    def inspect_call(self, subject):
        return CallShape(
            inputs=("float16[8] cuda",), device=self._read("device"), footprint_bytes=16
        )

    def call_once(self, subject):
        return subject.fn(*subject.args, **subject.kwargs)

    def environment(self, device):
        if device == "cpu":
            return Environment(gpu=None, cpu="Scripted CPU")
        return Environment(gpu=CARD, cpu="Scripted CPU", versions={"torch": "2.11"}, tick_us=0.032)

    def peaks(self, device):
        return None if device == "cpu" else Peaks(tflops=1000.0, gbs=3000.0)

    def watch(self, seconds, label, on_hang):
        return nullcontext()

    def release(self):
        pass

    def measure(self, subject, jobs, *, progress):
        progress("round 1 of 5")
        output = subject.fn(*subject.args, **subject.kwargs)
        return output, tuple(self.measurement(job) for job in jobs)

    def measure_interleaved(self, subjects, job, *, progress):
        times = self._read("times_us")
        return (
            {name: one.fn(*one.args, **one.kwargs) for name, one in subjects.items()},
            {name: self._measurement(job, times.get(name, 10.0)) for name in subjects},
        )

    def measurement(self, job):
        return self._measurement(job, self._time_us(job.case))

    def _measurement(self, job, time_us):
        plan = job.pinned or replace(PLAN, calls_per_sample=self._read("calls"))
        count = job.rounds or plan.rounds
        process = Process(
            id=uuid.uuid4().hex,
            started="2026-01-01T00:00:00+00:00",
            environment=self.environment(self._read("device")),
            rounds=tuple(_round(time_us, job.samples or plan.samples) for _ in range(count)),
        )
        code = self._read("problem")
        return Measurement(
            case=job.case,
            plan=plan,
            method="scripted",
            processes=(process,),
            notes=tuple(self._read("notes")),
            problem=Problem(code, "the script says so") if code else None,
        )

    def _time_us(self, case):
        times = self._read("times_us")
        function = case.test.split("[")[0]
        named = [name for name in (case.name, case.test, function) if name and name in times]
        return times[named[0]] if named else times.get("", 10.0)

    def _read(self, key):
        script = json.loads(self._script.read_text()) if self._script.exists() else {}
        script |= script.get("later", {}).get(self.process, {})
        defaults = {"times_us": {}, "device": "cuda:0", "problem": "", "notes": [], "calls": 4}
        return script.get(key, defaults[key])


class ScriptedWorkers:
    """
    Fresh processes that are none: what they measure is in the room's script.
    """

    def __init__(self, room: ScriptedRoom) -> None:
        self._room = room
        self._items = {}

    def pytest_collection_finish(self, session):
        """
        Take the tests: who is asked for one without plans runs it, to see what it measures.
        """
        self._items = {item.nodeid: item for item in session.items}

    def start(self, numbers, waiting):
        waiting()

    def measure(self, number, request, waiting):
        waiting()
        self._room.process = str(number)
        try:
            if not request.plans:
                return self._answer(self._items[request.nodeid])
            return Answer(tuple(self._recorded(case, plan) for case, plan in request.plans))
        finally:
            self._room.process = "1"

    def retire(self, number):
        pass

    def stop(self):
        pass

    def abandon(self):
        pass

    def _answer(self, item):
        run = item.config.pluginmanager.getplugin("kernelperf-measuring-run")
        run.served = SimpleNamespace(plans={})
        try:
            return answer_of(runtestprotocol(item, log=False, nextitem=item.session))
        finally:
            run.served = None

    def _recorded(self, case, plan):
        return Recorded(self._room.measurement(Job(case, pinned=plan)), Limits(), ())


def _round(time_us: float, samples: int) -> Round:
    # Half a permille of spread, always the same, in steps that are no multiple of each other.
    times = tuple(time_us * (1 + 0.0001 * ((7 * index) % 11 - 5)) for index in range(samples))
    return Round(times_us=times)
