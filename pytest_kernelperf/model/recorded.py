"""
A measurement with what was asked and said of it: one line of a recorded run.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_kernelperf.model.measurement import Measurement
from pytest_kernelperf.model.verdict import Limits, Verdict


@dataclass(frozen=True, slots=True)
class Against:
    """
    The other revision of the project that a measurement is compared with.

    Attributes:
        revision: What messages call it: "1a2b3c4 (main)".
        commit: Its full hash.
        measurement: The same case there, its i-th process paired with the i-th of the other side.
        missing: Why there is none, as the end of a sentence.
    """

    revision: str
    commit: str
    measurement: Measurement | None = None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """
    One line of a recorded run: a measurement, what was asked of it, and what was said live.

    Attributes:
        body_passed: The test's own body passed (an update never takes from a failed test).
        against: Set if it was judged against another revision: then no baseline is looked at.
    """

    measurement: Measurement
    limits: Limits
    verdicts: tuple[Verdict, ...]
    body_passed: bool = True
    against: Against | None = None

    @property
    def had_baseline(self) -> bool:
        """
        Whether its verdicts came from a comparison with a baseline.
        """
        return self.against is None and any(each.baseline_us is not None for each in self.verdicts)
