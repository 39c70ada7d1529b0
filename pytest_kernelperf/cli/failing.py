"""
Tells which tests of a judged run fail, and what of that its verdicts don't show.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from pytest_kernelperf.model import Case, Status
from pytest_kernelperf.store.runs import Run
from pytest_kernelperf.units import listed


@dataclass(frozen=True, slots=True)
class Failing:
    """
    The failures of one run.

    Attributes:
        tests: What fails, as pytest called it.
        broken: Labels of measurements whose test failed in its own body.
        untold: Tests that failed when they were recorded, and no record tells why.
        excused: Tests that would fail, and why pytest did not fail them.
        uncompared: Labels of what was compared with a baseline once, and now has none.
    """

    tests: tuple[str, ...]
    broken: tuple[str, ...]
    untold: tuple[str, ...]
    excused: dict[str, str]
    uncompared: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """
        Yield what verdicts don't show.
        """
        for label in self.broken:
            yield f"{label} failed in its own body when it was recorded"
        for nodeid in self.untold:
            yield f"{nodeid} failed when it was recorded, and no measurement tells why"
        for nodeid, why in self.excused.items():
            yield f"{nodeid} was excused by pytest ({why}) when it was recorded: not counted"
        if self.uncompared:
            yield (
                f"{listed(self.uncompared)} had a baseline when recorded and has none here: not "
                "compared; name the folder that holds it with --baselines, or record it again"
            )


def failing_tests(
    run: Run, statuses: Collection[Status], uncompared: Sequence[Case] = ()
) -> Failing:
    """
    Return what fails in a run, with its verdicts as they are.

    Args:
        run: Judged.
        statuses: Of verdicts that fail a test.
        uncompared: What was compared with a baseline once, and now has none.
    """
    slow = [each.case for each in run.verdicts if each.judged and each.status in statuses]
    broken = [each.measurement.case for each in run.recorded if not each.body_passed]
    found = dict.fromkeys(run.nodeid_of(case) for case in (*slow, *broken, *uncompared))
    excused = {nodeid: run.excused[nodeid] for nodeid in found if nodeid in run.excused}
    own = [case.label for case in broken if run.nodeid_of(case) not in excused]
    tests = dict.fromkeys((*(one for one in found if one not in excused), *run.failed))
    lost = dict.fromkeys(case.label for case in uncompared)
    return Failing(tuple(tests), tuple(dict.fromkeys(own)), run.failed, excused, tuple(lost))
