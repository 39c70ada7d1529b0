"""
From a calibration's folder to its proof: lines up the recorded processes and has them replayed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_kernelperf.analysis.proof import Proof
from pytest_kernelperf.analysis.replay import LEAST_PROCESSES, Series, Slowed, prove
from pytest_kernelperf.calibration.folder import Folder
from pytest_kernelperf.calibration.injection import CaseDiallings, case_key, slowed_name
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


def proof_of(folder: Folder) -> Proof:
    """
    Return what a folder's processes prove.

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
            f"{LEAST_PROCESSES}: five for a baseline and one to judge; run the same command again "
            "with more --processes or --budget-seconds, it goes on where it was"
        )
    series, left_out = _lined_up(taken, folder.diallings())
    return Proof(
        device_name=manifest.machine.device_name,
        program=manifest.asked.program,
        date=max(p.started for each in series for m in each.unslowed for p in m.processes),
        versions=manifest.machine.versions,
        cases=prove(series),
        left_out=tuple(left_out),
    )


def _process(unslowed: Run, slowed: Run | None) -> _Process:
    passed = [each for each in unslowed.recorded if each.body_passed]
    return _Process(
        {case_key(each.measurement): each for each in passed if _has_times(each.measurement)},
        {case_key(each.measurement): each.measurement for each in slowed.recorded if slowed}
        if slowed
        else {},
    )


def _lined_up(
    taken: Sequence[_Process], diallings: Mapping[str, CaseDiallings]
) -> tuple[list[Series], list[str]]:
    """
    Return a series per case, and what was left out.
    """
    keys = dict.fromkeys(key for process in taken for key in process.unslowed)
    series, left_out = [], []
    for key in keys:
        present = [each for each in taken if key in each.unslowed]
        plan = Counter(_how(each.unslowed[key].measurement) for each in present).most_common(1)[0]
        alike = [each for each in present if _how(each.unslowed[key].measurement) == plan[0]]
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


def _how(measurement: Measurement) -> tuple[object, ...]:
    return measurement.plan, measurement.method, measurement.case.inputs


def _has_times(measurement: Measurement) -> bool:
    rounds = [one for process in measurement.processes for one in process.rounds]
    return measurement.problem is None and any(one.times_us for one in rounds)
