"""
The validation report's comparison of callables that were measured interleaved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from pytest_kernelperf.analysis import percentile_us
from pytest_kernelperf.model import Comparison, Process, Ratio
from pytest_kernelperf.report.cells import speedup_with_interval
from pytest_kernelperf.report.earlier import Earlier
from pytest_kernelperf.report.markdown import code, section, table
from pytest_kernelperf.report.pooled import RecordedRun, device_of
from pytest_kernelperf.report.validation_figures import NOTHING, difference
from pytest_kernelperf.units import format_us


@dataclass(frozen=True)
class Contest:
    """
    One comparison, as all runs measured it.

    Attributes:
        runs: One per process, each with all ratios.
    """

    label: str
    test: str
    device: str
    timer: str
    reference: str
    names: tuple[str, ...]
    runs: tuple[Comparison, ...]

    @property
    def others(self) -> tuple[str, ...]:
        """
        The callables that are not the reference.
        """
        return tuple(name for name in self.names if name != self.reference)

    def time_us(self, name: str) -> float:
        """
        Return a callable's P50 over all processes, microseconds per call.
        """
        processes = [p for run in self.runs for p in _processes(run, name)]
        return percentile_us(processes, 50.0)

    def methods(self) -> dict[str, str]:
        """
        Return how each callable was timed.
        """
        found = self.runs[0].measurements
        return {name: found[name].method for name in self.names if name in found}

    def ratios(self, name: str) -> tuple[Ratio, ...]:
        """
        Return a callable's ratio in each run.
        """
        return tuple(ratio for run in self.runs for ratio in run.ratios if ratio.name == name)

    def speedup(self, name: str) -> float:
        """
        Return the reference's time over a callable's: the geometric mean over the runs.
        """
        return math.exp(mean(math.log(ratio.speedup) for ratio in self.ratios(name)))

    def max_difference(self, name: str) -> float | None:
        """
        Return how far a callable's output was from the reference's; None if no run says.
        """
        told = (ratio.max_abs_difference for ratio in self.ratios(name))
        return max((each for each in told if each is not None), default=None)


def contests(runs: Sequence[RecordedRun]) -> tuple[Contest, ...]:
    """
    Return the comparisons of all runs, those of the same callables on the same inputs together.
    """
    groups: dict[object, list[Comparison]] = {}
    seen: set[str] = set()
    for comparison in (each for run in runs for each in run.comparisons if each.ratios):
        ids = {p.id for ratio in comparison.ratios for p in _processes(comparison, ratio.name)}
        if ids and ids <= seen:  # the same run, given twice
            continue
        seen |= ids
        groups.setdefault(_way(comparison), []).append(comparison)
    return tuple(_contest(group) for group in groups.values())


def invalid_comparisons(runs: Sequence[RecordedRun]) -> list[str]:
    """
    Return the labels of comparisons that gave no ratios.
    """
    return [each.label for run in runs for each in run.comparisons if not each.ratios]


def comparison(found: Sequence[Contest], earlier: Earlier | None) -> str:
    """
    Return the section of times and ratios, a pair of tables per set of callables.
    """
    groups: dict[object, list[Contest]] = {}
    for contest in found:
        key = (contest.device, contest.timer, contest.reference, contest.names)
        groups.setdefault(key, []).append(contest)
    blocks = []
    for group in groups.values():
        blocks += [_caption(group), _times(group), _ratios(group, earlier)]
    return section("Comparison", *blocks)


def agreement(found: Sequence[Contest]) -> str:
    """
    Return the table of the largest differences between callables' outputs; "" if none is known.
    """
    body = [
        (code(contest.label), name, contest.reference, difference(contest.max_difference(name)))
        for contest in found
        for name in contest.others
        if contest.max_difference(name) is not None
    ]
    if not body:
        return ""
    text = (
        "Outputs of different callables on the same inputs, absolute. A comparison whose outputs "
        "differ by more than their dtype's tolerance fails its test and has no row."
    )
    return text + "\n\n" + table(("test", "callable", "against", "largest difference"), body)


def _way(comparison: Comparison) -> object:
    case = comparison.case
    # Plans may differ from process to process: within each, all callables share one.
    methods = tuple((name, one.method) for name, one in comparison.measurements.items())
    return _device(comparison), comparison.label, case, comparison.reference, methods


def _contest(group: Sequence[Comparison]) -> Contest:
    first = group[0]
    case = first.case
    return Contest(
        label=first.label.rpartition("::")[2],
        test=case.test if case else first.label,
        device=_device(first),
        timer=case.timer if case else NOTHING,
        reference=first.reference,
        names=tuple(ratio.name for ratio in first.ratios),
        runs=tuple(group),
    )


def _device(comparison: Comparison) -> str:
    return next((device_of(one) for one in comparison.measurements.values()), "")


def _processes(comparison: Comparison, name: str) -> tuple[Process, ...]:
    measurement = comparison.measurements.get(name)
    return measurement.processes if measurement else ()


def _caption(group: Sequence[Contest]) -> str:
    first = group[0]
    count = max(len(contest.runs) for contest in group)
    spread = (
        f"in brackets, the lowest and highest of up to {count} processes"
        if count > 1
        else "in brackets, its 95 % interval over the rounds of one process"
    )
    return _methods(group) + (
        f"**{first.timer} on {first.device}**: samples of all callables taken in turn, one plan "
        f"for "
        f"all. Times are P50 per call. Speed-up: {first.reference}'s time over the callable's, "
        f"above 1 "
        f"is faster than {first.reference}; {spread}."
    )


def _methods(group: Sequence[Contest]) -> str:
    """
    Return a warning where the callables of one comparison were not timed alike.
    """
    mixed = [each for each in group if len(set(each.methods().values())) > 1]
    lines = [
        f"Not timed alike in {code(each.label)}: "
        f"{', '.join(f'{name} by {method}' for name, method in each.methods().items())}.\n\n"
        for each in mixed
    ]
    return "".join(lines)


def _times(group: Sequence[Contest]) -> str:
    names = group[0].names
    body = [
        (code(contest.label), *(format_us(contest.time_us(name)) for name in names))
        for contest in group
    ]
    return table(("test", *names), body)


def _ratios(group: Sequence[Contest], earlier: Earlier | None) -> str:
    others, reference = group[0].others, group[0].reference
    quoted = [
        name
        for name in others
        if earlier and any(earlier.speedup(each.test, name, reference) for each in group)
    ]
    titles = [f"{name} over {reference}" for name in others]
    titles += [f"{earlier.name}: {name} over {reference}" for name in quoted if earlier]
    body = [
        (
            code(contest.label),
            *(_ratio(contest, name) for name in others),
            *(_quoted(earlier, contest, name) for name in quoted if earlier),
        )
        for contest in group
    ]
    return table(("speed-up", *titles), body)


def _ratio(contest: Contest, name: str) -> str:
    ratios = contest.ratios(name)
    if len(ratios) == 1:
        return speedup_with_interval(ratios[0].speedup, ratios[0].speedup_interval)
    found = [ratio.speedup for ratio in ratios]
    return f"{contest.speedup(name):.3f}x ({min(found):.3f}…{max(found):.3f})"


def _quoted(earlier: Earlier, contest: Contest, name: str) -> str:
    speedup = earlier.speedup(contest.test, name, contest.reference)
    return NOTHING if speedup is None else f"{speedup:.2f}x"
