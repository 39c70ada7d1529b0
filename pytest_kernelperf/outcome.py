"""
What one test brought: its records and verdicts, as they travel with the test's report.
"""

from __future__ import annotations

import base64
import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_kernelperf.model import (
    FAILING,
    FAILING_STRICT,
    Case,
    Comparison,
    Compiled,
    Independence,
    Recorded,
    Status,
    Verdict,
)
from pytest_kernelperf.options import MARKER

if TYPE_CHECKING:
    from pytest_kernelperf.settings import Settings


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What one test brought: it travels with the test's report, also from a worker of pytest-xdist.

    Attributes:
        nodeid: As pytest prints it.
        path: The test file.
        file: The same relative to its anchor.
        test: The test's name in the file.
        recorded: Its measurements with their verdicts.
        comparisons: What it compared.
        independences: Its `data_independence` results.
        compiled: What the compiler made of its kernels.
        unmeasured: The NOT_MEASURED verdict, if that is what it was.
        missing: What the machine lacks, if the test was skipped for it.
        excused: Why pytest does not fail it, whatever was wrong: "xfail", "skip", "rerun"; or "".
    """

    nodeid: str
    path: str
    file: str = ""
    test: str = ""
    recorded: tuple[Recorded, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    independences: tuple[Independence, ...] = ()
    compiled: tuple[Compiled, ...] = ()
    unmeasured: Verdict | None = None
    missing: str = ""
    excused: str = ""

    @property
    def place(self) -> str:
        """
        The test as its records call it: relative to its anchor, and not to pytest's root folder.
        """
        return f"{self.file}::{self.test}"

    @property
    def is_recorded(self) -> bool:
        """
        Whether a recorded run holds anything of it.
        """
        return bool(self.recorded or self.comparisons or self.independences)

    @property
    def tabled(self) -> tuple[Verdict, ...]:
        """
        The verdicts but those of compared callables and inputs, which have tables of their own.
        """
        found = [verdict for one in self.recorded for verdict in one.verdicts]
        found += [one.verdict for one in self.compiled if one.verdict]
        found += [one.failure for one in self.comparisons if one.failure]
        found += [one.failure for one in self.independences if one.failure]
        return (*found, self.unmeasured) if self.unmeasured else tuple(found)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """
        All verdicts of the test, shown and judged.
        """
        ratios = (ratio for one in self.comparisons for ratio in one.ratios)
        compared = [ratio.verdict for ratio in ratios if ratio.verdict]
        contrasted = [verdict for one in self.independences for verdict in one.verdicts]
        return (*self.tabled, *compared, *contrasted)

    @property
    def verdicts_in_record(self) -> tuple[Verdict, ...]:
        """
        The verdicts on what a recorded run holds: not on kernels, nor that nothing was measured.
        """
        return replace(self, compiled=(), unmeasured=None).verdicts

    def without_measurement(self) -> Outcome:
        """
        Return the outcome of a marked test that passed and measured nothing.
        """
        verdict = Verdict(
            case=Case(self.file, self.test, "", timer="-", l2="-", pace="-"),
            percentile=50.0,
            status=Status.NOT_MEASURED,
            reason="NOT_MEASURED",
            sentence=(
                f"the test is marked {MARKER} and passed without measuring anything: call "
                "kernelperf(fn, ...) in it, or take the mark away"
            ),
        )
        return replace(self, unmeasured=verdict)


def pack(outcome: Outcome) -> str:
    """
    Return an outcome as text, which every plugin that forwards reports can carry.
    """
    return base64.b64encode(pickle.dumps(outcome)).decode("ascii")


def unpack(text: str) -> Outcome:
    """
    Return the outcome of `pack`; it comes from this run's own processes.
    """
    outcome = pickle.loads(base64.b64decode(text))
    assert isinstance(outcome, Outcome)
    return outcome


def fails(verdict: Verdict, settings: Settings) -> bool:
    """
    Return whether a verdict fails its test in this run.

    What the run was told to store does not fail it: a regression that was accepted, unless it
    misses its target too, and under strict a missing baseline that is being recorded.
    """
    if not verdict.judged:
        return False
    if verdict.status is Status.REGRESSED and settings.accept_regressions:
        return verdict.target_met is False
    if verdict.status is Status.NO_BASELINE and settings.updating:
        return False
    strict = FAILING_STRICT if settings.strict else frozenset()
    return verdict.status in FAILING | strict
