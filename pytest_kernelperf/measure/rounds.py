"""
Runs a measurement's rounds, one after the other, until all are done or one of them is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pytest_kernelperf.model import Problem, Round

#: What one round found of each lane: its samples, and what is wrong with it.
RoundOf = Mapping[str, tuple[Round, Problem | None]]


def run_rounds(
    timer: str,
    names: Iterable[str],
    count: int,
    one_round: Callable[[], RoundOf],
    progress: Callable[[str], None],
) -> dict[str, tuple[tuple[Round, ...], Problem | None]]:
    """
    Run rounds and gather them by lane.

    Args:
        timer: For the progress line.
        names: The lanes' names.
        count: How many rounds.
        one_round: Runs one round of every lane.
        progress: Told before each round.

    Returns:
        Each lane's rounds and the problem of its last one. A problem of any lane ends all: what is
        wrong fails the test, and the others' times would be for nothing.
    """
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    problems: dict[str, Problem | None] = dict.fromkeys(rounds)
    for number in range(count):
        progress(f"{timer} round {number + 1}/{count}")
        for name, (measured, problem) in one_round().items():
            rounds[name].append(measured)
            problems[name] = problem
        if any(problems.values()):
            break
    return {name: (tuple(rounds[name]), problems[name]) for name in rounds}
