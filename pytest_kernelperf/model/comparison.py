"""
Callables, and inputs, that were measured interleaved and held against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from pytest_kernelperf.model.case import Case
from pytest_kernelperf.model.measurement import Measurement, Problem
from pytest_kernelperf.model.verdict import Interval, Status, Verdict


class Standing(str, Enum):
    """
    How a callable of a `compare` stands to the reference, by the whole interval of its speed-up.
    """

    REFERENCE = "reference"
    FASTER = "faster"
    SLOWER = "slower"
    ALIKE = "alike"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Ratio:
    """
    One callable of a `compare`, against the reference callable of the same run.

    Attributes:
        speedup: Reference's time over this one's: 1.25 = 25 % faster than the reference.
        max_abs_difference: Largest difference between the two outputs; None if nobody looked.
        standing: What the interval says, whether or not anything was asked.
        min_speedup: The least speed-up that was asked for; None if none was.
        verdict: Whether it was reached; None where nothing was asked.
    """

    name: str
    time_us: float
    speedup: float
    speedup_interval: Interval
    max_abs_difference: float | None = None
    standing: Standing = Standing.UNSURE
    min_speedup: float | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    Callables measured interleaved in one run.

    Attributes:
        ratios: Empty where the comparison is INVALID.
        problem: Why it is: a callable's own problem, or outputs that disagree.
        min_speedup: What was asked: callable's name to the least speed-up over the reference.
    """

    label: str
    reference: str
    ratios: tuple[Ratio, ...]
    case: Case | None = None
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    problem: Problem | None = None
    min_speedup: Mapping[str, float] = field(default_factory=dict)

    @property
    def failure(self) -> Verdict | None:
        """
        The INVALID verdict that a problem is; None without one.
        """
        return _failure(self.case, self.problem)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """
        One verdict per callable of which something was asked, or the problem's alone.
        """
        if self.failure is not None:
            return (self.failure,)
        return tuple(ratio.verdict for ratio in self.ratios if ratio.verdict)


@dataclass(frozen=True, slots=True)
class Contrast:
    """
    Two inputs of a `data_independence`, at one percentile.

    Attributes:
        difference: Slower over faster, relative: 0.01 = 1 % slower.
        interval: Of the difference.
        supported: The smallest bound that the difference is shown to stay below.
        clock_difference: SM clock on the slower input over that on the faster; None if unknown.
    """

    percentile: float
    slower: str
    faster: str
    slower_us: float
    faster_us: float
    difference: float
    interval: Interval
    supported: float
    clock_difference: float | None = None


@dataclass(frozen=True, slots=True)
class Independence:
    """
    One callable measured interleaved on inputs of one shape and different content.

    Attributes:
        bounds: Percentile to the relative difference that no two inputs may reach.
        contrasts: Every two inputs at every percentile; empty where it is INVALID.
        verdicts: One per percentile, on the two inputs that are most apart.
    """

    label: str
    case: Case
    bounds: Mapping[float, float]
    contrasts: tuple[Contrast, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    problem: Problem | None = None

    @property
    def failure(self) -> Verdict | None:
        """
        The INVALID verdict that a problem is; None without one.
        """
        return _failure(self.case, self.problem)

    def supported(self, percentile: float) -> float | None:
        """
        Return the smallest bound that the data support at a percentile; None if nothing was seen.
        """
        found = [each.supported for each in self.contrasts if each.percentile == percentile]
        return max(found, default=None)


def _failure(case: Case | None, problem: Problem | None) -> Verdict | None:
    if case is None or problem is None:
        return None
    return Verdict(case, 50.0, Status.INVALID, problem.code, sentence=problem.message)
