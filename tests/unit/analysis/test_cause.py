"""
The cause that a REGRESSED names: five planted regressions, and three that are not the kernel's.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_kernelperf.analysis import explain, explained, judge
from pytest_kernelperf.analysis.noise import Noise
from pytest_kernelperf.model import Entry, Kernel, Limits

KERNEL = Kernel(
    "attention",
    registers=155,
    spills=0,
    shared_bytes=41000,
    code_hash="aaaa",
    instructions={"global_memory": 7, "local_memory": 0, "total": 1164},
    grid=(128, 1, 1),
    constants={"BLOCK_M": "64", "BLOCK_N": "128"},
)


def why(make, kernels=(KERNEL,), process=None, timer="device", stored=(KERNEL,)):
    measurement = make.measurement(case=make.case(timer=timer))
    measurement = replace(measurement, kernels=tuple(kernels))
    if process is not None:
        measurement = replace(measurement, processes=(process,))
    return explain(measurement, replace(make.reference(timer=timer), kernels=tuple(stored)))


def on(make, **card):
    process = make.process("new")
    environment = replace(process.environment, gpu=replace(process.environment.gpu, **card))
    return replace(process, environment=environment)


PLANTED = {
    "tile": (
        replace(KERNEL, code_hash="b", constants={"BLOCK_M": "64", "BLOCK_N": "64"}),
        "constants: BLOCK_N 128 -> 64",
    ),
    "spill": (
        replace(KERNEL, code_hash="b", spills=64, instructions={"local_memory": 9}),
        "spilled bytes 0 -> 64; instructions: local_memory 0 -> 9",
    ),
    "extra bytes": (
        replace(KERNEL, code_hash="b", instructions={**KERNEL.instructions, "global_memory": 11}),
        "instructions: global_memory 7 -> 11",
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_change_of_the_code_is_named(make, planted):
    kernel, said = PLANTED[planted]

    text = why(make, (kernel,))

    assert text.startswith("Why: the machine code changed: ")
    assert said in text


def test_an_extra_launch_is_named(make):
    text = why(make, (KERNEL, Kernel("copy_kernel", code_hash="c")))

    assert "kernels per call 1 -> 2; launches copy_kernel now" in text


def test_on_a_processor_no_gpu_kernel_is_missed(make):
    process = make.process("new")
    process = replace(process, environment=replace(process.environment, gpu=None))

    text = why(make, (), process=process, timer="wall", stored=())

    assert text.startswith(
        "Why: not known; nothing is recorded of code that runs on the processor."
    )


def test_on_a_gpu_the_missing_kernels_are_said(make):
    assert why(make, (), stored=()).startswith("Why: not known; no GPU kernels are recorded")


def test_kernels_that_only_one_side_knows_are_no_change_of_them(make):
    before = why(make, timer="wall", stored=())
    after = why(make, (), timer="wall")

    assert before.startswith("Why: not known; no GPU kernels are recorded in the baseline.")
    assert after.startswith("Why: not known; no GPU kernels are recorded of this run.")


def test_the_hosts_part_is_named_where_only_wall_time_grew(make):
    text = why(make, timer="wall")

    assert "the machine code and its launch are identical" in text
    assert "the host's part of the call grew" in text


def test_the_same_code_on_another_grid_is_a_launch_of_its_own(make):
    text = why(make, (replace(KERNEL, grid=(256, 1, 1)),))

    assert "the machine code is identical, but it is launched otherwise" in text
    assert "grid 128x1x1 -> 256x1x1" in text


def test_a_power_cap_is_the_environment_and_not_the_kernel(make):
    text = why(make, process=on(make, power_limit_w=500.0))

    assert "so the environment changed, not the kernel" in text
    assert "Around it changed: power limit (W) 700 -> 500." in text


@pytest.mark.parametrize(
    ("kernel", "told"),
    [
        (KERNEL, "\n  The machine code and its launch are identical: the card changed, not the "),
        (
            replace(KERNEL, code_hash="bbbb", registers=255),
            "\n  The kernel changed as well: registers 155 -> 255.",
        ),
        (replace(KERNEL, code_hash=""), None),
    ],
    ids=["same", "changed", "unknown"],
)
def test_under_another_power_limit_the_code_is_compared_though_times_are_not(make, kernel, told):
    measurement = replace(
        make.measurement(processes=(on(make, power_limit_w=500.0),)), kernels=(kernel,)
    )
    reference = replace(make.reference(), kernels=(KERNEL,))
    (verdict,) = judge(measurement, Entry(reference), Limits(), Noise())

    sentence = explained(verdict, measurement, reference).sentence

    assert "power limit (W) was 700, is 500" in verdict.sentence
    assert sentence.startswith(verdict.sentence)
    assert (told or "") in sentence
    assert (told is None) == (sentence == verdict.sentence)


def test_another_card_is_the_environment_and_not_the_kernel(make):
    text = why(make, process=on(make, uuid="GPU-2"))

    assert "so the environment changed, not the kernel" in text
    assert "another card of the model" in text


def test_versions_that_moved_are_named(make):
    process = make.process("new")
    environment = replace(
        process.environment, versions={**process.environment.versions, "driver": "600.1"}
    )

    text = why(make, process=replace(process, environment=environment))

    assert "driver 580.159.04 -> 600.1" in text


def test_a_slower_clock_is_named(make):
    process = make.process("new")
    slow = tuple(
        replace(one, clock_mhz=tuple(0.9 * mhz for mhz in one.clock_mhz)) for one in process.rounds
    )

    assert "SM clock 1980 -> 1782 MHz" in why(make, process=replace(process, rounds=slow))


def test_identical_code_in_an_identical_environment_is_said_so(make):
    text = why(make)

    assert "not the kernel changed, but the environment or the data" in text
    assert "Nothing that is recorded of the environment differs." in text


def test_without_hashes_nothing_is_claimed(make):
    plain = Kernel("attention", registers=155)

    assert "not known" in why(make, (plain,), stored=(plain,))
    assert "registers 155 -> 200" in why(make, (replace(plain, registers=200),), stored=(plain,))
