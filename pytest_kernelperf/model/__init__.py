"""
The frozen records that cross rooms: they hold values and import nothing else of ours.

Times are microseconds as float, clocks MHz, percentiles numbers between 0 and 100. A run is a list
of measurements; a measurement has processes, a process has rounds, a round has samples. A stored
reference has the same processes and rounds, so that analysis treats both sides alike.
"""

from pytest_kernelperf.model.baseline import Change, Entry, Reference, UpdateMode, UpdateReport
from pytest_kernelperf.model.case import Case, Plan, Way
from pytest_kernelperf.model.comparison import Comparison, Contrast, Independence, Ratio, Standing
from pytest_kernelperf.model.environment import Environment, Gpu
from pytest_kernelperf.model.kernels import Compiled, Kernel, ResourceLimits
from pytest_kernelperf.model.machine import Answer, Finding, Level
from pytest_kernelperf.model.measurement import (
    Checks,
    Discard,
    Measurement,
    Problem,
    Process,
    Round,
)
from pytest_kernelperf.model.recorded import Against, Recorded
from pytest_kernelperf.model.verdict import (
    FAILING,
    FAILING_STRICT,
    NOT_JUDGED,
    Interval,
    Limits,
    Status,
    Verdict,
)
from pytest_kernelperf.model.work import Ceilings, Peaks, Roofline, Work

__all__ = [
    "FAILING",
    "FAILING_STRICT",
    "NOT_JUDGED",
    "Against",
    "Answer",
    "Case",
    "Ceilings",
    "Change",
    "Checks",
    "Comparison",
    "Compiled",
    "Contrast",
    "Discard",
    "Entry",
    "Environment",
    "Finding",
    "Gpu",
    "Independence",
    "Interval",
    "Kernel",
    "Level",
    "Limits",
    "Measurement",
    "Peaks",
    "Plan",
    "Problem",
    "Process",
    "Ratio",
    "Recorded",
    "Reference",
    "ResourceLimits",
    "Roofline",
    "Round",
    "Standing",
    "Status",
    "UpdateMode",
    "UpdateReport",
    "Verdict",
    "Way",
    "Work",
]
