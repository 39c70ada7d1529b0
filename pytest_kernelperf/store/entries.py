"""
Between a baseline file's document and the records of `model`.

What types can't say (known environments, positive times, keys that are keys) is checked here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median

import msgspec

from pytest_kernelperf.errors import BaselineFormatError
from pytest_kernelperf.model import Entry, Environment, Plan, Process, Reference, Round
from pytest_kernelperf.store.document import (
    CURE,
    SCHEMA_VERSION,
    Document,
    EntryDocument,
    LatestDocument,
    ProcessDocument,
    ReferenceDocument,
    RoundDocument,
)
from pytest_kernelperf.store.times import format_times, parse_times

TIMERS = ("device", "launch", "wall")
#: Shown beside each round for the reader of a diff. A device sample is a mean over many calls, so
#: it has no tail to show.
SHOWN_PERCENTILES = {"device": (50.0,), "launch": (50.0, 95.0, 99.0), "wall": (50.0, 95.0, 99.0)}

#: Percentile of one round, microseconds.
RoundPercentile = Callable[[Round, float], float]


def entry_from(document: Document, key: str, name: str) -> Entry:
    """
    Return one entry as a record.

    Raises:
        BaselineFormatError: If a value makes no sense; the message names file and place.
    """
    place = f'$.entries["{key}"]'
    try:
        timer_of(key)
        entry = document.entries[key]
        place = f'$.entries["{key}"].reference'
        reference = _reference(entry.reference, document.environments)
        place = f'$.entries["{key}"].latest'
        return Entry(reference, _latest(entry.latest, reference, document.environments))
    except ValueError as error:
        raise BaselineFormatError(f"{name} is damaged: {error} - at `{place}`; {CURE}") from error


def put_entry(document: Document, key: str, entry: Entry, percentile: RoundPercentile) -> None:
    """
    Write one entry into a document, in place of the one with that key.

    Args:
        document: Changed in place.
        key: `Case.key`.
        entry: What to store.
        percentile: Gives the figures that readers see beside each round.
    """

    def store(process: Process) -> ProcessDocument:
        environment = _stored_environment(process.environment)
        key_of_it = environment_id(environment)
        document.environments[key_of_it] = environment
        rounds = tuple(_round_document(r, timer_of(key), percentile) for r in process.rounds)
        return ProcessDocument(
            process.id,
            process.started,
            key_of_it,
            rounds,
            process.commit,
            _memory_clock_mhz(process),
            process.who,
        )

    reference = entry.reference
    document.entries[key] = EntryDocument(
        ReferenceDocument(
            reference.plan,
            reference.method,
            reference.inputs,
            tuple(store(process) for process in reference.processes),
            reference.kernels,
            {f"{q:g}": float(f"{margin:.4g}") for q, margin in reference.margins.items()},
        ),
        _latest_document(entry.latest, reference, store),
    )


def normalised(entry: Entry, key: str) -> Entry:
    """
    Return an entry as it will be read back: nothing is decided on digits that are not stored.
    """
    document = Document(SCHEMA_VERSION, {}, {})
    put_entry(document, key, entry, lambda _round, _q: 1.0)
    return entry_from(document, key, "<normalised>")


def timer_of(key: str) -> str:
    """
    Return the timer that an entry's key names.

    Raises:
        ValueError: If it is not a key.
    """
    _, bar, mode = key.rpartition(" | ")
    words = mode.split(" ")
    if not bar or len(words) != 3 or words[0] not in TIMERS:
        raise ValueError(f'{key!r} is not a key like "test_x[8] | device cold paced"')
    return words[0]


def environment_id(environment: Environment) -> str:
    """
    Return the name under which an environment is stored: a digest of its content.
    """
    content = msgspec.json.encode(environment, order="deterministic")
    return hashlib.sha256(content).hexdigest()[:8]


def _memory_clock_mhz(process: Process) -> float | None:
    # It never moves within a process: once is enough.
    known = [each.memory_clock_mhz for each in process.rounds if each.memory_clock_mhz]
    return _rounded(median(known), 4) if known else None


def _stored_environment(environment: Environment) -> Environment:
    # Probed anew by each process: without rounding no two processes would share an environment.
    return replace(
        environment,
        versions=dict(environment.versions),
        tick_us=float(f"{environment.tick_us:.4g}"),
        empty_interval_us=float(f"{environment.empty_interval_us:.2g}"),
    )


def _round_document(round_: Round, timer: str, percentile: RoundPercentile) -> RoundDocument:
    text = format_times(round_.times_us)
    stored = replace(round_, times_us=parse_times(text))
    shown = {f"p{q:g}": _rounded(percentile(stored, q), 5) for q in SHOWN_PERCENTILES[timer]}
    return RoundDocument(
        us=text,
        foreign=round_.foreign_processes,
        mhz=_rounded(median(round_.clock_mhz), 4) if round_.clock_mhz else None,
        # Read beside the round, not in it: of use only where the canary has nothing better.
        nvml_mhz=None if round_.clock_mhz else _rounded(round_.nvml_clock_mhz, 4),
        throttle=round_.throttle,
        w=_rounded(round_.power_w, 3),
        **shown,
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")


def _latest_document(
    latest: Reference | None, reference: Reference, store: Callable[[Process], ProcessDocument]
) -> LatestDocument | None:
    if latest is None:
        return None
    known = {process.id for process in reference.processes}
    return LatestDocument(
        processes=tuple(p.id if p.id in known else store(p) for p in latest.processes),
        plan=latest.plan if latest.plan != reference.plan else None,
        method=latest.method if latest.method != reference.method else None,
        inputs=latest.inputs if latest.inputs != reference.inputs else None,
        kernels=latest.kernels if latest.kernels != reference.kernels else None,
    )


def _reference(document: ReferenceDocument, environments: Mapping[str, Environment]) -> Reference:
    _check_plan(document.plan)
    return Reference(
        plan=document.plan,
        method=document.method,
        inputs=document.inputs,
        processes=_processes(document.processes, environments),
        kernels=document.kernels,
        margins={_percentile(q): margin for q, margin in document.margins.items()},
    )


def _latest(
    document: LatestDocument | None, reference: Reference, environments: Mapping[str, Environment]
) -> Reference | None:
    if document is None:
        return None
    known = {process.id: process for process in reference.processes}
    processes: list[Process] = []
    for process in document.processes:
        if isinstance(process, ProcessDocument):
            processes.extend(_processes((process,), environments))
        elif process in known:
            processes.append(known[process])
        else:
            raise ValueError(f"process {process!r} is not in the reference")
    _check_plan(document.plan or reference.plan)
    return Reference(
        plan=document.plan or reference.plan,
        method=document.method if document.method is not None else reference.method,
        inputs=document.inputs if document.inputs is not None else reference.inputs,
        processes=tuple(processes),
        kernels=document.kernels if document.kernels is not None else reference.kernels,
    )


def _processes(
    documents: Sequence[ProcessDocument], environments: Mapping[str, Environment]
) -> tuple[Process, ...]:
    if not documents:
        raise ValueError("there is no process")
    ids = [document.id for document in documents]
    if len(set(ids)) != len(ids):
        raise ValueError("two processes have the same id")
    return tuple(_process(document, environments) for document in documents)


def _process(document: ProcessDocument, environments: Mapping[str, Environment]) -> Process:
    if document.environment not in environments:
        raise ValueError(f"environment {document.environment!r} is not in $.environments")
    if not document.rounds:
        raise ValueError(f"process {document.id!r} has no rounds")
    return Process(
        id=document.id,
        started=document.started,
        environment=environments[document.environment],
        rounds=tuple(_round(each, document.mem_mhz) for each in document.rounds),
        commit=document.commit,
        who=document.who,
    )


def _round(document: RoundDocument, memory_clock_mhz: float | None) -> Round:
    return Round(
        times_us=parse_times(document.us),
        clock_mhz=() if document.mhz is None else (document.mhz,),
        nvml_clock_mhz=document.nvml_mhz,
        memory_clock_mhz=memory_clock_mhz,
        power_w=document.w,
        throttle=document.throttle,
        foreign_processes=document.foreign,
    )


def _check_plan(plan: Plan) -> None:
    counts = (plan.calls_per_sample, plan.burst, plan.samples, plan.rounds, plan.input_sets)
    if min(counts) < 1 or plan.gap_us < 0:
        raise ValueError(f"the plan has a count below 1 or a negative gap: {plan}")


def _percentile(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"margin for {text!r}: expected a percentile") from None
    if not 0 <= value <= 100:
        raise ValueError(f"margin for {text!r}: expected a percentile between 0 and 100")
    return value
