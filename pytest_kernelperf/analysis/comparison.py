"""
Ratios between callables that one run measured interleaved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import special

from pytest_kernelperf.analysis.intervals import TAIL_PROBABILITY
from pytest_kernelperf.analysis.noise import VARIANCE_FLOOR, fixed_prior
from pytest_kernelperf.analysis.percentiles import MEDIAN, Floats, percentile_us, round_logs
from pytest_kernelperf.model import Comparison, Interval, Measurement, Process, Ratio


def compare(label: str, measurements: Mapping[str, Measurement], reference: str) -> Comparison:
    """
    Compare callables by the ratio of their P50, round by round.

    Rounds were taken side by side, so whatever moved the machine in one moved both, and the
    ratio of each round is free of it. Student's t over the rounds' log ratios gives the 95 %
    interval.

    Args:
        label: What is compared.
        measurements: Name to measurement, all with the same rounds.
        reference: The name whose time is the ratios' numerator.

    Raises:
        ValueError: If the reference is missing or the rounds do not pair.
    """
    if reference not in measurements:
        raise ValueError(
            f"reference {reference!r} is not among the callables compared: expected one of "
            f"{', '.join(sorted(measurements))}"
        )
    numerator = measurements[reference]
    ratios = tuple(
        _ratio(name, measurement, numerator, is_reference=name == reference)
        for name, measurement in measurements.items()
    )
    return Comparison(label, reference, ratios, numerator.case, dict(measurements))


def _ratio(
    name: str, measurement: Measurement, reference: Measurement, *, is_reference: bool
) -> Ratio:
    time_us = percentile_us(measurement.processes, MEDIAN)
    if is_reference:
        return Ratio(name, time_us, 1.0, Interval(1.0, 1.0))
    logs = _paired_differences(name, reference.processes, measurement.processes)
    center, width = float(logs.mean()), _half_width(logs, measurement.case.timer)
    interval = Interval(math.exp(center - width), math.exp(center + width))
    return Ratio(name, time_us, math.exp(center), interval)


def _paired_differences(name: str, theirs: Sequence[Process], ours: Sequence[Process]) -> Floats:
    """
    Return each round's log ratio, leaving out rounds in which one side kept no sample.
    """
    shapes = [[len(each.rounds) for each in side] for side in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{name!r} has {shapes[0]} rounds per process, the reference has {shapes[1]}: only "
            "rounds measured side by side can be compared; measure both in one compare"
        )
    pairs = [_both_sampled(*each) for each in zip(theirs, ours, strict=True)]
    logs = [[round_logs(side, (MEDIAN,))[:, 0] for side in pair] for pair in pairs]
    differences = np.concatenate([numerator - own for numerator, own in logs])
    if not differences.size:
        raise ValueError(f"{name!r} shares no sampled round with the reference: nothing to compare")
    return differences


def _both_sampled(first: Process, second: Process) -> tuple[Process, Process]:
    pairs = [
        pair
        for pair in zip(first.rounds, second.rounds, strict=True)
        if all(r.times_us for r in pair)
    ]
    return (
        replace(first, rounds=tuple(pair[0] for pair in pairs)),
        replace(second, rounds=tuple(pair[1] for pair in pairs)),
    )


def _half_width(differences: Floats, timer: str) -> float:
    count = differences.size
    if count > 1:
        variance, df = max(float(differences.var(ddof=1)), VARIANCE_FLOOR), count - 1.0
    else:  # one round has no scatter to look at: twice the timer's documented variance
        prior = fixed_prior(timer, MEDIAN)
        variance, df = 2 * prior.variance, prior.df
    return float(special.stdtrit(df, 1 - TAIL_PROBABILITY)) * math.sqrt(variance / count)
