"""
What a run keeps on pytest's own objects, and what it can tell from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import pytest

from pytest_kernelperf.bench import Place, Room
from pytest_kernelperf.fixture import KernelPerf
from pytest_kernelperf.gpuless import GpulessBench
from pytest_kernelperf.model import Case, Plan
from pytest_kernelperf.options import MARKER, Options
from pytest_kernelperf.outcome import Outcome
from pytest_kernelperf.processes.escalation import Workers


@dataclass
class Body:
    """
    How far a test's own body has come.

    Attributes:
        is_running: From its first line to its last.
        has_failed_subtest: pytest lets the test go on after one.
        passed: It came to its end, and nothing in it failed.
    """

    is_running: bool = True
    has_failed_subtest: bool = False
    passed: bool = False


class Served(Protocol):
    """
    What a fresh process knows of the run that started it.
    """

    plans: Mapping[Case, Plan]


#: A test's fixture object, and the state of its body.
FIXTURE = pytest.StashKey[KernelPerf]()
BODY = pytest.StashKey[Body]()
#: The verdict that failed a test, in one line.
HEADLINE = pytest.StashKey[str]()
#: What `requires=` found missing.
MISSING = pytest.StashKey[str]()
#: The measuring room; a conftest of our own tests puts a scripted one here.
ROOM = pytest.StashKey[Room]()
#: A marked test's merged options.
OPTIONS = pytest.StashKey[Options]()
#: What compiles a test's kernels, where it runs on pretended GPUs.
GPULESS = pytest.StashKey[GpulessBench]()
#: Only in a fresh process of another run.
SERVING = pytest.StashKey[Served]()
#: The fresh processes; a conftest of our own tests puts scripted ones here.
WORKERS = pytest.StashKey[Workers]()


def room_of(config: pytest.Config) -> Room:
    """
    Return the measuring room: the real one, unless our own tests have put another there.
    """
    scripted = config.stash.get(ROOM, None)
    if scripted is not None:
        return scripted
    from pytest_kernelperf import measure

    return measure


def is_measured(item: pytest.Item) -> bool:
    """
    Return whether a test is marked, or uses the fixture.
    """
    names = getattr(item, "fixturenames", ())
    return item.get_closest_marker(MARKER) is not None or "kernelperf" in names


def asks_for_resources(item: pytest.Item) -> bool:
    """
    Return whether a marked test has `resources=`.
    """
    options = item.stash.get(OPTIONS, None)
    return options is not None and options.resources is not None


def has_measured(item: pytest.Item) -> bool:
    """
    Return whether a test's outcome concerns us: `is_measured`, or it asked for the fixture late.
    """
    return FIXTURE in item.stash or is_measured(item)


def may_fail(item: pytest.Item) -> bool:
    """
    Return whether the test is expected to fail: then passing unmeasured is pytest's to judge.
    """
    marks = list(item.iter_markers("xfail"))
    return any(not mark.args or any(mark.args) for mark in marks)


def outcome_of(item: pytest.Item, place: Place) -> Outcome:
    """
    Return what a test has brought so far.

    Args:
        item: The test.
        place: Its identity.
    """
    fixture = item.stash.get(FIXTURE, None)
    passed = item.stash.get(BODY, Body()).passed
    outcome = Outcome(
        nodeid=item.nodeid,
        path=str(item.path),
        file=place.file,
        test=place.test,
        missing=item.stash.get(MISSING, ""),
    )
    if fixture is not None:
        outcome = replace(
            outcome,
            recorded=tuple(replace(one, body_passed=passed) for one in fixture.recorded),
            comparisons=tuple(fixture.comparisons),
            independences=tuple(fixture.independences),
            compiled=tuple(fixture.compiled),
        )
    is_unmeasured = fixture is None or not (fixture.measured or fixture.compiled)
    if passed and is_unmeasured and item.get_closest_marker(MARKER) and not may_fail(item):
        return outcome.without_measurement()
    return outcome
