"""
What a calibration found out about the gate: per case its noise, false alarms, and slowdowns found.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_kernelperf.analysis.rates import Rate, total
from pytest_kernelperf.errors import KernelPerfError
from pytest_kernelperf.model import Case, Interval, Status
from pytest_kernelperf.units import counted


@dataclass(frozen=True, slots=True)
class Injected:
    """
    A real slowdown that was put into one case, and how often the gate found it.

    Attributes:
        size: What was asked for, 0.02 = 2 % slower.
        way: What was added ("extra bytes", "an extra launch", ...).
        measured: What it was dialled to, by interleaved comparison in one process; None if nobody
            looked.
        found: Candidates that came out REGRESSED.
        real: What it is over the recorded processes, each against itself unslowed; None for fewer
            than three.
        real_interval: 95 % interval of that.
    """

    size: float
    way: str
    measured: float | None
    found: Rate
    real: float | None = None
    real_interval: Interval | None = None

    @property
    def is_its_size(self) -> bool:
        """
        Whether it is in truth at least half of what was asked for, and no more than half again.
        """
        return self.real is None or 0.5 * self.size <= self.real <= 1.5 * self.size


@dataclass(frozen=True, slots=True)
class CaseProof:
    """
    One percentile of one case on one card.

    Attributes:
        card: The card's UUID; the processor's name where there is none.
        time_us: The percentile over all processes.
        processes: How many fresh processes measured it.
        process_sd: Of log time between processes, the rounds' share taken out.
        round_sd: Of log time between the rounds of one process.
        margin: What the noise of all these processes supports.
        detectable: Smallest slowdown found in 95 % of the recorded candidates when their times are
            scaled; None if none up to 20 % is.
        statuses: Of unchanged candidates, each judged against 5 other processes.
        disjoint: How many of them could have been formed without sharing any process.
        covered: Unchanged candidates whose shown interval holds 0.
        injected: By rising size.
    """

    case: Case
    percentile: float
    card: str
    time_us: float
    processes: int
    process_sd: float
    round_sd: float
    margin: float
    detectable: float | None
    statuses: Mapping[str, int]
    disjoint: int
    covered: Rate
    injected: tuple[Injected, ...] = ()

    @property
    def false_alarms(self) -> Rate:
        """
        Unchanged candidates that came out REGRESSED.
        """
        return _rate_of(self.statuses, Status.REGRESSED)


@dataclass(frozen=True, slots=True)
class Noise:
    """
    What one way of measuring scatters: root mean squares over its cases.
    """

    timer: str
    l2: str
    pace: str
    percentile: float
    cases: int
    process_sd: float
    round_sd: float


@dataclass(frozen=True, slots=True)
class Proof:
    """
    All that one or more calibrations of one card model found.

    Attributes:
        device_name: The card model.
        program: Version of pytest_kernelperf that judged.
        date: UTC, ISO 8601, of the latest process.
        versions: Of what was measured with, as in `Environment`.
        cases: By card and case.
        left_out: What could not be used, and why.
        across_cards: Unchanged processes of one card against baselines of another: by status.
    """

    device_name: str
    program: str
    date: str
    versions: Mapping[str, str] = field(default_factory=dict)
    cases: tuple[CaseProof, ...] = ()
    left_out: tuple[str, ...] = ()
    across_cards: Mapping[str, int] = field(default_factory=dict)

    @property
    def cards(self) -> tuple[str, ...]:
        """
        The cards measured on.
        """
        return tuple(dict.fromkeys(each.card for each in self.cases))

    @property
    def statuses(self) -> dict[str, int]:
        """
        Unchanged candidates by status, over all cases.
        """
        counts: Counter[str] = Counter()
        for each in self.cases:
            counts.update(each.statuses)
        return dict(sorted(counts.items()))

    @property
    def false_alarms(self) -> Rate:
        """
        Unchanged candidates that came out REGRESSED.
        """
        return total(each.false_alarms for each in self.cases)

    @property
    def inconclusive(self) -> Rate:
        """
        Unchanged candidates that stayed INCONCLUSIVE after all looks.
        """
        return _rate_of(self.statuses, Status.INCONCLUSIVE)

    @property
    def covered(self) -> Rate:
        """
        Unchanged candidates whose shown interval holds 0.
        """
        return total(each.covered for each in self.cases)

    @property
    def alarms_across_cards(self) -> Rate:
        """
        Unchanged candidates that came out REGRESSED against another card's baseline.
        """
        return _rate_of(self.across_cards, Status.REGRESSED)

    @property
    def power(self) -> dict[float, Rate]:
        """
        Injected size to how often it was found, over all cases.
        """
        by_size: dict[float, list[Rate]] = defaultdict(list)
        for each in self.cases:
            for injected in each.injected:
                by_size[injected.size].append(injected.found)
        return {size: total(rates) for size, rates in sorted(by_size.items())}

    def power_where_detectable(self, size: float) -> Rate:
        """
        Return how often an injected size was found in the cases that find so small a one.
        """
        return total(
            injected.found
            for each in self.cases
            if each.detectable is not None and each.detectable <= size
            for injected in each.injected
            if injected.size == size
        )

    @property
    def noise(self) -> tuple[Noise, ...]:
        """
        The noise of each timing mode and percentile.
        """
        grouped: dict[tuple[str, str, str, float], list[CaseProof]] = defaultdict(list)
        for each in self.cases:
            case = each.case
            grouped[case.timer, case.l2, case.pace, each.percentile].append(each)
        return tuple(
            Noise(
                *key,
                cases=len(found),
                process_sd=_rms(each.process_sd for each in found),
                round_sd=_rms(each.round_sd for each in found),
            )
            for key, found in sorted(grouped.items())
        )


def joined(proofs: Sequence[Proof]) -> Proof:
    """
    Return several calibrations of one card model as one.

    Raises:
        KernelPerfError: If they are of two card models or two versions of the program.
    """
    first = proofs[0]
    for other in proofs[1:]:
        for what in ("device_name", "program"):
            ours, theirs = getattr(first, what), getattr(other, what)
            if ours != theirs:
                raise KernelPerfError(
                    f"calibrations can't be taken together: {what} is {ours!r} in one and "
                    f"{theirs!r} in another; summarise them apart"
                )
    return replace(
        first,
        date=max(each.date for each in proofs),
        cases=tuple(case for each in proofs for case in each.cases),
        left_out=(*(text for each in proofs for text in each.left_out), *_versions(proofs)),
    )


def _versions(proofs: Sequence[Proof]) -> Iterator[str]:
    """
    Yield what was measured with several versions, and which.
    """
    for name in sorted({name for each in proofs for name in each.versions}):
        found = sorted({each.versions.get(name, "none") for each in proofs})
        if len(found) > 1:
            yield f"one version of {name}: measured with {', '.join(found)}"


def lost(kept: Proof, new: Proof) -> str:
    """
    Return what a kept calibration proves and a new one of the same card model does not; "" if none.
    """
    before, now = _extents(kept), _extents(new)
    both = before.keys() & now.keys()
    sizes = sorted({size for what in both for size in before[what][1] - now[what][1]})
    fewer = [(before[what][0], now[what][0]) for what in both if now[what][0] < before[what][0]]
    parts = []
    if missing := len(before) - len(both):
        parts.append(f"{missing} of {counted(len(before), 'case')}")
    if sizes:
        parts.append("slowdowns of " + ", ".join(f"{size * 100:g} %" for size in sizes))
    if fewer:
        parts.append("{} processes of a case, not {}".format(*max(fewer)))
    return "; ".join(parts)


def _extents(proof: Proof) -> dict[tuple[str, Case, float], tuple[int, frozenset[float]]]:
    """
    Return how many processes and which slowdowns prove what: by card, case and percentile.
    """
    found: dict[tuple[str, Case, float], tuple[int, frozenset[float]]] = {}
    for each in proof.cases:
        processes, sizes = found.get((each.card, each.case, each.percentile), (0, frozenset()))
        found[each.card, each.case, each.percentile] = (
            max(processes, each.processes),
            sizes | {one.size for one in each.injected},
        )
    return found


def _rate_of(statuses: Mapping[str, int], status: Status) -> Rate:
    return Rate(statuses.get(status.value, 0), sum(statuses.values()))


def _rms(values: Iterable[float]) -> float:
    found = list(values)
    return math.sqrt(sum(value**2 for value in found) / len(found))
