"""
The rules of an update for compiled kernels: those of times, with no room for a compiler's moods.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pytest_kernelperf.analysis import judge_resources
from pytest_kernelperf.compiled import judged, stored_kernels, update_resources
from pytest_kernelperf.errors import BaselineWriteError
from pytest_kernelperf.model import Case, Compiled, Kernel, ResourceLimits, Status, UpdateMode
from pytest_kernelperf.store import files
from pytest_kernelperf.store.resources import store_resources
from pytest_kernelperf.store.update import LOST, decide_kernels

S = Status
ALL, NEW, ACCEPT = UpdateMode(), UpdateMode(new_only=True), UpdateMode(accept_regressions=True)
CASE = Case("test_x.py", "test_x", "", "compile", "sm_90", "-")
STORED = Kernel(
    "copy",
    registers=40,
    spills=0,
    shared_bytes=1024,
    code_hash="a",
    target="sm_90",
    warps_per_sm=48,
    instructions={"tensor_core": 4, "warpgroup": 4},
    compiler="triton 3.6.0, ptxas 12.8",
)
PRUNE = "kernelperf prune --tests 'test_x.py::test_x | compile sm_90 -', and update again"
CHANGED = replace(STORED, code_hash="b")


def compiled(kernel: Kernel = CHANGED, stored=(STORED,), limits=None, **given) -> Compiled:
    """
    Return a kernel with the verdict that it gets.
    """
    verdict = judge_resources(CASE, (kernel,), limits or ResourceLimits(), stored, **given)
    return Compiled(CASE, (kernel,), verdict=verdict)


def with_status(status: Status) -> Compiled:
    one = compiled()
    return replace(one, verdict=replace(one.verdict, status=status))


@pytest.mark.parametrize(
    ("status", "stored", "mode", "action"),
    [
        (S.NO_BASELINE, None, ALL, "added"),
        (S.NO_BASELINE, None, NEW, "added"),
        (S.MISSED_TARGET, None, ALL, "refused"),
        (S.INCONCLUSIVE, None, ALL, "refused"),
        (S.INVALID, None, ACCEPT, "refused"),
        # Judged against kernels that are gone now.
        (S.REGRESSED, None, ALL, "refused"),
        (S.UNCHANGED, None, NEW, "refused"),
        (S.REGRESSED, (STORED,), ALL, "refused"),
        (S.REGRESSED, (STORED,), ACCEPT, "moved"),
        (S.REGRESSED, (STORED,), NEW, "kept"),
        (S.INCOMPARABLE, (STORED,), ALL, "refused"),
        (S.INCOMPARABLE, (STORED,), ACCEPT, "refused"),
        (S.INCOMPARABLE, (STORED,), NEW, "kept"),
        (S.MISSED_TARGET, (STORED,), ACCEPT, "refused"),
        (S.INCONCLUSIVE, (STORED,), ALL, "refused"),
        (S.UNCHANGED, (STORED,), ALL, "moved"),
        (S.UNCHANGED, (STORED,), NEW, "kept"),
    ],
)
def test_the_table(status, stored, mode, action):
    decision = decide_kernels(with_status(status), stored, mode, body_passed=True)

    assert action == decision.action
    assert decision.sentence


@pytest.mark.parametrize(("stored", "mode"), [(None, ALL), ((STORED,), ALL), ((STORED,), ACCEPT)])
def test_nothing_moves_for_a_test_that_failed_itself(stored, mode):
    decision = decide_kernels(with_status(S.REGRESSED), stored, mode, body_passed=False)

    assert "refused" == decision.action
    assert "the test itself failed" in decision.sentence


@pytest.mark.parametrize(
    "worse",
    [
        {"registers": 41},
        {"shared_bytes": 1025},
        {"instructions": {"tensor_core": 3, "warpgroup": 3}},
        {"name": "renamed"},
    ],
    ids=str,
)
def test_what_passes_but_is_not_as_good_leaves_the_reference(worse):
    one = compiled(replace(CHANGED, **worse))

    assert S.UNCHANGED is one.verdict.status
    for mode in (ALL, ACCEPT):
        decision = decide_kernels(one, (STORED,), mode, body_passed=True)
        assert "kept" == decision.action
        assert PRUNE in decision.sentence


@pytest.mark.parametrize(
    "better",
    [{"registers": 39}, {"warps_per_sm": 64}, {"compiler": "triton 3.9.0, ptxas 13.4"}],
    ids=str,
)
def test_what_is_no_worse_becomes_the_reference(better):
    one = compiled(replace(CHANGED, **better))

    decision = decide_kernels(one, (STORED,), ALL, body_passed=True)

    assert "moved" == decision.action
    assert "no worse in anything that is counted" in decision.sentence


def test_registers_cannot_walk_by_updates_that_pass(tmp_path):
    store_resources(tmp_path, CASE.l2, CASE.file, {"test_x": (STORED,)})

    for registers in (50, 59, 70, 85):
        stored = stored_kernels(CASE, tmp_path)
        one = compiled(replace(CHANGED, registers=registers), stored)
        update_resources(tmp_path, [one], ALL)

    assert (STORED,) == stored_kernels(CASE, tmp_path)
    assert S.REGRESSED is one.verdict.status


def test_what_another_compiler_made_worse_is_not_taken_by_a_plain_update(tmp_path):
    store_resources(tmp_path, CASE.l2, CASE.file, {"test_x": (STORED,)})
    worse = replace(CHANGED, instructions={}, compiler="triton 3.9.0, ptxas 13.4")

    (change,) = update_resources(tmp_path, [compiled(worse)], ALL)

    assert "refused" == change.action
    assert change.sentence.startswith("INCOMPARABLE (OTHER_COMPILER): worse than")
    assert PRUNE in change.sentence
    assert (STORED,) == stored_kernels(CASE, tmp_path)


def test_what_was_stored_since_it_was_judged_is_not_overlooked(tmp_path):
    """
    Accepted was what is worse than one's own compiler made, not what is worse than another's.
    """
    store_resources(tmp_path, CASE.l2, CASE.file, {"test_x": (STORED,)})
    one = judged(Compiled(CASE, (replace(CHANGED, spills=8),)), ResourceLimits(), (STORED,))
    since = replace(STORED, code_hash="c", compiler="triton 3.9.0, ptxas 13.4")
    store_resources(tmp_path, CASE.l2, CASE.file, {"test_x": (since,)})

    (change,) = update_resources(tmp_path, [one], ACCEPT)

    assert S.REGRESSED is one.verdict.status
    assert "refused" == change.action
    assert change.sentence.startswith("INCOMPARABLE (OTHER_COMPILER)")
    assert (since,) == stored_kernels(CASE, tmp_path)


def test_what_a_test_allows_holds_when_its_kernels_are_judged_again(tmp_path):
    limits = ResourceLimits(registers=41)
    one = judged(Compiled(CASE, (replace(CHANGED, registers=42),)), limits, None)
    store_resources(tmp_path, CASE.l2, CASE.file, {"test_x": (replace(STORED, registers=80),)})

    (change,) = update_resources(tmp_path, [one], ALL)

    assert "refused" == change.action
    assert change.sentence.startswith("MISSED_TARGET (RESOURCE_LIMIT)")


@pytest.mark.parametrize("mode", [ALL, NEW, ACCEPT])
def test_the_same_code_whose_stored_kernels_are_gone_is_not_taken_for_new(tmp_path, mode):
    one = judged(Compiled(CASE, (STORED,)), ResourceLimits(), (STORED,))

    (change,) = update_resources(tmp_path, [one], mode)

    assert ("refused", LOST) == (change.action, change.sentence)
    assert stored_kernels(CASE, tmp_path) is None


def test_the_same_code_stored_by_another_run_meanwhile_is_left_as_it_is(tmp_path):
    one = judged(Compiled(CASE, (STORED,)), ResourceLimits(), None)
    store_resources(tmp_path, CASE.l2, CASE.file, {"test_x": (STORED,)})

    assert [] == update_resources(tmp_path, [one], ALL)


def test_nobody_stores_between_the_judging_and_the_writing(tmp_path, monkeypatch):
    """
    Else what two runs store at once, the last one to write it would decide, unasked.
    """
    monkeypatch.setattr(files, "LOCK_TIMEOUT_S", 0.0)
    held = []

    def decide(compiled, stored, mode, *, body_passed):
        with ThreadPoolExecutor(1) as another:
            other = another.submit(
                store_resources, tmp_path, CASE.l2, CASE.file, {"test_x": (STORED,)}
            )
        held.append(isinstance(other.exception(), BaselineWriteError))
        return decide_kernels(compiled, stored, mode, body_passed=body_passed)

    monkeypatch.setattr("pytest_kernelperf.store.update.decide_kernels", decide)
    one = judged(Compiled(CASE, (CHANGED,)), ResourceLimits(), None)

    update_resources(tmp_path, [one], ALL)

    assert [True] == held
    assert (CHANGED,) == stored_kernels(CASE, tmp_path)
