"""
Short ways to measure on a real card.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from pytest_kernelperf.measure import Job, Subject, measure  # noqa: E402
from pytest_kernelperf.model import Case, Measurement, Round  # noqa: E402


def job(timer: str, l2: str = "cold", **wishes: Any) -> Job:
    """
    Return a job of one timer, with all else as by default.
    """
    return Job(Case("test_x.py", "test_x", "", timer, l2, "paced"), **wishes)


def rounds_of(measurement: Measurement) -> tuple[Round, ...]:
    """
    Return the rounds of a measurement of one process.
    """
    return measurement.processes[0].rounds


def p50_us(measurement: Measurement) -> float:
    """
    Return the median of all samples.
    """
    return median(time_us for one in rounds_of(measurement) for time_us in one.times_us)


def take(subject: Subject, timer: str, l2: str = "cold", **wishes: Any) -> Measurement:
    """
    Measure with two rounds unless asked otherwise, and expect no problem.
    """
    _, (found,) = measure(subject, [job(timer, l2, **{"rounds": 2, **wishes})])
    assert found.problem is None, found.problem
    return found


def random(*shape: int, dtype: Any = None) -> Any:
    """
    Return random numbers on the card; float16 unless asked otherwise.
    """
    return torch.randn(*shape, device="cuda", dtype=dtype or torch.float16)
