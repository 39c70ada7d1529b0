"""
What fails of compiled kernels, and what is only told.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_kernelperf.analysis import judge_resources, judge_unfollowed, judge_unread
from pytest_kernelperf.analysis.reasons import ResourceReason
from pytest_kernelperf.model import Case, Kernel, ResourceLimits, Status

CASE = Case("test_x.py", "test_x", "", "compile", "sm_90", "-")
MIX = {"tensor_core": 24, "warpgroup": 24, "local_memory": 0, "total": 1000}
KERNEL = Kernel(
    "attention",
    registers=155,
    spills=0,
    shared_bytes=41000,
    code_hash="aaaa",
    target="sm_90",
    threads=128,
    warps_per_sm=12,
    instructions=MIX,
    compiler="triton 3.6.0, ptxas 12.8",
)
CHANGED = replace(KERNEL, code_hash="bbbb")
FREE = ResourceLimits()


def judged(kernel, *, stored=(KERNEL,), limits=FREE, failure=""):
    return judge_resources(CASE, (kernel,), limits, stored, failure)


def mix(**counts):
    return replace(CHANGED, instructions={**MIX, **counts})


ROWS = [
    (ResourceReason.SAME_CODE, Status.UNCHANGED, {"kernel": KERNEL}, "is the stored one"),
    (
        ResourceReason.CODE_CHANGED,
        Status.UNCHANGED,
        {"kernel": replace(CHANGED, registers=150)},
        "registers 155 -> 150",
    ),
    (
        ResourceReason.WITHIN_LIMITS,
        Status.NO_BASELINE,
        {"kernel": KERNEL, "stored": None, "limits": ResourceLimits(spills=0)},
        "no kernels are stored",
    ),
    (
        ResourceReason.NOTHING_STORED,
        Status.NO_BASELINE,
        {"kernel": KERNEL, "stored": None},
        "--kernelperf-update-new",
    ),
    (
        ResourceReason.RESOURCE_LIMIT,
        Status.MISSED_TARGET,
        {"kernel": KERNEL, "limits": ResourceLimits(registers=154)},
        "registers 155, at most 154",
    ),
    (
        ResourceReason.NEW_SPILLS,
        Status.REGRESSED,
        {"kernel": replace(CHANGED, spills=16)},
        "spilled bytes 0 -> 16",
    ),
    (
        ResourceReason.LOST_TENSOR_CORES,
        Status.REGRESSED,
        {"kernel": mix(tensor_core=64, warpgroup=0)},
        "warpgroup 24 -> 0",
    ),
    (
        ResourceReason.SERIALISED_PRODUCTS,
        Status.REGRESSED,
        {"kernel": replace(CHANGED, warnings=("C7510: serialized",))},
        "C7510",
    ),
    (
        ResourceReason.LOWER_OCCUPANCY,
        Status.REGRESSED,
        {"kernel": replace(CHANGED, warps_per_sm=8)},
        "warps per SM 12 -> 8",
    ),
    (
        ResourceReason.MORE_REGISTERS,
        Status.REGRESSED,
        {"kernel": replace(CHANGED, registers=240)},
        "registers 155 -> 240",
    ),
    (
        ResourceReason.OTHER_COMPILER,
        Status.INCOMPARABLE,
        {"kernel": replace(CHANGED, spills=16, compiler="triton 3.7.0, ptxas 13.0")},
        "compiled by triton 3.7.0, ptxas 13.0, was triton 3.6.0",
    ),
    (
        ResourceReason.DOES_NOT_COMPILE,
        Status.INVALID,
        {"kernel": KERNEL, "failure": "kernel k: line 7"},
        "line 7",
    ),
]


@pytest.mark.parametrize(
    ("reason", "status", "given", "said"), ROWS, ids=[row[0].value for row in ROWS]
)
def test_every_reason(reason, status, given, said):
    verdict = judged(**given)

    assert (status, reason.value) == (verdict.status, verdict.reason)
    assert said in verdict.sentence


def test_no_reason_is_missing_from_the_table():
    beside = {ResourceReason.NEEDS_VALUE, ResourceReason.FIGURES_UNREADABLE}
    assert set(ResourceReason) == {*beside, *(row[0] for row in ROWS)}


@pytest.mark.parametrize(("before", "after"), [(16, 32), (155, 231)])
def test_registers_that_cost_no_warps_or_grew_by_less_than_half_are_only_told(before, after):
    stored = (replace(KERNEL, registers=before),)

    assert "CODE_CHANGED" == judged(replace(CHANGED, registers=after), stored=stored).reason


@pytest.mark.parametrize(
    ("tuned", "reason"),
    [((), "LOWER_OCCUPANCY"), (("num_warps",), "LOWER_OCCUPANCY"), (("BLOCK",), "CODE_CHANGED")],
    ids=["by hand", "by hand, in a tuned kernel", "by the autotuner"],
)
def test_another_tile_is_only_told_where_the_autotuner_chose_it(tuned, reason):
    stored = replace(KERNEL, constants={"BLOCK": "128", "num_warps": "8"})
    crowded = {"code_hash": "bbbb", "registers": 240, "warps_per_sm": 8, "tuned": tuned}
    other = replace(stored, **crowded, constants={"BLOCK": "256", "num_warps": "8"})

    verdict = judged(other, stored=(stored,))

    assert reason == verdict.reason
    assert "constants: BLOCK 128 -> 256" in verdict.sentence


@pytest.mark.parametrize(
    ("tuned", "said"),
    [
        (("BLOCK",), "as the autotuner chose, whose registers and warps are not compared: "),
        ((), "with nothing that always costs speed: "),
    ],
    ids=["by the autotuner", "by hand"],
)
def test_more_registers_that_do_not_fail_are_not_called_no_worse(tuned, said):
    stored = replace(KERNEL, constants={"BLOCK": "128"})
    other = replace(CHANGED, constants={"BLOCK": "256"}, tuned=tuned, registers=200)

    verdict = judged(other, stored=(stored,))

    assert "CODE_CHANGED" == verdict.reason
    assert f"Other machine code, {said}registers 155 -> 200; " in verdict.sentence


def test_what_else_the_autotuner_chose_is_judged_by_its_spills():
    stored = replace(KERNEL, constants={"BLOCK": "128"})
    other = replace(CHANGED, constants={"BLOCK": "256"}, tuned=("BLOCK",), spills=16)

    assert "NEW_SPILLS" == judged(other, stored=(stored,)).reason


def test_an_autotuned_kernel_with_the_stored_constants_is_judged_by_its_warps():
    stored = replace(KERNEL, constants={"BLOCK": "128"})
    slower = replace(stored, code_hash="bbbb", tuned=("BLOCK",), warps_per_sm=8)

    assert "LOWER_OCCUPANCY" == judged(slower, stored=(stored,)).reason


def test_a_test_that_could_not_be_followed_is_not_judged():
    verdict = judge_unfollowed(CASE, "the value of a GPU tensor was asked for")

    assert (Status.INCONCLUSIVE, "NEEDS_VALUE") == (verdict.status, verdict.reason)
    assert "the value of a GPU tensor was asked for" in verdict.sentence


def test_kernels_that_cannot_be_read_are_not_judged():
    verdict = judge_unread(CASE, "ptxas failed: Unsupported .version 9.4")

    assert (Status.INCONCLUSIVE, "FIGURES_UNREADABLE") == (verdict.status, verdict.reason)
    assert "ptxas failed: Unsupported .version 9.4" in verdict.sentence


def test_another_compiler_that_makes_nothing_worse_is_only_told():
    verdict = judged(replace(CHANGED, compiler="triton 3.7.0, ptxas 13.0"))

    assert Status.UNCHANGED is verdict.status
    assert "compiled by triton 3.7.0" in verdict.sentence


def test_fewer_products_are_no_loss_while_they_stay_on_the_warpgroups():
    assert Status.UNCHANGED is judged(mix(tensor_core=12, warpgroup=12)).status


def half_gone(**constants):
    return replace(mix(tensor_core=12, warpgroup=12, total=3 * MIX["total"]), constants=constants)


def test_fewer_and_larger_products_are_no_loss():
    """Single warps' products became a warpgroup's: an improvement, though all grew."""
    stored = mix(tensor_core=128, warpgroup=0)
    better = replace(mix(tensor_core=16, warpgroup=16, total=3 * MIX["total"]), code_hash="c")

    assert "LOST_TENSOR_CORES" != judged(better, stored=(stored,)).reason


def test_one_of_two_products_gone_is_a_loss():
    """The attention kernel with its scores in float32: 8 -> 4 products among 675 -> 3592."""
    assert "LOST_TENSOR_CORES" == judged(half_gone()).reason


@pytest.mark.parametrize(
    "kernel", [half_gone(BLOCK_N=128), mix(tensor_core=13, warpgroup=13, total=10**4)]
)
def test_a_wider_tile_or_a_longer_kernel_is_no_loss_of_products(kernel):
    assert Status.UNCHANGED is judged(kernel).status


def test_a_kernel_without_products_may_grow():
    stored = mix(tensor_core=0, warpgroup=0)
    grown = replace(mix(tensor_core=0, warpgroup=0, total=10**4), code_hash="cccc")

    assert Status.UNCHANGED is judged(grown, stored=(stored,)).status


def test_all_products_gone_is_a_loss():
    assert "LOST_TENSOR_CORES" == judged(mix(tensor_core=0, warpgroup=0)).reason


@pytest.mark.parametrize(
    ("limit", "said"),
    [((25, None), "at least 25 wanted"), ((None, 23), "at most 23 allowed"), ((24, 24), None)],
)
def test_instructions_have_a_least_and_a_most(limit, said):
    verdict = judged(KERNEL, limits=ResourceLimits(instructions={"tensor_core": limit}))

    assert (said is not None) == (verdict.status is Status.MISSED_TARGET)
    assert said is None or said in verdict.sentence


def test_an_added_kernel_of_low_occupancy_is_told_and_not_failed():
    small = replace(CHANGED, name="reduce", warps_per_sm=1)

    verdict = judge_resources(CASE, (CHANGED, small), FREE, (KERNEL,))

    assert Status.UNCHANGED is verdict.status
    assert "kernels per call 1 -> 2; launches reduce now" in verdict.sentence


def test_a_loss_with_another_kernel_says_how_many_products_are_left():
    verdict = judged(replace(mix(tensor_core=8, warpgroup=0), name="plain"))

    assert "LOST_TENSOR_CORES" == verdict.reason
    assert "in all warpgroup 24 -> 0, tensor_core 24 -> 8" in verdict.sentence
