"""
What one run learned about one case: samples in rounds in processes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_kernelperf.model.case import Case, Plan, Way
from pytest_kernelperf.model.environment import Environment
from pytest_kernelperf.model.kernels import Kernel
from pytest_kernelperf.model.work import Work


@dataclass(frozen=True, slots=True)
class Discard:
    """
    One dropped sample and the evidence for dropping it (never its value alone).
    """

    reason: str
    time_us: float
    clock_mhz: float | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """
    The samples of one round, with the evidence that came with them.

    Attributes:
        times_us: Kept samples, microseconds per call, in the order measured (sorted when stored).
        discarded: Dropped samples with their evidence.
        first_us: First launch of each burst, reported apart (launch timer only).
        clock_mhz: SM clock read by the canary beside each kept sample; empty without a GPU.
        slack_us: Per burst, host time from the last enqueue to the release: the proof that no host
            time entered; negative where it failed. Empty where nothing was blocked.
        nvml_clock_mhz, memory_clock_mhz, power_w, temperature_c: Read from the driver around the
            round; None where unknown.
        throttle: Names of the clock-limiting reasons that NVML reported around the round.
        foreign_processes: Other processes seen computing on the card around the round; where the
            driver does not tell who computes, those that are on it.
    """

    times_us: tuple[float, ...]
    discarded: tuple[Discard, ...] = ()
    first_us: tuple[float, ...] = ()
    clock_mhz: tuple[float, ...] = ()
    slack_us: tuple[float, ...] = ()
    nvml_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    throttle: tuple[str, ...] = ()
    foreign_processes: int = 0


class _Referable:
    """
    Lets what is worked out of a record live as long as it does; Python 3.10 has no `weakref_slot`.
    """

    __slots__ = ("__weakref__",)


@dataclass(frozen=True, slots=True)
class Process(_Referable):
    """
    One process's rounds: the unit of inference.

    Attributes:
        id: Random, unique; two records with the same id are the same measurement. Of its 32 digits
            the first half is common to all that one operating-system process measured.
        started: UTC, ISO 8601, seconds.
        commit: Revision of the tested project, "" if unknown, "+dirty" appended if changed.
        who: Who recorded it, "" if unknown.
    """

    id: str
    started: str
    environment: Environment
    rounds: tuple[Round, ...]
    commit: str = ""
    who: str = ""

    @property
    def has_samples(self) -> bool:
        """
        Whether a sample was kept.
        """
        return any(each.times_us for each in self.rounds)

    @property
    def origin(self) -> str:
        """
        The operating-system process: what it measured again is no second witness.
        """
        # Other ids, and those of earlier revisions, have nothing in common.
        return self.id[:16] if len(self.id) == 32 else self.id

    def signed(self, commit: str, who: str) -> Process:
        """
        Return it as measured at a revision, by somebody.
        """
        return replace(self, commit=commit, who=who)


@dataclass(frozen=True, slots=True)
class Problem:
    """
    Why a measurement is INVALID: stable code and a sentence with the cure.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Checks:
    """
    What was checked on the timed calls.
    """

    outputs_checked: int = 0
    max_abs_difference: float | None = None
    inputs_checked: int = 0
    poisoned: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """
    Everything one run learned about one case with one timer: raw and complete.

    Attributes:
        method: How the timer did it: "graph", "stream", "unblocked", "cupti", "events",
            "event-sync" (wall on CUDA) or "host-clock" (wall on CPU). Part of the identity.
        notes: Sentences a reader must see (fallbacks, odd findings), stable order.
        problem: Set if the measurement is INVALID; its times then mean nothing.
        work: Set if the test counted its operations or bytes.
    """

    case: Case
    plan: Plan
    method: str
    processes: tuple[Process, ...]
    kernels: tuple[Kernel, ...] = ()
    checks: Checks = Checks()
    notes: tuple[str, ...] = ()
    problem: Problem | None = None
    work: Work | None = None

    @property
    def way(self) -> Way:
        """
        How it was measured.
        """
        return Way(self.case.inputs, self.method, self.plan.pinned)

    @property
    def has_samples(self) -> bool:
        """
        Whether a sample of any process was kept.
        """
        return any(each.has_samples for each in self.processes)

    @property
    def is_usable(self) -> bool:
        """
        Whether it has times, and they mean something.
        """
        return self.problem is None and self.has_samples

    @property
    def times_us(self) -> tuple[float, ...]:
        """
        All kept samples, in the order taken.
        """
        rounds = (one for process in self.processes for one in process.rounds)
        return tuple(time_us for one in rounds for time_us in one.times_us)
