"""
The run as one JSON document (`--kernelperf-json`): every number of every verdict, no samples.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pytest_kernelperf.analysis.proof import Proof
from pytest_kernelperf.model import (
    NOT_JUDGED,
    Against,
    Comparison,
    Compiled,
    Environment,
    Independence,
    Interval,
    Measurement,
    Recorded,
    Round,
    Verdict,
)
from pytest_kernelperf.report.calibration import calibration_json
from pytest_kernelperf.report.cells import status_text

#: 1: the first.
SCHEMA_VERSION = 1


def run_json(
    recorded: Sequence[Recorded],
    comparisons: Sequence[Comparison],
    exit_failed: bool,
    *,
    independences: Sequence[Independence] = (),
    unmeasured: Sequence[Verdict] = (),
    compiled: Sequence[Compiled] = (),
    failed_tests: Sequence[str] = (),
    skipped_tests: Mapping[str, str] | None = None,
    calibrations: Mapping[str, Proof] | None = None,
) -> str:
    """
    Return the document, with a final newline; the same run gives the same text.

    Args:
        recorded: Measurements with their verdicts, in the order taken.
        comparisons: Of the same run.
        exit_failed: Whether the run ends with a status of failure, for whatever reason.
        independences: `data_independence` results of the same run.
        unmeasured: Verdicts of tests that should have measured and did not.
        compiled: What the compiler made of kernels, with verdicts.
        failed_tests: Names of measured tests that failed, by a verdict or otherwise, and of what
            could not be collected.
        skipped_tests: What the machine lacks, by the name of the test that was skipped for it.
        calibrations: What is proven about the gate, by the slug of the card model.
    """
    environments: list[Environment] = []
    verdicts = [verdict for record in recorded for verdict in record.verdicts]
    verdicts += [verdict for each in comparisons for verdict in each.verdicts]
    verdicts += [verdict for each in independences for verdict in each.verdicts]
    verdicts += [each.failure for each in independences if each.failure]
    document = {
        "schema_version": SCHEMA_VERSION,
        "kind": "kernelperf-results",
        "exit_failed": exit_failed,
        "failed_tests": list(failed_tests),
        "skipped_tests": dict(skipped_tests or {}),
        "counts": _counts([*verdicts, *unmeasured, *(c.verdict for c in compiled if c.verdict)]),
        "measurements": [_measurement(record, environments) for record in recorded],
        "unmeasured": [{**_case(each), **_verdict(each)} for each in unmeasured],
        "compiled": [_compiled(each) for each in compiled],
        "comparisons": [_comparison(each) for each in comparisons],
        "data_independence": [_independence(each) for each in independences],
        "environments": [asdict(each) for each in environments],
        "calibrations": {
            slug: calibration_json(proof) for slug, proof in sorted((calibrations or {}).items())
        },
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _counts(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    judged = [verdict.status for verdict in verdicts if verdict.judged]
    missing = sum(status in NOT_JUDGED for status in judged)
    return {
        "judged": len(judged) - missing,
        "not_judged": missing,
        "statuses": dict(sorted(Counter(status.value for status in judged).items())),
    }


def _measurement(record: Recorded, environments: list[Environment]) -> dict[str, Any]:
    measurement = record.measurement
    return {
        **asdict(measurement.case),
        "key": measurement.case.key,
        "method": measurement.method,
        "plan": asdict(measurement.plan),
        "body_passed": record.body_passed,
        "notes": list(measurement.notes),
        "problem": asdict(measurement.problem) if measurement.problem else None,
        "work": asdict(measurement.work) if measurement.work else None,
        "checks": asdict(measurement.checks),
        "kernels": [asdict(each) for each in measurement.kernels],
        "processes": _processes(measurement, environments),
        "against": _against(record.against, environments),
        "verdicts": [_verdict(each) for each in record.verdicts],
    }


def _against(against: Against | None, environments: list[Environment]) -> dict[str, Any] | None:
    if against is None:
        return None
    other = against.measurement
    return {
        "revision": against.revision,
        "commit": against.commit,
        "missing": against.missing,
        "processes": _processes(other, environments) if other else [],
    }


def _processes(measurement: Measurement, environments: list[Environment]) -> list[dict[str, Any]]:
    """
    Return each process's evidence; its environment by its index among all the run's.
    """
    found = []
    for process in measurement.processes:
        if process.environment not in environments:
            environments.append(process.environment)
        found.append(
            {
                "id": process.id,
                "started": process.started,
                "commit": process.commit,
                "environment": environments.index(process.environment),
                "rounds": len(process.rounds),
                "samples": sum(len(each.times_us) for each in process.rounds),
                "first_launches": _first_launches(process.rounds),
                "discarded": _discarded(process.rounds),
                "throttle": sorted({name for each in process.rounds for name in each.throttle}),
                "foreign_processes": max(
                    (each.foreign_processes for each in process.rounds), default=0
                ),
            }
        )
    return found


def _first_launches(rounds: Sequence[Round]) -> dict[str, Any] | None:
    """
    Return how many bursts' first launches were kept apart, and their median.
    """
    times_us = [time_us for each in rounds for time_us in each.first_us]
    if not times_us:
        return None
    return {"bursts": len(times_us), "p50_us": statistics.median(times_us)}


def _discarded(rounds: Sequence[Round]) -> dict[str, int]:
    return dict(
        sorted(Counter(each.reason for taken in rounds for each in taken.discarded).items())
    )


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "percentile": verdict.percentile,
        "status": status_text(verdict),
        "judged": verdict.judged,
        "reason": verdict.reason,
        "sentence": verdict.sentence,
        "time_us": verdict.time_us,
        "interval_us": _interval(verdict.interval_us),
        "baseline_us": verdict.baseline_us,
        "change": verdict.change,
        "change_interval": _interval(verdict.change_interval),
        "margin": verdict.margin,
        "detectable": verdict.detectable,
        "target_us": verdict.target_us,
        "per": verdict.per,
        "target_met": verdict.target_met,
        "roofline": asdict(verdict.roofline) if verdict.roofline else None,
    }


def _case(verdict: Verdict) -> Mapping[str, Any]:
    return {**asdict(verdict.case), "key": verdict.case.key}


def _compiled(compiled: Compiled) -> dict[str, Any]:
    verdict = compiled.verdict
    return {
        **asdict(compiled.case),
        "kernels": [asdict(kernel) for kernel in compiled.kernels],
        "failure": compiled.failure,
        "notes": list(compiled.notes),
        "verdict": _verdict(verdict) if verdict else None,
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "label": comparison.label,
        "reference": comparison.reference,
        "timer": comparison.case.timer if comparison.case else None,
        "plan": _plan(comparison),
        "problem": asdict(comparison.problem) if comparison.problem else None,
        "ratios": [
            {
                "name": ratio.name,
                "time_us": ratio.time_us,
                "speedup": ratio.speedup,
                "speedup_interval": _interval(ratio.speedup_interval),
                "max_abs_difference": ratio.max_abs_difference,
                "standing": ratio.standing.value,
                "min_speedup": ratio.min_speedup,
                "verdict": _verdict(ratio.verdict) if ratio.verdict else None,
            }
            for ratio in comparison.ratios
        ],
    }


def _independence(found: Independence) -> dict[str, Any]:
    return {
        "label": found.label,
        "timer": found.case.timer,
        "plan": _plan(found),
        "problem": asdict(found.problem) if found.problem else None,
        "inputs": list(found.measurements),
        "bounds": {f"{q:g}": bound for q, bound in found.bounds.items()},
        "supported": {f"{v.percentile:g}": found.supported(v.percentile) for v in found.verdicts},
        "contrasts": [
            {**asdict(each), "interval": _interval(each.interval)} for each in found.contrasts
        ],
        "verdicts": [_verdict(each) for each in found.verdicts],
    }


def _plan(comparison: Comparison | Independence) -> dict[str, Any] | None:
    plans = [asdict(each.plan) for each in comparison.measurements.values()]
    return plans[0] if plans else None


def _interval(interval: Interval | None) -> list[float] | None:
    return [interval.low, interval.high] if interval else None
