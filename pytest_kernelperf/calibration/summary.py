"""
From a calibration's folder to its proof: lines up the recorded processes and has them replayed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from pytest_kernelperf.analysis.proof import Proof, joined
from pytest_kernelperf.analysis.replay import (
    ENOUGH_PROCESSES,
    LEAST_PROCESSES,
    Series,
    Slowed,
    across,
    prove,
)
from pytest_kernelperf.calibration.folder import Folder, Machine
from pytest_kernelperf.calibration.order import CaseDiallings, case_key, slowed_name
from pytest_kernelperf.errors import KernelPerfError
from pytest_kernelperf.model import Limits, Measurement, Recorded
from pytest_kernelperf.store.runs import Run
from pytest_kernelperf.units import counted


@dataclass(frozen=True, slots=True)
class _Process:
    """
    What one process recorded, by case key.
    """

    unslowed: Mapping[str, Recorded]
    slowed: Mapping[str, Measurement]


@dataclass(frozen=True, slots=True)
class Gathered:
    """
    One folder's records, lined up.

    Attributes:
        machine: What measured.
        program: Version of pytest_kernelperf.
        series: By case.
        left_out: What can't be used, and why.
    """

    machine: Machine
    program: str
    series: tuple[Series, ...]
    left_out: tuple[str, ...]


def gather(folder: Folder) -> Gathered:
    """
    Read a folder and line its processes up, case by case.

    Raises:
        KernelPerfError: If it holds too few of them, or can't be read.
    """
    manifest = folder.read_manifest()
    if manifest is None or manifest.machine is None:
        raise KernelPerfError(
            f"{folder.path} holds no calibration; expected a folder that `kernelperf calibrate "
            "--out` has filled"
        )
    taken = [_process(*runs) for runs in folder.runs()]
    if len(taken) < LEAST_PROCESSES:
        raise KernelPerfError(
            f"{folder.path} holds {counted(len(taken), 'process', 'processes')}; expected at least "
            f"{LEAST_PROCESSES}: five for a baseline and three to judge; run the same command "
            "again with more --processes or --budget-seconds, it goes on where it was"
        )
    series, left_out = _lined_up(taken, folder.diallings())
    if len(taken) < ENOUGH_PROCESSES:
        left_out.append(
            f"looks at five processes: {len(taken)} were recorded, {ENOUGH_PROCESSES} are needed"
        )
    commits = sorted({each for one in taken for each in _commits(one)})
    if len(commits) > 1:
        left_out.append(
            f"one state of the code: recorded at {', '.join(commits)}; what changed of the tested "
            "code between them counts as false alarms"
        )
    return Gathered(manifest.machine, manifest.asked.program, tuple(series), tuple(left_out))


def proof_of(gathered: Gathered) -> Proof:
    """
    Return what the processes of one folder prove.
    """
    started = [p.started for one in gathered.series for m in one.unslowed for p in m.processes]
    return Proof(
        device_name=gathered.machine.device_name,
        program=gathered.program,
        date=max(started, default=""),
        versions=gathered.machine.versions,
        cases=prove(gathered.series),
        left_out=gathered.left_out,
    )


def proof_of_all(folders: Sequence[Gathered]) -> Proof:
    """
    Return what several folders prove together, and each card against the baselines of the others.

    Raises:
        KernelPerfError: If they are of two card models or two versions of the program.
    """
    proof = joined([proof_of(each) for each in folders])
    counts: Counter[str] = Counter()
    for ours, theirs in permutations(folders, 2):
        if ours.machine.card != theirs.machine.card:
            counts.update(across(ours.series, theirs.series))
    return replace(proof, across_cards=dict(sorted(counts.items())))


def _commits(process: _Process) -> set[str]:
    measurements = [each.measurement for each in process.unslowed.values()]
    return {each.commit for one in measurements for each in one.processes if each.commit}


def _process(unslowed: Run, slowed: Run | None) -> _Process:
    passed = [each for each in unslowed.recorded if each.body_passed]
    measured = [each.measurement for each in slowed.recorded] if slowed else []
    return _Process(
        {case_key(each.measurement): each for each in passed if each.measurement.is_usable},
        {case_key(each): each for each in measured},
    )


def _lined_up(
    taken: Sequence[_Process], diallings: Mapping[str, CaseDiallings]
) -> tuple[list[Series], list[str]]:
    """
    Return a series per case, and what was left out.
    """
    # Sorted, since each process has its own order.
    keys = sorted({key for process in taken for key in process.unslowed})
    series, left_out = [], []
    for key in keys:
        present = [each for each in taken if key in each.unslowed]
        ways = [each.unslowed[key].measurement.way for each in present]
        way = Counter(ways).most_common(1)[0][0]
        alike = [each for each in present if each.unslowed[key].measurement.way == way]
        if len(alike) < len(taken):
            missing = counted(len(taken) - len(alike), "process", "processes")
            left_out.append(f"{key}: {missing} failed it, or measured it another way")
        if len(alike) < LEAST_PROCESSES:
            left_out.append(f"{key}: {counted(len(alike), 'process', 'processes')} are too few")
            continue
        dialled = diallings.get(key, CaseDiallings(0.0))
        left_out += [f"{key}: no slowdown of {why}" for why in dialled.missing]
        series.append(_series(key, alike, dialled))
    return series, left_out


def _series(key: str, taken: Sequence[_Process], dialled: CaseDiallings) -> Series:
    recorded = [each.unslowed[key] for each in taken]
    slowed = []
    for dialling in dialled.found:
        case = recorded[0].measurement.case
        name = slowed_name(case.name, dialling.size)
        slowed_key = f"{case.file}::{replace(case, name=name).key}"
        measurements = tuple(each.slowed.get(slowed_key) for each in taken)
        slowed.append(Slowed(dialling.size, dialling.way, dialling.measured, measurements))
    limits: Limits = recorded[0].limits
    return Series(limits, tuple(each.measurement for each in recorded), tuple(slowed))
