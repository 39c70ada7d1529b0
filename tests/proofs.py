"""
Made-up calibrations of the gate, for each test to change.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_kernelperf.analysis.proof import CaseProof, Injected, Proof
from pytest_kernelperf.analysis.rates import Rate
from pytest_kernelperf.model import Case


def case_proof(**changes: Any) -> CaseProof:
    """
    Return what twelve quiet processes of one test prove: no false alarm, every slowdown found.
    """
    plain = CaseProof(
        case=Case("test_it.py", "test_kernel", "", "device", "cold", "paced"),
        percentile=50.0,
        card="GPU-1",
        time_us=3.2,
        processes=12,
        process_sd=0.0024,
        round_sd=0.0028,
        margin=0.012,
        detectable=0.02,
        statuses={"UNCHANGED": 12},
        disjoint=2,
        covered=Rate(12, 12),
        injected=tuple(Injected(size, "extra bytes", size, Rate(12, 12)) for size in (0.01, 0.02)),
    )
    return replace(plain, **changes)


def proof(*cases: CaseProof, device_name: str = "NVIDIA H100") -> Proof:
    """
    Return a calibration of these cases.
    """
    return Proof(device_name, "0.1.0", "2026-11-22T10:00:00Z", cases=cases)
