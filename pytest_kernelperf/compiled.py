"""
Has what the compiler made of a test's kernels judged and stored; with a GPU or without.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kernelperf.errors import FiguresUnreadableError
from pytest_kernelperf.model import (
    Case,
    Change,
    Compiled,
    Kernel,
    Measurement,
    ResourceLimits,
    UpdateMode,
)

if TYPE_CHECKING:
    from pytest_kernelperf.resources import Launch


@contextmanager
def launches_on(device: str) -> Iterator[list[Launch]]:
    """
    Collect the Triton launches of a measurement's first calls; none where there is no GPU.
    """
    import importlib.util

    if device == "cpu" or importlib.util.find_spec("triton") is None or not _has_gpu():
        yield []
        return
    from pytest_kernelperf.resources import watch_launches

    with watch_launches() as seen:
        yield seen


def read_launches(launches: Sequence[Launch]) -> tuple[tuple[Kernel, ...], str]:
    """
    Return what was launched, as far as it can be read; a measurement does not fail for the rest.

    Returns:
        The kernels, and why the others can't be read; "" if all can.
    """
    from pytest_kernelperf.resources import read_kernel

    found, unread = [], []
    for one in launches:
        try:
            found.append(read_kernel(one))
        except FiguresUnreadableError as error:
            unread.append(str(error))
    return tuple(found), "; ".join(dict.fromkeys(unread))


def with_resources(measurement: Measurement, read: Sequence[Kernel]) -> Measurement:
    """
    Return a measurement whose kernels carry what was read of their launches.
    """
    from pytest_kernelperf.resources import complete

    return replace(measurement, kernels=complete(measurement.kernels, read))


def compiled_of(measurement: Measurement, read: Sequence[Kernel], unread: str) -> Compiled:
    """
    Return what the compiler made of a measured call's Triton kernels.

    Args:
        measurement: Of the call, with resources.
        read: All that was launched, by several calls: where the driver named no kernels.
        unread: Why some of what was launched can't be read; "" if all can.
    """
    of_call = tuple(kernel for kernel in measurement.kernels if kernel.target)
    kernels = of_call or tuple(one for at, one in enumerate(read) if one not in read[:at])
    target = kernels[0].target if kernels else "-"
    case = replace(measurement.case, timer="compile", l2=target, pace="-", inputs=())
    if unread:
        return Compiled(case, kernels, unread=unread)
    failure = "" if kernels else "No launch of a Triton kernel was seen: take resources= off."
    return Compiled(case, kernels, failure)


def judged(compiled: Compiled, limits: ResourceLimits, stored: Sequence[Kernel] | None) -> Compiled:
    """
    Return what was compiled with its verdict.

    Args:
        compiled: For one target.
        limits: What the test allows.
        stored: What `stored_kernels` gives for its case.
    """
    from pytest_kernelperf.analysis import judge_resources, judge_unread

    if compiled.unread:
        verdict = judge_unread(compiled.case, compiled.unread)
    else:
        verdict = judge_resources(compiled.case, compiled.kernels, limits, stored, compiled.failure)
    return replace(compiled, verdict=verdict, limits=limits)


def stored_kernels(case: Case, root: Path) -> tuple[Kernel, ...] | None:
    """
    Return the kernels that the baseline holds for a case and target; None if it holds none.
    """
    from pytest_kernelperf.store.resources import load_resources

    return load_resources(root, case.l2, case.file).get(stored_key(case))


def stored_cases(case: Case, root: Path) -> list[Case]:
    """
    Return the cases of a case's test and target that the baseline holds kernels for.
    """
    from pytest_kernelperf.store.resources import load_resources

    keys = load_resources(root, case.l2, case.file)
    # "test" or "test name", and not another test's "test[a]".
    own = [key for key in keys if f"{key} ".startswith(f"{case.test} ")]
    return [replace(case, name=key[len(case.test) + 1 :]) for key in own]


def update_resources(
    root: Path, compiled: Sequence[Compiled], mode: UpdateMode, *, has_failed: bool = False
) -> list[Change]:
    """
    Store what was compiled, as far as the rules of an update allow.

    Each is judged again against what is stored at that moment, under the file's lock, so that what
    another process stored since then is neither lost nor overlooked.

    Args:
        root: The folder of baselines.
        compiled: Of one test, with verdicts.
        mode: Of the update.
        has_failed: The test failed by itself; nothing of it is stored then.

    Raises:
        KernelPerfError: If a file can't be read or written.
    """
    return [
        change
        for one in compiled
        for change in _update_one(root, one, mode, body_passed=not has_failed)
    ]


def _update_one(
    root: Path, one: Compiled, mode: UpdateMode, *, body_passed: bool
) -> Sequence[Change]:
    """
    Return what was done with the kernels of one call; nothing if they are what is stored.
    """
    from pytest_kernelperf.store.resources import change_resources
    from pytest_kernelperf.store.update import decide_kernels

    key = stored_key(one.case)
    done: list[Change] = []

    def decide(kernels: Mapping[str, tuple[Kernel, ...]]) -> Mapping[str, tuple[Kernel, ...]]:
        stored = kernels.get(key)
        now = _judged_now(one, stored)
        if stored is not None and now.verdict and now.verdict.reason == "SAME_CODE":
            return {}
        decision = decide_kernels(now, stored, mode, body_passed=body_passed)
        done.append(Change(one.case, decision.action, decision.sentence))
        return {key: one.kernels} if decision.action in ("added", "moved") else {}

    change_resources(root, one.case.l2, one.case.file, decide)
    return done


def _judged_now(compiled: Compiled, stored: Sequence[Kernel] | None) -> Compiled:
    # Against what is gone it was judged once: that it had a baseline is not to be forgotten.
    if stored is None or not compiled.was_followed:
        return compiled
    return judged(compiled, compiled.limits, stored)


def stored_key(case: Case) -> str:
    """
    Return the name under which a case's kernels are stored.
    """
    return f"{case.test} {case.name}".strip()


def _has_gpu() -> bool:
    # What runs on a GPU has imported torch; here it would cost seconds where nothing does.
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available())
