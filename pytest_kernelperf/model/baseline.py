"""
What is stored to judge against, and what an update does to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_kernelperf.model.case import Case, Plan, Way
from pytest_kernelperf.model.kernels import Kernel
from pytest_kernelperf.model.measurement import Measurement, Process


@dataclass(frozen=True, slots=True)
class Reference:
    """
    What a baseline holds of one case: processes of one plan and method.

    Attributes:
        margins: Percentile to the margin that its measured noise supports, stored and shown.
    """

    plan: Plan
    method: str
    inputs: tuple[str, ...]
    processes: tuple[Process, ...]
    kernels: tuple[Kernel, ...] = ()
    margins: Mapping[float, float] = field(default_factory=dict)

    @classmethod
    def of(cls, measurement: Measurement, processes: Sequence[Process]) -> Reference:
        """
        Return processes, measured as a measurement was, as what others are judged against.
        """
        return cls(
            plan=measurement.plan,
            method=measurement.method,
            inputs=measurement.case.inputs,
            processes=tuple(processes),
            kernels=measurement.kernels,
        )

    @property
    def way(self) -> Way:
        """
        How it was measured.
        """
        return Way(self.inputs, self.method, self.plan.pinned)


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One baseline entry: what is judged against, and what was measured last.
    """

    reference: Reference
    latest: Reference | None = None


@dataclass(frozen=True, slots=True)
class UpdateMode:
    """
    What the user allowed an update to do.

    Attributes:
        new_only: Only add entries where there is none (`--kernelperf-update-new`).
        accept_regressions: Let a reference move to a slower measurement.
        begin_anew: Add also what had a baseline when it was measured, and has none now.
    """

    new_only: bool = False
    accept_regressions: bool = False
    begin_anew: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """
    What an update did with one case, or why it did nothing.

    Attributes:
        action: "added", "moved", "extended", "kept" (reference untouched) or "refused".
        sentence: Why, and what to do if it is not what was wanted.
        before_us: Percentile to the reference's time before; empty if there was none.
        after_us: Percentile to the new reference's time; where that stays, to the measured one.
    """

    case: Case
    action: str
    sentence: str
    before_us: Mapping[float, float] = field(default_factory=dict)
    after_us: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """
    All that one update did: the files it wrote, in order, and one change per case.
    """

    written: tuple[str, ...]
    changes: tuple[Change, ...]
