"""
The frozen records that cross rooms: they hold values and import nothing of ours.

Times are microseconds as float, clocks MHz, percentiles numbers between 0 and 100. A run is a list
of measurements; a measurement has processes, a process has rounds, a round has samples. A stored
reference has the same processes and rounds, so that analysis treats both sides alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any


class Status(str, Enum):
    """
    What a verdict says; the contract of product.md.
    """

    UNCHANGED = "UNCHANGED"
    IMPROVED = "IMPROVED"
    REGRESSED = "REGRESSED"
    MISSED_TARGET = "MISSED_TARGET"
    INCONCLUSIVE = "INCONCLUSIVE"
    NO_BASELINE = "NO_BASELINE"
    INCOMPARABLE = "INCOMPARABLE"
    INVALID = "INVALID"
    NOT_MEASURED = "NOT_MEASURED"


#: Statuses that fail a test whatever the options say.
FAILING = frozenset({Status.REGRESSED, Status.MISSED_TARGET, Status.INVALID, Status.NOT_MEASURED})
#: Statuses that fail a test under `--kernelperf-strict` only.
FAILING_STRICT = frozenset({Status.INCONCLUSIVE, Status.NO_BASELINE, Status.INCOMPARABLE})
#: Statuses that judged nothing; the last line of a run counts them apart.
NOT_JUDGED = frozenset(
    {
        Status.INCONCLUSIVE,
        Status.NO_BASELINE,
        Status.INCOMPARABLE,
        Status.INVALID,
        Status.NOT_MEASURED,
    }
)


@dataclass(frozen=True, slots=True)
class Case:
    """
    What was measured: the identity under which a baseline is stored.

    Attributes:
        file: The test file, relative to the anchor, with forward slashes.
        test: The test's name with parameters, inside the file (`Class::test_x[8-fp16]`).
        name: The measurement's name within the test; "" for the only one.
        timer: "device", "launch" or "wall"; "compile" where nothing was timed.
        l2: "cold" or "warm" ("warm" on a CPU, where it means nothing); compiled kernels' target.
        pace: "paced" or "sustained".
        inputs: One line per tensor argument: dtype, shape, stride, device type.
    """

    file: str
    test: str
    name: str
    timer: str
    l2: str
    pace: str
    inputs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """
        The entry's key in its baseline file.
        """
        name = f" {self.name}" if self.name else ""
        return f"{self.test}{name} | {self.timer} {self.l2} {self.pace}"

    @property
    def regime(self) -> str:
        """
        What shares one kind of noise: the timer, or "sustained" whatever the timer.
        """
        return self.pace if self.pace == "sustained" else self.timer

    @property
    def label(self) -> str:
        """
        What tables and messages call the case.
        """
        name = f" {self.name}" if self.name else ""
        return f"{self.file}::{self.test}{name}"


@dataclass(frozen=True, slots=True)
class Plan:
    """
    How much is measured and how: part of the identity, pinned by the baseline and reused.

    Attributes:
        calls_per_sample: Calls between the two events of one sample (1 for launch and wall).
        burst: Calls enqueued between two idle gaps (equals calls_per_sample for device).
        gap_us: Idle time between bursts.
        samples: Samples kept per round.
        rounds: Rounds per process; each has new tensors and a new graph.
        input_sets: Rotating copies of the tensor arguments (1 = always the same memory).
    """

    calls_per_sample: int
    burst: int
    gap_us: float
    samples: int
    rounds: int
    input_sets: int


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


@dataclass(frozen=True, slots=True)
class Gpu:
    """
    One card, as far as it can change a time.
    """

    name: str
    uuid: str
    sm_count: int
    compute_capability: str
    memory_bytes: int
    l2_bytes: int
    mig: str = ""
    ecc: bool | None = None
    power_limit_w: float | None = None
    max_sm_clock_mhz: float | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """
    Where a process measured.

    Differences in versions are shown, those in the card's state are refused.

    Attributes:
        gpu: The card, or None for a CPU measurement.
        cpu: The processor's model name.
        versions: Of python, torch, triton, cuda, driver, pytest_kernelperf: name to version.
        tick_us: Smallest step of the timer that was seen; 0.0 if unknown.
        empty_interval_us: What the timer reads with nothing in between.
        blocker: "wait-value", "polling-kernel" or "none".
    """

    gpu: Gpu | None
    cpu: str
    versions: Mapping[str, str] = field(default_factory=dict)
    tick_us: float = 0.0
    empty_interval_us: float = 0.0
    blocker: str = "none"

    @property
    def card(self) -> str:
        """
        The card's UUID; the processor's name where there is no card.
        """
        return self.gpu.uuid if self.gpu else self.cpu

    @property
    def device_name(self) -> str:
        """
        The model's name that baselines are filed under.
        """
        return self.gpu.name if self.gpu else f"cpu {self.cpu}"


@dataclass(frozen=True, slots=True)
class Process:
    """
    One process's rounds: the unit of inference.

    Attributes:
        id: Random, unique; two records with the same id are the same measurement.
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

    def signed(self, commit: str, who: str) -> Process:
        """
        Return it as measured at a revision, by somebody.
        """
        return replace(self, commit=commit, who=who)


@dataclass(frozen=True, slots=True)
class Kernel:
    """
    One GPU kernel that a call launches, with what the compiler produced where it is known.

    Attributes:
        registers: Per thread, at launch.
        spills: Bytes per thread that the compiler had to keep in local memory.
        shared_bytes: Static and dynamic shared memory per block.
        code_hash: Of the machine code alone: no paths, no line tables.
        target: "sm_90": what it was compiled for.
        static_shared_bytes: The static part of `shared_bytes`.
        threads: Per block.
        warps_per_sm: Warps that fit on one multiprocessor at once.
        instructions: Class to number in the machine code, see `resources.disassembly`.
        warnings: What the assembler said that costs speed, such as serialised wgmma.
        grid: Blocks along x, y, z.
        constants: Compile-time constants, the tile among them: name to value as text.
        compiler: "triton 3.6.0, ptxas 12.8.93".
    """

    name: str
    registers: int | None = None
    spills: int | None = None
    shared_bytes: int | None = None
    code_hash: str = ""
    target: str = ""
    static_shared_bytes: int | None = None
    threads: int | None = None
    warps_per_sm: int | None = None
    instructions: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    grid: tuple[int, ...] = ()
    constants: Mapping[str, str] = field(default_factory=dict)
    compiler: str = ""


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """
    What a test allows the compiler to use, for every kernel of a call.

    Attributes:
        spills, registers, shared_bytes, warnings: The most of each; None = no limit.
        instructions: Class to (least, most) over all kernels of a call; None = open.
        targets: What to compile for without a GPU; empty = chosen by `requires`.
    """

    spills: int | None = None
    registers: int | None = None
    shared_bytes: int | None = None
    warnings: int | None = None
    instructions: Mapping[str, tuple[int | None, int | None]] = field(default_factory=dict)
    targets: tuple[str, ...] = ()


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
class Peaks:
    """
    What a card can't exceed: units times clock, width times clock. None where that is not known.

    Attributes:
        tflops: Dense 16-bit matrix operations at the highest clock, 10^12 a second.
        gbs: Memory bandwidth, 10^9 bytes a second.
        narrowest_tflops: As `tflops`, in the fastest format that it has.
    """

    tflops: float | None = None
    gbs: float | None = None
    narrowest_tflops: float | None = None


@dataclass(frozen=True, slots=True)
class Ceilings:
    """
    What a card reached when it was asked to (`kernelperf doctor --ceilings`).

    Attributes:
        copy_gbs: Bytes read plus bytes written by a large copy, 10^9 a second.
        matmul_tflops: Dtype of the inputs to 10^12 operations a second in a large product.
        empty_kernel_us: GPU time of a kernel that does nothing, one after the other in a graph.
        taken: Day, ISO 8601.
        versions: Of torch, CUDA and driver.
    """

    copy_gbs: float
    matmul_tflops: Mapping[str, float]
    empty_kernel_us: float
    taken: str
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """
    What one call does at least, as its test counts it, and the card's limits that it is held to.

    Attributes:
        flops: Floating-point operations.
        moved_bytes: Bytes read plus bytes written, each once.
        cold_bytes: How many of them a cold call must fetch from memory; 0.0 if inputs are warm.
        operands: Dtypes that it multiplies in; None if that can't be seen.
        peaks: What the card can't exceed; None where there is no card.
        ceilings: What it reached; None if nobody measured it.
    """

    flops: float | None = None
    moved_bytes: float | None = None
    cold_bytes: float = 0.0
    operands: tuple[str, ...] | None = None
    peaks: Peaks | None = None
    ceilings: Ceilings | None = None


@dataclass(frozen=True, slots=True)
class Roofline:
    """
    How much of its card's limit a measured call uses.

    Attributes:
        tflops: 10^12 operations a second; None if nobody counted them.
        gbs: 10^9 bytes a second.
        limit: The one that binds: "compute", "memory" or "launch"; "" if none is known.
        share: The least time that this limit allows, over the measured time.
        against: "measured" ceilings, "theoretical" peaks, or "".
    """

    tflops: float | None = None
    gbs: float | None = None
    limit: str = ""
    share: float | None = None
    against: str = ""


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


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What a test asks of one measurement.

    Attributes:
        percentiles: Judged against the baseline, ascending.
        targets_us: Percentile to limit, microseconds per item (see `per`).
        per: Items per call; times are divided by it before they meet a target.
        max_regression: Percentile to margin as a fraction; missing = from measured noise.
    """

    percentiles: tuple[float, ...] = (50.0,)
    targets_us: Mapping[float, float] = field(default_factory=dict)
    per: float = 1.0
    max_regression: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reference:
    """
    What a baseline holds of one case: processes of one plan and method.

    Attributes:
        margins: Percentile to the margin that its measured noise supports, stored and shown.
    """

    plan: Plan
    method: str
    inputs: tuple[str, ...]
    processes: tuple[Process, ...]
    kernels: tuple[Kernel, ...] = ()
    margins: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One baseline entry: what is judged against, and what was measured last.
    """

    reference: Reference
    latest: Reference | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """
    A two-sided 95 % interval.
    """

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    The judgement of one percentile of one measurement.

    Attributes:
        reason: Stable code in capitals (see docs/verdicts.md).
        sentence: What a person should know and do.
        time_us: The percentile, per call; None if it can't be had.
        interval_us: Its own interval from this run's samples; None if they are too few.
        baseline_us: The reference's percentile.
        change: Relative change, 0.03 = 3 % slower.
        change_interval: The interval that decides.
        margin: The change that is too much.
        detectable: The smallest true slowdown that the gate finds with 95 % probability, at this
            margin and with all looks taken.
        target_us: The limit per item; `per` as in Limits.
        target_met: True, False, or None where there is no target or the interval straddles it.
        judged: False for percentiles that are only shown.
        roofline: At P50, if the test counted its operations or bytes.
    """

    case: Case
    percentile: float
    status: Status
    reason: str
    sentence: str
    time_us: float | None = None
    interval_us: Interval | None = None
    baseline_us: float | None = None
    change: float | None = None
    change_interval: Interval | None = None
    margin: float | None = None
    detectable: float | None = None
    target_us: float | None = None
    per: float = 1.0
    target_met: bool | None = None
    judged: bool = True
    roofline: Roofline | None = None


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
class Compiled:
    """
    What the compiler made of one measurement's kernels for one target, and what was said of it.

    Attributes:
        case: Its timer is "compile" and its l2 the target: nothing was timed.
        kernels: In the order launched.
        failure: Why a kernel did not compile; "" if all did.
        verdict: None until it is judged.
    """

    case: Case
    kernels: tuple[Kernel, ...]
    failure: str = ""
    verdict: Verdict | None = None


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


class Standing(str, Enum):
    """
    How a callable of a `compare` stands to the reference, by the whole interval of its speed-up.
    """

    REFERENCE = "reference"
    FASTER = "faster"
    SLOWER = "slower"
    ALIKE = "alike"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Ratio:
    """
    One callable of a `compare`, against the reference callable of the same run.

    Attributes:
        speedup: Reference's time over this one's: 1.25 = 25 % faster than the reference.
        max_abs_difference: Largest difference between the two outputs; None if nobody looked.
        standing: What the interval says, whether or not anything was asked.
        min_speedup: The least speed-up that was asked for; None if none was.
        verdict: Whether it was reached; None where nothing was asked.
    """

    name: str
    time_us: float
    speedup: float
    speedup_interval: Interval
    max_abs_difference: float | None = None
    standing: Standing = Standing.UNSURE
    min_speedup: float | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    Callables measured interleaved in one run.

    Attributes:
        ratios: Empty where the comparison is INVALID.
        problem: Why it is: a callable's own problem, or outputs that disagree.
        min_speedup: What was asked: callable's name to the least speed-up over the reference.
    """

    label: str
    reference: str
    ratios: tuple[Ratio, ...]
    case: Case | None = None
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    problem: Problem | None = None
    min_speedup: Mapping[str, float] = field(default_factory=dict)

    @property
    def failure(self) -> Verdict | None:
        """
        The INVALID verdict that a problem is; None without one.
        """
        if self.problem is None or self.case is None:
            return None
        return Verdict(
            self.case, 50.0, Status.INVALID, self.problem.code, sentence=self.problem.message
        )

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """
        One verdict per callable of which something was asked, or the problem's alone.
        """
        if self.failure is not None:
            return (self.failure,)
        return tuple(ratio.verdict for ratio in self.ratios if ratio.verdict)


@dataclass(frozen=True, slots=True)
class Contrast:
    """
    Two inputs of a `data_independence`, at one percentile.

    Attributes:
        difference: Slower over faster, relative: 0.01 = 1 % slower.
        interval: Of the difference.
        supported: The smallest bound that the difference is shown to stay below.
        clock_difference: SM clock on the slower input over that on the faster; None if unknown.
    """

    percentile: float
    slower: str
    faster: str
    slower_us: float
    faster_us: float
    difference: float
    interval: Interval
    supported: float
    clock_difference: float | None = None


@dataclass(frozen=True, slots=True)
class Independence:
    """
    One callable measured interleaved on inputs of one shape and different content.

    Attributes:
        bounds: Percentile to the relative difference that no two inputs may reach.
        contrasts: Every two inputs at every percentile; empty where it is INVALID.
        verdicts: One per percentile, on the two inputs that are most apart.
    """

    label: str
    case: Case
    bounds: Mapping[float, float]
    contrasts: tuple[Contrast, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    problem: Problem | None = None

    @property
    def failure(self) -> Verdict | None:
        """
        The INVALID verdict that a problem is; None without one.
        """
        if self.problem is None:
            return None
        return Verdict(
            self.case, 50.0, Status.INVALID, self.problem.code, sentence=self.problem.message
        )

    def supported(self, percentile: float) -> float | None:
        """
        Return the smallest bound that the data support at a percentile; None if nothing was seen.
        """
        found = [each.supported for each in self.contrasts if each.percentile == percentile]
        return max(found, default=None)


@dataclass(frozen=True, slots=True)
class UpdateMode:
    """
    What the user allowed an update to do.

    Attributes:
        new_only: Only add entries where there is none (`--kernelperf-update-new`).
        accept_regressions: Let a reference move to a slower measurement.
    """

    new_only: bool = False
    accept_regressions: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """
    What an update did with one case, or why it did nothing.

    Attributes:
        action: "added", "moved", "extended", "kept" (reference untouched) or "refused".
        sentence: Why, and what to do if it is not what was wanted.
        before_us: Percentile to the reference's time before; empty if there was none.
        after_us: Percentile to the time after: the new reference's, or what "kept" measured.
    """

    case: Case
    action: str
    sentence: str
    before_us: Mapping[float, float] = field(default_factory=dict)
    after_us: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """
    All that one update did: the files it wrote, in order, and one change per case.
    """

    written: tuple[str, ...]
    changes: tuple[Change, ...]


class Level(str, Enum):
    """
    What a finding about a machine means for measurements on it.

    OK: as it should be. NOTE: worth knowing, measurements are right. BAD: they can't be trusted.
    """

    OK = "OK"
    NOTE = "NOTE"
    BAD = "BAD"


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What one probe of a machine found, or why it found nothing.

    Attributes:
        facts: By name; empty where the probe does not apply.
        failure: The error, the time-out or the crash in words; "" if it went well.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing that `kernelperf doctor` says.

    Attributes:
        cure: What to do about it; "" if nothing.
    """

    topic: str
    level: Level
    text: str
    cure: str = ""
