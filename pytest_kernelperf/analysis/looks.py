"""
The looks: after how many processes a verdict may be told, and what error each look may spend.

Everything here depends on the number of candidate processes in the record alone, never on how they
came about: a record that grew look by look is judged like one measured at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_kernelperf.model import FAILING, Status, Verdict

#: Candidate processes after which the data are looked at.
LOOKS = (1, 3, 5)
#: With all looks taken: what margins and detectable slowdowns are computed for.
FULL_PLAN = LOOKS[-1]

# Error on each side of the interval. The looks at three and five processes share the 2.5 % that
# "slower" and "faster" may be wrong in: their sum bounds it whatever the looks have in common. The
# first look can't say either, so it spends none of that, and its interval is a plain 95 % one.
_TAIL = {1: 0.025, 3: 0.010, 5: 0.015}


def tail_probability(processes: int) -> float:
    """
    Return the error on each side of the change interval for so many candidate processes.

    A number between two looks (a worker died) counts as the later one, more than five as five.
    """
    return _TAIL[next((look for look in LOOKS if look >= processes), FULL_PLAN)]


def enough_agree(agreeing: int, processes: int) -> bool:
    """
    Return whether so many of the candidate's processes may call it slower, or faster.

    Three; all, but never one alone, where there are fewer. Processes that fall into two modes
    scatter so that the suite's variance outweighs their own, and a few that are far off would
    move the whole interval.

    Args:
        agreeing: Those that alone lie beyond the margin, on the side of the change.
        processes: Candidate processes there are.
    """
    return agreeing >= min(max(processes, 2), 3)


def wants_more(verdicts: Sequence[Verdict], processes: int) -> int:
    """
    Return how many candidate processes to have next: `processes` itself once all is decided.

    A failing verdict decides its test whatever the other percentiles would still say.

    Args:
        verdicts: Of one measurement.
        processes: Candidate processes it has.
    """
    statuses = {verdict.status for verdict in verdicts if verdict.judged}
    if statuses & FAILING or Status.INCONCLUSIVE not in statuses:
        return processes
    return next_look(processes)


def next_look(processes: int) -> int:
    """
    Return the total of processes at the look that follows, or the number itself after the last.
    """
    return next((look for look in LOOKS if look > processes), processes)
