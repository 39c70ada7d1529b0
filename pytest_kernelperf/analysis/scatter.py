"""
What the scatter of process means is made of: the process itself, its session, its card.

A session is a stretch of time on one card: processes that follow each other within the hour share
the day, the host's load, the power state. What a session or a card adds does not average out over
the candidate's processes, which all come from one.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from statistics import fmean

import numpy as np

from pytest_kernelperf.analysis.percentiles import Floats, round_logs
from pytest_kernelperf.model import Process

#: No process mean is trusted to repeat better than this: 0.02 %, the best that pacing gave.
VARIANCE_FLOOR = 0.0002**2

_SESSION_BREAK = timedelta(hours=1)


@dataclass(frozen=True)
class Prior:
    """
    A scaled inverse chi-square: a variance on log scale, and the degrees of freedom behind it.
    """

    variance: float
    df: float


#: Nothing is known, and nothing is added.
UNKNOWN = Prior(0.0, 0.0)


@dataclass(frozen=True)
class Components:
    """
    The variances that a change is made of, as known after seeing the baseline.

    Attributes:
        process: Of one process's mean, rounds included.
        session: What its session adds.
        card: What its card adds; `UNKNOWN` on a card that the baseline knows.
    """

    process: Prior
    session: Prior = UNKNOWN
    card: Prior = UNKNOWN


@dataclass(frozen=True)
class ProcessLogs:
    """
    One process's rounds, one percentile: natural logs of microseconds.

    Attributes:
        session: Number of the session on its card, from 0.
    """

    card: str
    rounds: Floats
    session: int = 0

    @cached_property
    def mean(self) -> float:
        """
        The process's estimate.
        """
        return float(self.rounds.mean())

    @cached_property
    def squares(self) -> float:
        """
        The sum of its rounds' squared distances from that.
        """
        return float(np.square(self.rounds - self.mean).sum())


def columns(
    processes: Sequence[Process], percentiles: Sequence[float]
) -> tuple[tuple[ProcessLogs, ...], ...]:
    """
    Return, per percentile, every process's rounds; processes without a kept sample are left out.
    """
    logs = [
        (each.environment.card, session, round_logs(each, percentiles))
        for each, session in zip(processes, sessions(processes), strict=True)
    ]
    return tuple(
        tuple(
            ProcessLogs(card, table[:, index], session)
            for card, session, table in logs
            if table.size
        )
        for index in range(len(percentiles))
    )


def sessions(processes: Sequence[Process]) -> list[int]:
    """
    Return each process's session: those on one card that start within an hour of the one before.
    """
    found = [0] * len(processes)
    last: dict[str, tuple[datetime, int]] = {}
    starts = [_started(each) for each in processes]
    for index in sorted(range(len(processes)), key=starts.__getitem__):
        card = processes[index].environment.card
        start, session = last.get(card, (starts[index], 0))
        found[index] = session + (starts[index] - start > _SESSION_BREAK)
        last[card] = starts[index], found[index]
    return found


def time_us_of(column: Sequence[ProcessLogs]) -> float:
    """
    Return the percentile of at least one process, microseconds.
    """
    return math.exp(sum(each.mean for each in column) / len(column))


def mixed(first: Prior, second: Prior) -> Prior:
    """
    Return two estimates of one variance as one, weighted by their degrees of freedom.

    Source:
        Smyth (2004), equation for the posterior variance of a normal linear model.
    """
    df = first.df + second.df
    if not df:
        return UNKNOWN
    return Prior((first.df * first.variance + second.df * second.variance) / df, df)


def process_df(column: Sequence[ProcessLogs]) -> int:
    """
    Return the degrees of freedom of `process_variance`.
    """
    return len(column) - len({_session(each) for each in column})


def session_df(column: Sequence[ProcessLogs]) -> int:
    """
    Return the degrees of freedom of `session_excess`.
    """
    return len({_session(each) for each in column}) - len({each.card for each in column})


def card_df(column: Sequence[ProcessLogs]) -> int:
    """
    Return the degrees of freedom of `card_excess`.
    """
    return len({each.card for each in column}) - 1


def process_variance(column: Sequence[ProcessLogs]) -> float:
    """
    Return the sample variance of process means about their session's mean, or the floor.
    """
    groups = _grouped((_session(each), each.mean) for each in column)
    return max(sum(map(_squares, groups)) / max(process_df(column), 1), VARIANCE_FLOOR)


def session_excess(column: Sequence[ProcessLogs], process: float) -> Prior:
    """
    Return how much more the sessions of one card scatter than their processes explain.

    Args:
        column: Of any number of sessions and cards.
        process: Variance of a process's mean.
    """
    by_card = defaultdict(list)
    sizes = Counter(_session(each) for each in column)
    for card, session in sizes:
        means = [each.mean for each in column if _session(each) == (card, session)]
        by_card[card].append((fmean(means), process / len(means)))
    return _excess(by_card.values())


def card_excess(column: Sequence[ProcessLogs], process: float, session: float) -> Prior:
    """
    Return how much more the cards scatter than their processes and sessions explain.
    """
    cards = []
    for card in sorted({each.card for each in column}):
        own = [each for each in column if each.card == card]
        explained = process / len(own) + session * share(own, _session)
        cards.append((fmean(each.mean for each in own), explained))
    return _excess([cards])


def by_session(column: Sequence[ProcessLogs]) -> float:
    """
    Return the part of one session's variance that is left in the mean: 1 for one, 1/2 for two.
    """
    return share(column, _session)


def by_card(column: Sequence[ProcessLogs]) -> float:
    """
    Return the part of one card's variance that is left in the mean.
    """
    return share(column, lambda each: each.card)


def share(column: Sequence[ProcessLogs], group: Callable[[ProcessLogs], object]) -> float:
    """
    Return the sum of the groups' squared shares: what averaging leaves of a group's variance.
    """
    groups = [group(each) for each in column]
    return sum((groups.count(one) / len(groups)) ** 2 for one in dict.fromkeys(groups))


def _session(each: ProcessLogs) -> tuple[str, int]:
    return each.card, each.session


def _grouped(pairs: Iterable[tuple[object, float]]) -> list[list[float]]:
    groups = defaultdict(list)
    for group, mean in pairs:
        groups[group].append(mean)
    return list(groups.values())


def _squares(values: Sequence[float]) -> float:
    """
    Return the sum of squared distances from the mean.
    """
    mean = fmean(values)
    return sum((each - mean) ** 2 for each in values)


def _excess(families: Iterable[Sequence[tuple[float, float]]]) -> Prior:
    """
    Return the variance of means about their family's mean, less what is explained of it.
    """
    squares = explained = 0.0
    df = 0
    for family in families:
        means, parts = zip(*family, strict=True)
        squares += _squares(means)
        explained += (len(family) - 1) * fmean(parts)
        df += len(family) - 1
    return Prior(max(squares - explained, 0.0) / df, df) if df else UNKNOWN


def _started(process: Process) -> datetime:
    # A record without a readable start belongs with the earliest: one session, nothing added.
    try:
        start = datetime.fromisoformat(process.started.replace("Z", "+00:00"))
    except ValueError:
        return datetime.min.replace(tzinfo=timezone.utc)
    return start if start.tzinfo else start.replace(tzinfo=timezone.utc)
