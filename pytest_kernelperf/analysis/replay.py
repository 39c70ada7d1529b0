"""
Replays recorded processes through the gate's own rule: who would have been failed, and found.

Every process is the candidate once, against the five processes before it in a circle; where the
rule asks for more processes, the next ones of the circle join the candidate.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev

import numpy as np
from scipy import special

from pytest_kernelperf.analysis.change import ChangeEstimate
from pytest_kernelperf.analysis.intervals import TAIL_PROBABILITY
from pytest_kernelperf.analysis.looks import wants_more
from pytest_kernelperf.analysis.margins import margins
from pytest_kernelperf.analysis.noise import Noise, noise_from
from pytest_kernelperf.analysis.proof import CaseProof, Injected
from pytest_kernelperf.analysis.rates import Rate
from pytest_kernelperf.analysis.scatter import ProcessLogs, columns, time_us_of
from pytest_kernelperf.analysis.verdicts import judge, judged_percentiles
from pytest_kernelperf.model import (
    Entry,
    Interval,
    Limits,
    Measurement,
    Process,
    Reference,
    Round,
    Status,
    Verdict,
)

#: Processes of a complete baseline.
BASELINE_PROCESSES = 5
#: The fewest that leave three to judge: one alone is never enough to fail a test.
LEAST_PROCESSES = BASELINE_PROCESSES + 3
#: With so many, the rule gets every process that it can ask for.
ENOUGH_PROCESSES = 2 * BASELINE_PROCESSES

# A slowdown counts as found from here; with 12 processes that is all of them.
_FOUND_SHARE = 0.95
# Fewer pairs of processes say too little of how large a slowdown is.
_LEAST_PAIRS = 3
# Steps of a quarter percent up to 20 %.
_GRID = tuple(0.0025 * step for step in range(1, 81))
# Says that the two were not compared at all.
_UNCOMPARED = frozenset({Status.INCOMPARABLE, Status.NO_BASELINE, Status.INVALID})


@dataclass(frozen=True, slots=True)
class Slowed:
    """
    The same case with a slowdown in it.

    Attributes:
        size: What was asked for, as a fraction.
        way: What was added.
        measured: As in `Injected`.
        measurements: One per process, in the same order as the unslowed ones; None where missing.
    """

    size: float
    way: str
    measured: float | None
    measurements: tuple[Measurement | None, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """
    One case's measurements by fresh processes of one card.

    Attributes:
        limits: What its test asks; targets are left out of account.
        unslowed: One per process, each holding that process alone.
    """

    limits: Limits
    unslowed: tuple[Measurement, ...]
    slowed: tuple[Slowed, ...] = field(default=())


def prove(series: Sequence[Series]) -> tuple[CaseProof, ...]:
    """
    Return what the recorded processes prove, per case and judged percentile.

    Args:
        series: All cases of one suite on one card: they moderate one another's noise. Those with
            fewer than `LEAST_PROCESSES` processes are passed over.
    """
    usable = [each for each in series if len(each.unslowed) >= LEAST_PROCESSES]
    if not usable:
        return ()
    turns = max(len(each.unslowed) for each in usable)
    noises = [_noise(usable, turn) for turn in range(turns)]
    everything = noise_from(
        (each.unslowed[0].case.regime, _reference(each.unslowed)) for each in usable
    )
    return tuple(proof for each in usable for proof in _prove_case(each, noises, everything))


def across(ours: Sequence[Series], theirs: Sequence[Series]) -> dict[str, int]:
    """
    Judge another card's unchanged processes against this card's baselines.

    Args:
        ours: All cases of this card; every turn of the circle is a baseline.
        theirs: Those of the other card; every process is the candidate once per case.

    Returns:
        Status to the number of candidates, over all cases that both have.
    """
    counts: Counter[str] = Counter()
    known = {each.unslowed[0].case.key: each for each in ours}
    noises = [_noise(ours, turn) for turn in range(max(len(each.unslowed) for each in theirs))]
    for candidate in theirs:
        mine = known.get(candidate.unslowed[0].case.key)
        for turn in range(len(candidate.unslowed) if mine else 0):
            assert mine is not None
            line = _circle(candidate.unslowed, turn)
            entry = Entry(_reference(_circle(mine.unslowed, turn)))
            limits = replace(candidate.limits, targets_us={})
            verdicts = escalated(line, entry, limits, noises[turn])
            counts.update(each.status.value for each in verdicts if each.judged)
    return dict(sorted(counts.items()))


def escalated(
    candidates: Sequence[Measurement], entry: Entry, limits: Limits, noise: Noise
) -> tuple[Verdict, ...]:
    """
    Return the verdicts of the last look that the rule takes at a candidate.

    Args:
        candidates: One process each, in the order in which they would be measured.
        entry: The baseline.
        limits: What the test asks.
        noise: From all baselines.
    """
    count = 1
    while True:
        verdicts = judge(_join(candidates[:count]), entry, limits, noise)
        wanted = wants_more(verdicts, count)
        if wanted <= count or wanted > len(candidates):
            return verdicts
        count = wanted


def scaled(measurement: Measurement, factor: float) -> Measurement:
    """
    Return a measurement whose times are all longer by a factor.
    """

    def scaled_round(one: Round) -> Round:
        return replace(one, times_us=tuple(time * factor for time in one.times_us))

    processes = tuple(
        replace(each, rounds=tuple(map(scaled_round, each.rounds)))
        for each in measurement.processes
    )
    return replace(measurement, processes=processes)


def components(column: Sequence[ProcessLogs]) -> tuple[float, float]:
    """
    Return the standard deviations between processes and between rounds, of log time.

    By analysis of variance: the scatter of process means holds the rounds' scatter over the number
    of rounds, which is taken out; a negative rest is 0.
    """
    squares = [float(np.square(each.rounds - each.mean).sum()) for each in column]
    df = sum(each.rounds.size - 1 for each in column)
    between_rounds = sum(squares) / df if df else 0.0
    rounds = len(column) / sum(1 / each.rounds.size for each in column)
    of_means = float(np.var([each.mean for each in column], ddof=1)) if len(column) > 1 else 0.0
    return math.sqrt(max(of_means - between_rounds / rounds, 0.0)), math.sqrt(between_rounds)


def _prove_case(series: Series, noises: Sequence[Noise], everything: Noise) -> Iterator[CaseProof]:
    case = series.unslowed[0].case
    limits = replace(series.limits, targets_us={})
    percentiles = judged_percentiles(case.timer, limits)
    unchanged = _outcomes(series, series.unslowed, limits, noises)
    reference = _reference(series.unslowed)
    found_columns = columns(reference.processes, percentiles)
    supported = margins(case.regime, reference, percentiles, everything)
    for percentile, column in zip(percentiles, found_columns, strict=True):
        verdicts = unchanged.get(percentile, [])
        if not (column and verdicts):
            continue
        process_sd, round_sd = components(column)
        yield CaseProof(
            case=case,
            percentile=percentile,
            card=reference.processes[0].environment.card,
            time_us=time_us_of(column),
            processes=len(series.unslowed),
            process_sd=process_sd,
            round_sd=round_sd,
            margin=supported[percentile],
            detectable=_detectable(series, limits, noises, percentile),
            statuses=dict(sorted(Counter(each.status.value for each in verdicts).items())),
            disjoint=len(series.unslowed) // (BASELINE_PROCESSES + 1),
            covered=_covered(verdicts),
            injected=tuple(
                Injected(
                    one.size, one.way, one.measured, found, *_real_size(series, one, percentile)
                )
                for one in series.slowed
                if (found := _found(series, one.measurements, limits, noises, percentile)).trials
            ),
        )


def _outcomes(
    series: Series,
    candidates: Sequence[Measurement | None],
    limits: Limits,
    noises: Sequence[Noise],
) -> dict[float, list[Verdict]]:
    """
    Return, per judged percentile, the final verdict of each candidate that can be formed.
    """
    count = len(series.unslowed)
    outcomes: dict[float, list[Verdict]] = {}
    for turn in range(count):
        order = [(turn + step) % count for step in range(count)]
        entry = Entry(_reference([series.unslowed[at] for at in order[:BASELINE_PROCESSES]]))
        line = [candidates[at] for at in order[BASELINE_PROCESSES:]]
        if line[0] is None:
            continue
        present = [each for each in line if each is not None]
        for verdict in escalated(present, entry, limits, noises[turn]):
            if verdict.judged and verdict.status not in _UNCOMPARED:
                outcomes.setdefault(verdict.percentile, []).append(verdict)
    return outcomes


def _found(
    series: Series,
    candidates: Sequence[Measurement | None],
    limits: Limits,
    noises: Sequence[Noise],
    percentile: float,
) -> Rate:
    verdicts = _outcomes(series, candidates, limits, noises).get(percentile, [])
    return Rate(sum(each.status is Status.REGRESSED for each in verdicts), len(verdicts))


def _real_size(
    series: Series, slowed: Slowed, percentile: float
) -> tuple[float, Interval] | tuple[None, None]:
    """
    Return how much slower it is over the processes, each against itself, with a 95 % interval.
    """
    pairs = [
        (plain.processes, after.processes)
        for plain, after in zip(series.unslowed, slowed.measurements, strict=True)
        if after is not None
    ]
    differences = [
        now.mean - before.mean
        for plain, after in pairs
        for before, now in zip(
            *(columns(side, (percentile,))[0] for side in (plain, after)), strict=False
        )
    ]
    count = len(differences)
    if count < _LEAST_PAIRS:
        return None, None
    quantile = float(special.stdtrit(count - 1, 1 - TAIL_PROBABILITY))
    half_width = quantile * stdev(differences) / math.sqrt(count)
    found = ChangeEstimate.from_log(fmean(differences), half_width)
    return found.relative, found.interval


def _detectable(
    series: Series, limits: Limits, noises: Sequence[Noise], percentile: float
) -> float | None:
    """
    Return the smallest slowdown of the grid that is found, by bisection: more is never found less.
    """

    def is_found(size: float) -> bool:
        candidates = [scaled(each, 1 + size) for each in series.unslowed]
        share = _found(series, candidates, limits, noises, percentile).share
        return share is not None and share >= _FOUND_SHARE

    low, high = 0, len(_GRID)
    while low < high:
        middle = (low + high) // 2
        if is_found(_GRID[middle]):
            high = middle
        else:
            low = middle + 1
    return _GRID[low] if low < len(_GRID) else None


def _covered(verdicts: Sequence[Verdict]) -> Rate:
    shown = [each.change_interval for each in verdicts if each.change_interval is not None]
    return Rate(sum(each.low <= 0 <= each.high for each in shown), len(shown))


def _noise(series: Sequence[Series], turn: int) -> Noise:
    return noise_from(
        (each.unslowed[0].case.regime, _reference(_circle(each.unslowed, turn))) for each in series
    )


def _circle(measurements: Sequence[Measurement], turn: int) -> list[Measurement]:
    count = len(measurements)
    return [measurements[(turn + step) % count] for step in range(min(count, BASELINE_PROCESSES))]


def _reference(measurements: Sequence[Measurement]) -> Reference:
    return Reference.of(measurements[0], _processes(measurements))


def _join(measurements: Sequence[Measurement]) -> Measurement:
    return replace(measurements[0], processes=_processes(measurements))


def _processes(measurements: Sequence[Measurement]) -> tuple[Process, ...]:
    return tuple(process for each in measurements for process in each.processes)
