"""
Decides how much is measured, from an estimate: pure arithmetic, no clock and no GPU.

A plan is part of a measurement's identity: the first one is stored with the baseline and reused.
Calibrated anew in each process, counts differed and read 3-6 % apart on equal code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_kernelperf.errors import SubjectError
from pytest_kernelperf.measure.subject import Job, name_of
from pytest_kernelperf.model import Plan

#: Nodes enqueued behind the blocker; the launch queue holds about 1024 and must never run full.
MAX_NODES = 512
#: Bursts of about 1 ms with idle gaps between them stay under the power cap.
SAMPLE_US = 1000.0
#: At 2 ms of idle time, compute-bound kernels repeat to 0.2 %; 1 and 10 ms shift P50 by 1.5 %.
GAP_US = 2000.0
#: What a blocked sample costs besides its calls: canaries, enqueueing, release (0.3-1 ms).
SAMPLE_OVERHEAD_US = 1000.0
#: Host time of one launch on a slow host.
LAUNCH_OVERHEAD_US = 30.0
#: A burst of single launches may take this long: 100 launches of the largest kernel studied.
BURST_US = 5000.0
#: The first launch of a burst is dropped; with fewer than 5 that would waste more than a fifth.
MIN_BURST = 5
#: Copies leave most of the memory to the callable's own outputs and the allocator's slack.
COPY_SHARE = 0.4
#: The look just before copying allows for what was allocated since the plan was made.
LATER_COPY_SHARE = 0.5
#: Reuse distance beyond which no line of an input set is still in the L2 cache.
L2_TIMES = 2
DEFAULT_MAX_TIME_S = 5.0
#: Below these a median and its spread over rounds say too little.
MIN_SAMPLES, MIN_ROUNDS = 10, 3
#: On a CPU a round lasts about this long, longer where the tail is wanted (P99 needs 368 samples).
HOST_ROUND_US, HOST_TAIL_ROUND_US = 100_000.0, 400_000.0
HOST_SAMPLES = (20, 200)
#: Calls of a CPU's round beside its samples: one after each check, to warm the caches again, and
#: some on its new memory. (The first round has no new memory; its share pays for the untimed calls
#: that learned the output.)
HOST_CHECKS, HOST_RENEWALS = 4, 3
#: Callables compared side by side: at 10 rounds +2 % is told from equal (docs/verdicts.md).
SIDE_BY_SIDE_ROUNDS = 10
#: Samples per round and rounds, by timer and whether the tail is wanted.
_AMOUNTS = {
    ("device", False): (20, 5),
    ("device", True): (20, 5),
    ("launch", False): (200, 3),
    ("launch", True): (500, 5),
    ("wall", False): (200, 5),
    ("wall", True): (200, 5),
}


@dataclass(frozen=True)
class _Amount:
    """
    Samples per round and rounds, and what they cost.

    Attributes:
        cost_us: Of one sample.
        beside: Calls of each round that are no samples and cost the same.
        spent_us: Before the first round.
    """

    samples: int
    rounds: int
    cost_us: float
    beside: int = 0
    spent_us: float = 0.0

    @property
    def total_us(self) -> float:
        """
        What all of it takes.
        """
        return self.spent_us + self.rounds * (self.samples + self.beside) * self.cost_us


def choose_plan(
    timer: str,
    estimate_us: float,
    *,
    nodes_per_call: int,
    footprint_bytes: int,
    l2_bytes: int,
    free_bytes: int,
    cold: bool,
    rewrites: bool,
    job: Job,
    fn: object,
    copy_bytes: int | None = None,
) -> Plan:
    """
    Return the plan of one job on a GPU: the pinned one, or one that fits the callable.

    Args:
        timer: "device", "launch" or "wall".
        estimate_us: Time of one call on the device.
        nodes_per_call: Kernels, copies and memsets that one call enqueues.
        footprint_bytes: Bytes one call touches through its arguments; 0 = nothing to rotate.
        l2_bytes: Size of the card's L2 cache.
        free_bytes: Free device memory.
        cold: Input sets rotate so that none of them is still in the L2 cache.
        rewrites: Arguments are restored before each call, so a set is used once per sample.
        job: Explicit wishes, the pinned plan, the time limit.
        fn: The callable that takes the most memory, for messages.
        copy_bytes: Memory that one set of copies takes, where that is not the footprint.

    Raises:
        SubjectError: The input sets do not fit into memory.
    """
    copy_bytes = footprint_bytes if copy_bytes is None else copy_bytes
    if job.pinned is not None:
        plan = _with_wishes(job.pinned, job)
        refuse_too_large(plan.input_sets, copy_bytes, free_bytes, fn)
        return plan
    calls, burst = _calls(timer, estimate_us, nodes_per_call)
    sets_wanted = L2_TIMES * l2_bytes // footprint_bytes + 1 if cold and footprint_bytes else 1
    sets = max(1, min(sets_wanted, _most_sets(timer, calls, burst)))
    refuse_too_large(sets, copy_bytes, free_bytes, fn)
    if rewrites and timer != "wall":
        calls, burst, sets = _once_per_set(calls, burst, sets, copy_bytes, free_bytes)
    gap_us = 0.0 if timer == "wall" or job.case.pace == "sustained" else GAP_US
    cost_us = _sample_cost_us(timer, estimate_us, calls, burst, gap_us)
    amount = _fitted(_Amount(*_default_amount(timer, job), cost_us), job)
    return Plan(calls, burst, gap_us, amount.samples, amount.rounds, sets)


def choose_host_plan(estimate_us: float, *, job: Job, spent_us: float = 0.0) -> Plan:
    """
    Return the plan of one job on a CPU: single calls, as many as the callable's time allows.

    Args:
        estimate_us: Time of one call.
        job: Explicit wishes, the pinned plan, the time limit.
        spent_us: Time that the warm-up took of the limit.
    """
    if job.pinned is not None:
        return _with_wishes(job.pinned, job)
    round_us = HOST_TAIL_ROUND_US if job.tail else HOST_ROUND_US
    round_us /= 2 if job.side_by_side else 1
    fewest, most = HOST_SAMPLES
    samples = max(fewest, min(most, int(round_us / max(estimate_us, 1e-3))))
    rounds = _default_amount("wall", job)[1]
    beside = HOST_CHECKS + HOST_RENEWALS
    amount = _fitted(_Amount(samples, rounds, estimate_us, beside, spent_us), job)
    return Plan(1, 1, 0.0, amount.samples, amount.rounds, 1)


def host_total_us(plan: Plan, estimate_us: float, spent_us: float) -> float:
    """
    Return what a plan takes on a CPU in all.
    """
    beside = min(plan.samples, HOST_CHECKS) + HOST_RENEWALS
    return _Amount(plan.samples, plan.rounds, estimate_us, beside, spent_us).total_us


def shortage(plan: Plan, timer: str, job: Job, *, total_us: float = 0.0) -> str | None:
    """
    Return a note if the time limit cut what would have been measured, else None.

    Args:
        plan: The one chosen.
        timer: Its timer.
        job: What was wanted.
        total_us: What the plan takes, where that is known.
    """
    if job.pinned is not None:
        return None
    samples, rounds = _default_amount(timer, job)
    if timer == "wall":
        samples = HOST_SAMPLES[0]
    fewer = []
    if job.samples is None and plan.samples < samples:
        fewer.append(f"{plan.samples} instead of {samples} samples per round")
    if job.rounds is None and plan.rounds < rounds:
        fewer.append(f"{plan.rounds} instead of {rounds} rounds")
    if not fewer:
        return None
    limit_s = job.max_time_s or DEFAULT_MAX_TIME_S
    cut = " and ".join(fewer)
    if total_us > 1e6 * limit_s:
        return (
            f"{cut}, the fewest that tell anything: they take about {total_us / 1e6:.2g} s, above "
            f"the time limit of {limit_s:g} s; a smaller input takes less, and so do samples= and "
            "rounds="
        )
    return f"{cut}, to stay near the time limit of {limit_s:g} s; raise max_time"


def _default_amount(timer: str, job: Job) -> tuple[int, int]:
    """
    Return samples per round and rounds.
    """
    samples, rounds = _AMOUNTS.get((timer, job.tail), _AMOUNTS["wall", job.tail])
    if timer == "device" and job.case.pace == "sustained":
        # Where the card is busy for most of a second before a round, its samples cost little.
        samples = 100
    if not job.side_by_side:
        return samples, rounds
    # Half the samples in twice the rounds: a ratio's noise is between rounds, and within one more
    # samples buy almost nothing.
    return max(MIN_SAMPLES, samples // 2), max(2 * rounds, SIDE_BY_SIDE_ROUNDS)


def _calls(timer: str, estimate_us: float, nodes_per_call: int) -> tuple[int, int]:
    """
    Return calls per sample and calls per burst.
    """
    most = max(1, MAX_NODES // max(1, nodes_per_call))
    estimate_us = max(estimate_us, 1e-3)
    if timer == "device":
        calls = max(1, min(most, round(SAMPLE_US / estimate_us)))
        return calls, calls
    if timer == "launch":
        return 1, min(most, max(MIN_BURST, min(100, int(BURST_US / estimate_us))))
    return 1, 1


def _most_sets(timer: str, calls: int, burst: int) -> int:
    """
    Return how many input sets can come round: those beyond a burst would never be used.
    """
    return {"device": calls, "launch": burst}.get(timer, MAX_NODES)


def _once_per_set(
    calls: int, burst: int, sets: int, copy_bytes: int, free_bytes: int
) -> tuple[int, int, int]:
    """
    Give each call of a burst a set of its own, or make fewer calls where memory ends.
    """
    fits = int(COPY_SHARE * free_bytes // copy_bytes) if copy_bytes else burst
    sets = max(sets, min(burst, fits))
    return min(calls, sets), min(burst, sets), sets


def _sample_cost_us(timer: str, estimate_us: float, calls: int, burst: int, gap_us: float) -> float:
    if timer == "device":
        return calls * estimate_us + gap_us + SAMPLE_OVERHEAD_US
    if timer == "launch":
        per_burst = burst * (estimate_us + LAUNCH_OVERHEAD_US) + gap_us + SAMPLE_OVERHEAD_US
        return per_burst / max(1, burst - 1)
    return estimate_us + LAUNCH_OVERHEAD_US


def _fitted(amount: _Amount, job: Job) -> _Amount:
    """
    Apply explicit wishes, then cut what was not wished for to the time limit: samples, then rounds.
    """
    limit_us = 1e6 * (job.max_time_s or DEFAULT_MAX_TIME_S)
    rounds = job.rounds or amount.rounds
    samples = job.samples or amount.samples
    affordable = (limit_us - amount.spent_us) / max(amount.cost_us, 1e-3)
    beside = amount.beside
    if job.samples is None and rounds * (samples + beside) > affordable:
        samples = min(samples, max(MIN_SAMPLES, int(affordable / rounds) - beside))
    if job.rounds is None and rounds * (samples + beside) > affordable:
        rounds = min(rounds, max(MIN_ROUNDS, int(affordable / (samples + beside))))
    return replace(amount, samples=samples, rounds=rounds)


def _with_wishes(plan: Plan, job: Job) -> Plan:
    return replace(plan, samples=job.samples or plan.samples, rounds=job.rounds or plan.rounds)


def refuse_too_large(
    sets: int, copy_bytes: int, free_bytes: int, fn: object, *, share: float = COPY_SHARE
) -> None:
    """
    Refuse copies that would not fit, before the allocator does.

    Raises:
        SubjectError: With what is needed and what is there.
    """
    if sets * copy_bytes <= share * free_bytes:
        return
    raise SubjectError(
        f"the copies of the tensor arguments of {name_of(fn)} do not fit: {sets} set(s) of "
        f"{copy_bytes / 2**20:.1f} MiB are needed, expected at most {share:.0%} of the "
        f"{free_bytes / 2**20:.1f} MiB of free device memory; use smaller inputs or l2='warm', or "
        "free memory before measuring"
    )
