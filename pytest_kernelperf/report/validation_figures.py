"""
The validation report's tables: times, correctness, stability, targets, repeatability.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import stdev

from pytest_kernelperf.analysis import percentile_us
from pytest_kernelperf.model import Interval, Recorded
from pytest_kernelperf.report.cells import time_with_interval
from pytest_kernelperf.report.earlier import Earlier
from pytest_kernelperf.report.markdown import code, section, table
from pytest_kernelperf.report.pooled import (
    SHOWN,
    TIMERS,
    Figure,
    Row,
    added_checks,
    sample_count,
    sampled_processes,
)
from pytest_kernelperf.units import format_percent, format_percentile, format_us

NOTHING = "-"
#: A target this many times above the time notices no slowdown that anybody would have.
_LOOSE = 2.0


def performance(rows: Sequence[Row], earlier: Earlier | None) -> str:
    """
    Return the section of times: per item, per call with intervals, and the targets.
    """
    devices = tuple(dict.fromkeys(row.device for row in rows))
    blocks = []
    for device in devices:
        chosen = [row for row in rows if row.device == device]
        blocks += [f"**{device}**" if len(devices) > 1 else "", _per_item(chosen, earlier)]
    return section(
        "Performance",
        *blocks,
        _said_of(earlier) if earlier and _is_quoted(earlier, rows) else "",
        section("Per call, with 95 % intervals", _PER_CALL, _per_call(rows), level=3),
        section("Targets", _TARGETS, _targets(rows), level=3) if limits_of(rows) else "",
    )


_PER_CALL = (
    "The interval says how well these samples settle the percentile (exact order statistics over "
    "all "
    "kept samples); what changes from process to process is not in it."
)
_TARGETS = (
    "Met: the whole interval is at or below the limit. Missed: the whole interval is above it. "
    "Unsure: "
    "the limit lies inside."
)


def target_result(interval_us: Interval, per: float, target_us: float) -> str:
    """
    Return "met", "missed" or "unsure", by the rule that a verdict follows.
    """
    if interval_us.low / per > target_us:
        return "missed"
    return "unsure" if interval_us.high / per > target_us else "met"


def limits_of(rows: Iterable[Row]) -> list[tuple[Row, str, float, float]]:
    """
    Return each limit with the timer that it was asked of: row, timer, percentile, µs per item.
    """
    return [
        (row, timer, q, target_us)
        for row in rows
        for timer, timing in row.timings.items()
        for q, target_us in timing.recorded.limits.targets_us.items()
    ]


def correctness(rows: Sequence[Row], unsound: Sequence[Recorded], agreement: str) -> str:
    """
    Return the section of what was checked on the timed calls.

    Args:
        rows: Measurements whose tests passed.
        unsound: The others; their times are in no table.
        agreement: Table of differences between compared callables, or "".
    """
    titles = ("test", "its own assertions", "outputs", "largest difference", "inputs", "poisoned")
    body = [_checked(row) for row in rows]
    return section(
        "Correctness",
        _CHECKED if body else "",
        table(titles, body),
        _unsound(unsound),
        agreement,
    )


_CHECKED = (
    "Outputs: outputs of timed calls that were compared with the first, untimed call of the same "
    "callable (or given to the test's `check`). The largest difference is between these, absolute: "
    "it "
    "shows that the timed work is the same work, and says nothing about accuracy. Accuracy is what "
    "the "
    "test's own assertions decide. Inputs: argument sets found unchanged after timed calls. "
    "Poisoned: "
    "output buffers filled with a pattern before a timed call, none of which was left."
)


def stability(rows: Sequence[Row]) -> str:
    """
    Return the section of the tail's ratios to the median, of the timers that give single calls.
    """
    ratios = [
        (timer, q)
        for timer in ("launch", "wall")
        for q in (95.0, 99.0)
        if any(row.figure(timer, q) for row in rows)
    ]
    titles = ("test", *(f"{timer} {format_percentile(q)}/P50" for timer, q in ratios))
    body = [
        (code(row.label), *(_tail_ratio(row, timer, q) for timer, q in ratios))
        for row in rows
        if any(row.figure(timer, q) for timer, q in ratios)
    ]
    return section(
        "Stability",
        "P95/P50 and P99/P50 of single calls. A device sample is a mean over many calls and has "
        "none."
        if body
        else "",
        table(titles, body),
    )


def speed_against_target(rows: Sequence[Row]) -> str:
    """
    Return the section that says how many times faster than its limit each case is.
    """
    timers = [t for t in TIMERS if any(t in row.timings for row in rows if row.targets_us)]
    body = []
    asked = [_headroom(*limit) for limit in limits_of(rows)]
    for row in rows:
        for q, target_us in row.targets_us.items():
            found = [_headroom(row, timer, q, target_us) for timer in timers]
            cells = [NOTHING if each is None else f"{each:.2f}x" for each in found]
            body.append((code(row.label), f"{format_percentile(q)} {format_us(target_us)}", *cells))
    titles = ("test", "target per item", *timers)
    return section(
        "Speed against target",
        _headroom_text([each for each in asked if each]),
        table(titles, body),
    )


def repeatability(rows: Sequence[Row]) -> str:
    """
    Return the section of how far processes differ; "" unless a case was measured in several.
    """
    body = [
        line
        for row in rows
        for timer, timing in row.timings.items()
        if (line := _spread(row, timer, timing.recorded)) is not None
    ]
    titles = ("test", "timer", "processes", "lowest P50", "highest P50", "spread", "sd")
    return section(
        "Repeatability",
        "P50 of each process on its own. Spread: highest over lowest; sd: standard deviation of "
        "the "
        "processes' P50, relative."
        if body
        else "",
        table(titles, body),
    )


def _per_item(rows: Sequence[Row], earlier: Earlier | None) -> str:
    columns = [
        (timer, q) for timer in TIMERS for q in SHOWN if any(row.figure(timer, q) for row in rows)
    ]
    quoted = SHOWN if earlier and _is_quoted(earlier, rows) else ()
    name = earlier.name if earlier else ""
    titles = (
        "time per item",
        "items per call",
        *(f"{timer} {format_percentile(q)}" for timer, q in columns),
        *(f"{name} {format_percentile(q)}" for q in quoted),
    )
    return table(
        titles,
        (
            (
                code(row.label),
                f"{row.per:g}",
                *(_item_time(row, row.figure(timer, q)) for timer, q in columns),
                *(_quoted(earlier, row.test, q) for q in quoted if earlier),
            )
            for row in rows
        ),
    )


def _item_time(row: Row, figure: Figure | None) -> str:
    return format_us(figure.time_us / row.per) if figure else NOTHING


def _is_quoted(earlier: Earlier, rows: Sequence[Row]) -> bool:
    return any(earlier.time_us(row.test, q) for row in rows for q in SHOWN)


def _quoted(earlier: Earlier, test: str, percentile: float) -> str:
    time_us = earlier.time_us(test, percentile)
    # As it was printed: `format_us` would add digits that nobody measured.
    return NOTHING if time_us is None else f"{time_us:g} µs"


def _said_of(earlier: Earlier) -> str:
    return (
        f"**{earlier.name}**, µs per {earlier.per}, as printed in {earlier.source}. What these "
        f"figures "
        f"measured: {earlier.protocol}"
    )


def _per_call(rows: Sequence[Row]) -> str:
    body = []
    for row in rows:
        for timer, timing in row.timings.items():
            figures = [timing.figures.get(q) for q in SHOWN]
            times = [
                time_with_interval(each.time_us, each.interval_us) if each else NOTHING
                for each in figures
            ]
            measurement = timing.recorded.measurement
            counts = (len(sampled_processes(measurement)), sample_count(measurement))
            body.append((code(row.label), timer, *times, *map(str, counts)))
    names = (format_percentile(q) for q in SHOWN)
    return table(("test", "timer", *names, "processes", "samples"), body)


def _targets(rows: Sequence[Row]) -> str:
    body = []
    for row, timer, q, target_us in limits_of(rows):
        figure = row.figure(timer, q)
        result = target_result(figure.interval_us, row.per, target_us) if figure else "not measured"
        cells = (format_percentile(q), _item_time(row, figure), format_us(target_us), result)
        body.append((code(row.label), timer, *cells))
    return table(("test", "timer", "percentile", "time per item", "target", "result"), body)


def _checked(row: Row) -> tuple[str, ...]:
    checks = added_checks(each.recorded.measurement.checks for each in row.timings.values())
    return (
        code(row.label),
        "passed",
        str(checks.outputs_checked),
        difference(checks.max_abs_difference),
        str(checks.inputs_checked),
        str(checks.poisoned),
    )


def difference(value: float | None) -> str:
    """
    Return an absolute difference of outputs, or that there is none to tell.
    """
    return NOTHING if value is None else f"{value:.3g}"


def _unsound(unsound: Sequence[Recorded]) -> str:
    lines = []
    for recorded in unsound:
        measurement = recorded.measurement
        problem = measurement.problem
        why = f"INVALID ({problem.code}): {problem.message}" if problem else "its own test failed"
        lines.append(f"* {code(measurement.case.label)}, {measurement.case.timer}: {why}")
    if not lines:
        return ""
    return "\n".join(["Not right, so their times are in no table:", "", *dict.fromkeys(lines)])


def _tail_ratio(row: Row, timer: str, percentile: float) -> str:
    median, tail = row.figure(timer, 50.0), row.figure(timer, percentile)
    return f"{tail.time_us / median.time_us:.3f}" if median and tail else NOTHING


def _headroom(row: Row, timer: str, percentile: float, target_us: float) -> float | None:
    figure = row.figure(timer, percentile)
    return target_us * row.per / figure.time_us if figure else None


def _headroom_text(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    lowest, highest = min(ratios), max(ratios)
    text = (
        "Target over time; 1 is just met. By the timer that the targets are asked of: from "
        f"{lowest:.2f} to {highest:.2f}."
    )
    if lowest < _LOOSE:
        return text
    return (
        f"{text} With limits so far above the times, a kernel could become {lowest:.1f} times as "
        f"slow "
        "and still meet every one: only a comparison with a stored baseline notices a slowdown."
    )


def _spread(row: Row, timer: str, recorded: Recorded) -> tuple[str, ...] | None:
    processes = sampled_processes(recorded.measurement)
    if len(processes) < 2:
        return None
    times_us = [percentile_us([each], 50.0) for each in processes]
    return (
        code(row.label),
        timer,
        str(len(processes)),
        format_us(min(times_us)),
        format_us(max(times_us)),
        format_percent(max(times_us) / min(times_us) - 1, signed=False),
        format_percent(stdev(map(math.log, times_us)), signed=False),
    )
