"""
Two recorded runs, or a run and baselines, side by side: what they share is judged, case by case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.model import (
    Case,
    Entry,
    Limits,
    Measurement,
    Recorded,
    Reference,
    Verdict,
)
from pytest_kernelperf.store.anchor import slug as slug_of
from pytest_kernelperf.store.baselines import Baselines, Stored
from pytest_kernelperf.store.runs import is_run, read_run

#: A case on one card model: slug, test file, key.
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Side:
    """
    What one side holds.

    Attributes:
        name: As the user wrote it.
        cases: By card model, file and key; each with what its test asks.
        left_out: Sentences on what could not be used.
    """

    name: str
    cases: Mapping[Key, tuple[Measurement, Limits]]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SideBySide:
    """
    Two sides paired.

    Attributes:
        verdicts: Of every case that both have; `baseline_us` is the first side's time.
        only_before, only_after: Labels of cases that one side has alone.
    """

    verdicts: tuple[Verdict, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]


def read_side(path: Path) -> Side:
    """
    Read a recorded run, a folder of baselines, or one file of it.

    Raises:
        OptionsError: If there is nothing there, or nothing measured in it.
        KernelPerfError: If it can't be read.
    """
    if not path.exists():
        raise OptionsError(f"there is no {path}; expected a recorded run or baselines")
    side = _run_side(path) if path.is_file() and is_run(path) else _baseline_side(path)
    if not side.cases:
        raise OptionsError(f"{path} holds no measurement; expected at least one to compare")
    return side


def compare_sides(before: Side, after: Side) -> SideBySide:
    """
    Judge every case of `after` against the same case of `before`.

    Raises:
        OptionsError: If the sides were measured on different card models, or share no case.
    """
    from pytest_kernelperf.analysis import explained, judge, noise_from

    models = [{key[0] for key in side.cases} for side in (before, after)]
    if not models[0] & models[1]:
        raise OptionsError(
            f"{before.name} was measured on {', '.join(sorted(models[0]))}, {after.name} on "
            f"{', '.join(sorted(models[1]))}: times of different card models say nothing about "
            "the code; record both on one model"
        )
    shared = [key for key in after.cases if key in before.cases]
    if not shared:
        raise OptionsError(
            f"{before.name} and {after.name} share no case: expected the same tests, measured "
            "with the same timer, l2 and pace"
        )
    references = {key: Reference.of(one, one.processes) for key, (one, _) in before.cases.items()}
    # One card model says nothing about the noise of another.
    noises = {
        model: noise_from(
            (before.cases[key][0].case.regime, references[key])
            for key in references
            if key[0] == model
        )
        for model in {key[0] for key in shared}
    }
    verdicts: list[Verdict] = []
    for key in shared:
        measurement, limits = after.cases[key]
        # A target says nothing about the other side.
        asked = replace(limits, targets_us={})
        found = judge(measurement, Entry(references[key]), asked, noises[key[0]])
        verdicts.extend(explained(each, measurement, references[key]) for each in found)
    return SideBySide(tuple(verdicts), _alone(before, after.cases), _alone(after, before.cases))


def _alone(side: Side, other: Mapping[Key, object]) -> tuple[str, ...]:
    return tuple(f"{key[1]}::{key[2]} ({key[0]})" for key in side.cases if key not in other)


def _run_side(path: Path) -> Side:
    cases: dict[Key, tuple[Measurement, Limits]] = {}
    left_out: list[str] = []
    for recorded in read_run(path).recorded:
        measurement = recorded.measurement
        why = _unfit(recorded)
        if why:
            left_out.append(f"{measurement.case.label} is left out: {why}")
            continue
        slug = slug_of(measurement.processes[0].environment.device_name)
        key = (slug, measurement.case.file, measurement.case.key)
        known = cases.get(key, (measurement, recorded.limits))[0]
        if known.way != measurement.way:
            left_out.append(f"{measurement.case.label}: a process with another plan is left out")
            continue
        processes = {each.origin: each for each in (*known.processes, *measurement.processes)}
        joined = replace(measurement, processes=tuple(processes.values()))
        cases[key] = (joined, recorded.limits)
    return Side(str(path), cases, tuple(left_out))


def _unfit(recorded: Recorded) -> str:
    if recorded.measurement.problem is not None or not recorded.measurement.processes:
        return "its measurement was INVALID"
    return "" if recorded.body_passed else "its test failed in its own body"


def _baseline_side(path: Path) -> Side:
    found: dict[Key, tuple[Measurement, Limits]] = {}
    for stored in _stored(path):
        percentiles = tuple(sorted(stored.entry.reference.margins)) or (50.0,)
        key = (stored.slug, stored.file, stored.key)
        found[key] = (_measurement(stored), Limits(percentiles))
    return Side(str(path), found)


def _stored(path: Path) -> Iterable[Stored]:
    root = next(
        (each for each in (path, *path.absolute().parents) if each.name == "baselines"), path
    )
    if root.is_file():
        raise OptionsError(
            f"{path} is neither a recorded run nor a file in a folder called baselines"
        )
    store = Baselines(root.absolute())
    below = path.absolute()
    for slug in store.slugs():
        for stored in store.entries(slug):
            place = store.path(slug, stored.file)
            if below in (place, *place.parents):
                yield stored


def _measurement(stored: Stored) -> Measurement:
    """
    Return a stored reference as a measurement, to be judged like one.
    """
    test, _, way = stored.key.rpartition(" | ")
    timer, l2, pace = way.split(" ")
    reference = stored.entry.reference
    return Measurement(
        case=Case(stored.file, test, "", timer, l2, pace, reference.inputs),
        plan=reference.plan,
        method=reference.method,
        processes=reference.processes,
        kernels=reference.kernels,
    )
