"""
The validation report's words: where and how it was measured, and what was not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import TypeAlias

from pytest_kernelperf.analysis.intervals import samples_needed
from pytest_kernelperf.analysis.percentiles import gives
from pytest_kernelperf.model import Environment, Measurement, Plan, Process, Round
from pytest_kernelperf.report.markdown import bullets, code, section, table
from pytest_kernelperf.report.pooled import (
    SHOWN,
    TIMERS,
    Pool,
    RecordedRun,
    Row,
    device_of,
    rounds_of,
    sample_count,
)
from pytest_kernelperf.report.validation_figures import NOTHING
from pytest_kernelperf.units import format_percentile, format_us

#: What is in the tables: a name for each measurement, and the measurement.
Evidence: TypeAlias = Sequence[tuple[str, Measurement]]

_HELD = "the stream is held back until everything is enqueued, so no host time enters"
_METHODS = {
    ("device", "graph"): (
        "the calls of a sample run from one CUDA graph between two events, and a sample is their "
        "mean "
        f"time: the cost of a launch is not in it, nor are single calls' tails; {_HELD}"
    ),
    ("device", "stream"): (
        "the calls of a sample are enqueued one by one between two events (they can't be captured "
        "in a "
        f"CUDA graph), and a sample is their mean time; {_HELD}"
    ),
    ("device", "unblocked"): (
        "the calls of a sample run between two events without being held back: host time is inside "
        "wherever the host is slower than the device"
    ),
    ("launch", "cupti"): (
        "each launch from the start of its first kernel record to the end of its last, as the "
        "profiling "
        f"interface CUPTI reports them; {_HELD}; the first launch of a burst is kept apart"
    ),
    ("launch", "events"): (
        "each launch between two events of its own, whose cost is inside every figure; "
        f"{_HELD}; the first launch of a burst is kept apart"
    ),
    ("launch", "unblocked"): (
        "each launch between two events of its own without being held back: host time is inside"
    ),
    ("wall", "event-sync"): (
        "event, call, event, synchronise on an idle card: Python, dispatch and launch are inside, "
        "as a "
        "lone caller waits for them"
    ),
    ("wall", "host-clock"): "the host's clock read before and after each single call",
}


def environment(processes: Sequence[Process]) -> str:
    """
    Return the section that says where and when: a column per model of card or processor.
    """
    devices: dict[str, list[Process]] = {}
    for process in processes:
        devices.setdefault(process.environment.device_name, []).append(process)
    facts = [_facts(each) for each in devices.values()]
    names = dict.fromkeys(name for each in facts for name, text in each.items() if text)
    body = [(name, *(each.get(name) or NOTHING for each in facts)) for name in names]
    return section("Environment", table(("", *devices), body))


def method(evidence: Evidence) -> str:
    """
    Return the section that says how it was measured, with the evidence that came along.
    """
    used: dict[tuple[str, str, str], list[Measurement]] = {}
    for _, measurement in evidence:
        key = (device_of(measurement), measurement.case.timer, measurement.method)
        used.setdefault(key, []).append(measurement)
    told = dict.fromkeys((timer, name) for _, timer, name in used)
    body = [
        (timer, name, device, *_plan_cells([one.plan for one in measured]), *_proof(measured))
        for (device, timer, name), measured in used.items()
    ]
    return section("Method", bullets(_told(*each) for each in told), table(_PLAN_TITLES, body))


_PLAN_TITLES = (
    "timer",
    "method",
    "device",
    "calls per sample",
    "burst",
    "idle gap",
    "samples per round",
    "rounds",
    "input sets",
    "held back",
    "least slack",
    "SM clock, MHz",
)


def not_measured(
    runs: Sequence[RecordedRun],
    pool: Pool,
    rows: Sequence[Row],
    refused: Sequence[str],
    evidence: Evidence,
) -> str:
    """
    Return the section of what the report can't say, and why.

    Args:
        runs: All runs.
        pool: Their measurements.
        rows: The tables' rows.
        refused: Comparisons without ratios.
        evidence: Everything that is in a table.
    """
    processes = {p.id: p for _, measurement in evidence for p in measurement.processes}
    rounds = [each for process in processes.values() for each in process.rounds]
    cut = [code(Path(run.name).name) for run in runs if not run.complete]
    lines = [
        *(f"{name} was cut off: what should have followed is missing." for name in cut),
        *_missing_timers(rows),
        *_missing_percentiles(rows),
        *(f"Comparison {code(label)}: a callable was INVALID: no ratios." for label in refused),
        *_left_out(pool),
        *_discarded(rounds),
        *_disturbed(rounds),
        *_notes(evidence),
        *_NEVER,
        *(() if any(run.independences for run in runs) else (_NO_DATA,)),
    ]
    return section("What was not measured", bullets(dict.fromkeys(lines)))


_NEVER = (
    "Whether anything became slower: these are times, not changes. `kernelperf judge` compares the "
    "same "
    "runs with stored baselines.",
    "Shapes, dtypes, cards, drivers and versions other than those named here, other loads of the "
    "machine, "
    "and other days.",
    "Shares of the card's limits (bandwidth, FLOP/s) and energy.",
)
_NO_DATA = (
    "Security properties such as constant time: that equal inputs take equal time, which is what "
    "repeated samples show, says nothing about it. `kernelperf.data_independence` would test part "
    "of it."
)


def _told(timer: str, name: str) -> str:
    return f"**{timer}** ({name}): {_METHODS.get((timer, name), 'see the notes of the run')}."


def _facts(processes: Sequence[Process]) -> dict[str, str]:
    environments = [process.environment for process in processes]
    started = sorted(process.started for process in processes)
    facts = {name: _distinct(map(value, environments)) for name, value in _FACTS.items()}
    for name in dict.fromkeys(name for each in environments for name in each.versions):
        facts[name] = _distinct(each.versions.get(name) for each in environments)
    facts["clock step"] = _span([each.tick_us for each in environments], format_us)
    facts["empty interval"] = _span([each.empty_interval_us for each in environments], format_us)
    facts["measured (UTC)"] = " to ".join(dict.fromkeys((started[0], started[-1])))
    facts["commit"] = _distinct(process.commit for process in processes)
    return facts


_FACTS: dict[str, Callable[[Environment], object]] = {
    "card": lambda each: each.gpu and each.gpu.uuid,
    "processor": lambda each: each.cpu,
    "compute capability": lambda each: each.gpu and each.gpu.compute_capability,
    "power limit, W": lambda each: each.gpu and each.gpu.power_limit_w,
    "largest SM clock, MHz": lambda each: each.gpu and each.gpu.max_sm_clock_mhz,
    "ECC": lambda each: each.gpu and {True: "on", False: "off", None: ""}[each.gpu.ecc],
    "MIG": lambda each: each.gpu and (each.gpu.mig or "off"),
    "blocker": lambda each: each.gpu and each.blocker,
}


def _distinct(values: Iterable[object]) -> str:
    texts = (f"{value:g}" if isinstance(value, float) else str(value) for value in values if value)
    return ", ".join(dict.fromkeys(texts))


def _span(values: Iterable[float], show: Callable[[float], str]) -> str:
    known = list(values)
    if not known:
        return NOTHING
    return " to ".join(dict.fromkeys((show(min(known)), show(max(known)))))


def _plan_cells(plans: Sequence[Plan]) -> tuple[str, ...]:
    return (
        _span([plan.calls_per_sample for plan in plans], "{:g}".format),
        _span([plan.burst for plan in plans], "{:g}".format),
        _span([plan.gap_us for plan in plans], format_us),
        _span([plan.samples for plan in plans], "{:g}".format),
        _span([plan.rounds for plan in plans], "{:g}".format),
        _span([plan.input_sets for plan in plans], "{:g}".format),
    )


def _proof(measurements: Sequence[Measurement]) -> tuple[str, str, str]:
    """
    Return how many bursts were released after the last enqueue, the least slack, and the clocks.
    """
    rounds = [each for measurement in measurements for each in rounds_of(measurement)]
    slack_us = [each for taken in rounds for each in taken.slack_us]
    clocks = [median(each.clock_mhz) for each in rounds if each.clock_mhz]
    held = f"{sum(each >= 0 for each in slack_us)} of {len(slack_us)}" if slack_us else NOTHING
    return held, _span(slack_us and [min(slack_us)], format_us), _span(clocks, "{:.0f}".format)


def _missing_timers(rows: Sequence[Row]) -> list[str]:
    lines = []
    for timer in TIMERS:
        missing = [code(row.label) for row in rows if timer not in row.timings]
        if missing and len(missing) < len(rows):
            lines.append(f"Timer {timer}: not asked for in {', '.join(missing)}.")
        elif missing:
            lines.append(f"Timer {timer}: not asked for in any test.")
    return lines


def _missing_percentiles(rows: Sequence[Row]) -> list[str]:
    short: dict[tuple[str, float, int], list[str]] = {}
    for row in rows:
        for timer, timing in row.timings.items():
            count = sample_count(timing.recorded.measurement)
            for q in sorted({*SHOWN, *row.targets_us}):
                if gives(timer, q) and count < samples_needed(q):
                    short.setdefault((timer, q, count), []).append(code(row.label))
    lines = [
        f"{format_percentile(q)}, {timer}, of {', '.join(labels)}: {count} samples, and an "
        f"interval "
        f"takes {samples_needed(q)}."
        for (timer, q, count), labels in short.items()
    ]
    if any("device" in row.timings for row in rows):
        lines.append("P95 and P99 by the device timer: its samples are means over many calls.")
    return lines


def _left_out(pool: Pool) -> list[str]:
    counts: Counter[tuple[str, str, str]] = Counter()
    for recorded in pool.left_out:
        measurement = recorded.measurement
        key = (measurement.case.label, measurement.case.timer, device_of(measurement))
        counts[key] += len(measurement.processes)
    return [
        f"{count} processes of {code(label)}, {timer}, on {device}: measured with another plan or "
        f"method "
        "than the others, so not pooled with them. A stored baseline pins the plan."
        for (label, timer, device), count in counts.items()
    ]


def _discarded(rounds: Sequence[Round]) -> list[str]:
    kept = sum(len(each.times_us) for each in rounds)
    reasons = Counter(dropped.reason for each in rounds for dropped in each.discarded)
    return [
        f"{count} samples or bursts dropped for {reason}, beside {kept} samples kept."
        for reason, count in sorted(reasons.items())
    ] or [f"No sample was dropped; {kept} were kept."]


def _disturbed(rounds: Sequence[Round]) -> list[str]:
    reasons = Counter(name for each in rounds for name in each.throttle)
    foreign = sum(bool(each.foreign_processes) for each in rounds)
    lines = [
        f"Clock limit {name} was reported around {count} of {len(rounds)} rounds; their samples "
        f"are in "
        "the tables."
        for name, count in sorted(reasons.items())
    ]
    if foreign:
        lines.append(
            f"Other processes computed on the card around {foreign} of {len(rounds)} rounds."
        )
    return lines


def _notes(evidence: Evidence) -> list[str]:
    where: dict[str, list[str]] = {}
    for label, measurement in evidence:
        for note in measurement.notes:
            where.setdefault(note, []).append(f"{label} ({measurement.case.timer})")
    return [f"Note of {', '.join(dict.fromkeys(each))}: {note}" for note, each in where.items()]
