"""
The validation report: Markdown in the sections of the report that this project began with.

Every figure is computed from recorded runs. It has the seed report's sections but not its
conclusions: where that one asserted something that nobody measured, this one says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pytest_kernelperf.report import validation_data as data
from pytest_kernelperf.report import validation_figures as figures
from pytest_kernelperf.report import validation_method as words
from pytest_kernelperf.report import validation_peers as peers
from pytest_kernelperf.report.earlier import read_earlier
from pytest_kernelperf.report.markdown import bullets, code, section
from pytest_kernelperf.report.pooled import (
    Pool,
    RecordedRun,
    Row,
    is_sound,
    pool,
    rows,
    sampled_processes,
)
from pytest_kernelperf.units import format_us


def render(runs: Sequence[RecordedRun], *, beside: Mapping[str, Any] | None = None) -> str:
    """
    Return the report, with a final newline; the same runs give the same text.

    Args:
        runs: Recorded runs; the processes of several are pooled case by case.
        beside: Earlier figures to show beside these, as docs/usage.md describes them.

    Raises:
        OptionsError: If `beside` is not of that shape.
    """
    earlier = read_earlier(beside) if beside is not None else None
    found = pool(runs)
    table_rows = rows(found.kept)
    contests = peers.contests(runs)
    unsound = [each for run in runs for each in run.recorded if not is_sound(each)]
    evidence = [*_evidence(found, contests), *data.evidence(runs)]
    blocks = (
        "# Validation report",
        _origin(runs),
        _summary(table_rows, contests, len(unsound), data.summary(runs)),
        words.environment([p for _, each in evidence for p in each.processes]),
        figures.performance(table_rows, earlier),
        figures.correctness(table_rows, unsound, peers.agreement(contests)),
        figures.stability(table_rows),
        peers.comparison(contests, earlier),
        data.data_independence(runs),
        figures.speed_against_target(table_rows),
        figures.repeatability(table_rows),
        words.method(evidence),
        words.not_measured(runs, found, table_rows, peers.invalid_comparisons(runs), evidence),
    )
    return "\n\n".join(block for block in blocks if block) + "\n"


def _origin(runs: Sequence[RecordedRun]) -> str:
    cases = chain.from_iterable(
        (
            *(each.measurement.case for each in run.recorded),
            *(each.case for each in run.comparisons if each.case),
            *(each.case for each in run.independences),
        )
        for run in runs
    )
    files = dict.fromkeys(case.file for case in cases)
    tests = f" of {', '.join(map(code, files))}" if files else ""
    names = ", ".join(code(Path(run.name).name) for run in runs)
    return (
        f"Computed by `kernelperf report --validation` from {len(runs)} recorded "
        f"{'run' if len(runs) == 1 else 'runs'}{tests}: {names}. No figure is typed by hand."
    )


def _evidence(found: Pool, contests: Sequence[peers.Contest]) -> words.Evidence:
    """
    Return every measurement that a table shows, with a name for it.
    """
    measured = [(code(each.measurement.case.test), each.measurement) for each in found.kept]
    compared = [
        (f"{code(contest.test)} {name}", measurement)
        for contest in contests
        for run in contest.runs
        for name, measurement in run.measurements.items()
    ]
    return [*measured, *compared]


def _summary(
    table_rows: Sequence[Row], contests: Sequence[peers.Contest], unsound_count: int, on_data: str
) -> str:
    if not table_rows and not contests and not on_data:
        return section("Summary", "The runs hold no measurement of a kernel that was right.")
    lines = [
        _cases_line(table_rows),
        *_targets_line(table_rows),
        *(_range_line(table_rows, timer) for timer in ("device", "wall")),
        *_speedup_lines(contests),
        on_data,
        f"{unsound_count} measurements were INVALID or of a test that failed."
        if unsound_count
        else "",
    ]
    return section("Summary", bullets(line for line in lines if line))


def _cases_line(table_rows: Sequence[Row]) -> str:
    if not table_rows:
        return "No test case was measured alone."
    counts = [
        len(sampled_processes(timing.recorded.measurement))
        for row in table_rows
        for timing in row.timings.values()
    ]
    fewest, most = min(counts), max(counts)
    devices = ", ".join(dict.fromkeys(row.device for row in table_rows))
    times = f"{most}" if fewest == most else f"{fewest} to {most}"
    return (
        f"{len(table_rows)} test cases on {devices}, each in {times} "
        f"{'process' if most == 1 else 'processes'}."
    )


def _targets_line(table_rows: Sequence[Row]) -> list[str]:
    results: Counter[str] = Counter()
    for row, timer, q, target_us in figures.limits_of(table_rows):
        figure = row.figure(timer, q)
        result = figures.target_result(figure.interval_us, row.per, target_us) if figure else ""
        results[result or "not measured"] += 1
    if not results:
        return ["No test has a target."]
    counts = ", ".join(f"{count} {result}" for result, count in sorted(results.items()))
    return [f"Targets: {counts}, of {results.total()}."]


def _range_line(table_rows: Sequence[Row], timer: str) -> str:
    times = [(f.time_us / r.per, r.label) for r in table_rows if (f := r.figure(timer, 50.0))]
    if not times:
        return ""
    (low, fastest), (high, slowest) = min(times), max(times)
    return (
        f"P50 per item, {timer}: from {format_us(low)} ({code(fastest)}) to {format_us(high)} "
        f"({code(slowest)})."
    )


def _speedup_lines(contests: Sequence[peers.Contest]) -> list[str]:
    groups: dict[tuple[str, str, str], list[float]] = {}
    for contest in contests:
        for name in contest.others:
            key = (name, contest.reference, contest.timer)
            groups.setdefault(key, []).append(contest.speedup(name))
    return [
        f"{name} against {reference}, {timer}: {min(found):.2f} to {max(found):.2f} times as fast, "
        f"in "
        f"{len(found)} comparisons."
        for (name, reference, timer), found in groups.items()
    ]
