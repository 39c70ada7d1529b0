"""
Without a GPU, the ways from a call to its kernels: operators, `torch.compile`, the autotuner.
"""

from __future__ import annotations

import json
import shutil

import needs
import pytest
from copy_kernel import COPY, GOOD

needs.triton()
needs.no_gpu()


#: Ways to reach `copy_kernel`: its line, and what `copy` is then called as.
OPERATORS = {
    "custom_op": '@torch.library.custom_op("ways::copy", mutates_args=())',
    "custom_op for CUDA": (
        '@torch.library.custom_op("ways::copy", mutates_args=(), device_types="cuda")'
    ),
    "triton_op": '@torch.library.triton_op("ways::copy", mutates_args={{}})',
    "compiled": "@torch.compile",
}


@pytest.mark.parametrize("decorator", OPERATORS.values(), ids=OPERATORS)
def test_a_registered_operator_is_followed_to_its_kernel(gpuless, decorator):
    source = COPY.replace(
        "def copy(x):", f"{decorator}\n    def copy(x: torch.Tensor) -> torch.Tensor:"
    )
    # The factory finds no card without the stand-ins around it.
    source = source.replace("torch.empty_like(x)", "torch.empty(x.shape, device='cuda')")
    gpuless.write(source.format(line=GOOD, limits="{'registers': 4, 'targets': 'sm_80'}"))

    result = gpuless.run_apart("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["  copy_kernel: registers *, at most 4 allowed"])


def test_an_implementation_for_cuda_is_followed_to_its_kernel(gpuless):
    source = (
        COPY
        + """
    library = torch.library.Library("ways", "DEF")
    library.define("copy(Tensor x) -> Tensor")
    library.impl("copy", copy, "CUDA")
    """
    )
    source = source.replace("kernelperf(copy, x)", "kernelperf(torch.ops.ways.copy, x)")
    gpuless.write(source.format(line=GOOD, limits="{'registers': 4, 'targets': 'sm_80'}"))

    result = gpuless.run_apart("--kernelperf")

    result.stdout.fnmatch_lines(["  copy_kernel: registers *, at most 4 allowed"])


def test_an_operator_that_can_not_be_followed_is_named(gpuless):
    source = (
        COPY
        + """
    library = torch.library.Library("ways", "DEF")
    library.define("copy(Tensor x) -> Tensor")
    library.impl("copy", torch.empty_like, "Meta")
    """
    )
    source = source.replace("kernelperf(copy, x)", "kernelperf(torch.ops.ways.copy, x)")
    gpuless.write(source.format(line=GOOD, limits="{'targets': 'sm_80'}"))

    result = gpuless.run_apart("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*launched no Triton kernel*It went through ways::copy,*"])


TUNED = COPY.replace(
    "@triton.jit",
    """@triton.autotune(
        [triton.Config({{"BLOCK": 256}}, num_warps=2), triton.Config({{"BLOCK": 1024}})], key=["n"]
    )
    @triton.jit""",
).replace(", BLOCK=1024)", ")")


def test_an_autotuned_kernel_is_compiled_as_stored_or_else_as_its_first_choice(gpuless):
    limits = "{'targets': 'sm_80'}"
    gpuless.write(TUNED.format(line=GOOD, limits=limits))
    first = gpuless.run_apart("--kernelperf-update")

    # A card chose the second one.
    shutil.rmtree(gpuless.path / "baselines")
    gpuless.write(COPY.format(line=GOOD, limits=limits))
    gpuless.run_apart("--kernelperf-update").assert_outcomes(passed=1)
    gpuless.write(TUNED.format(line=GOOD, limits=limits))
    like_the_card = gpuless.run_apart("--kernelperf")

    first.stdout.fnmatch_lines(
        ["note: *(compile sm_80): copy_kernel is autotuned: compiled as the first of 2 *"]
    )
    like_the_card.assert_outcomes(passed=1)
    like_the_card.stdout.fnmatch_lines(["*compile sm_80*UNCHANGED SAME_CODE*"])
    like_the_card.stdout.no_fnmatch_line("*is autotuned*")


def test_what_the_autotuner_chooses_is_marked_in_the_stored_kernel(gpuless):
    derived = """@triton.heuristics({{"EVEN": lambda args: args["n"] % args["BLOCK"] == 0}})
    @triton.jit"""
    source = TUNED.replace("@triton.jit", derived)
    source = source.replace("BLOCK: tl.constexpr", "BLOCK: tl.constexpr, EVEN: tl.constexpr")
    gpuless.write(source.format(line=GOOD, limits="{'targets': 'sm_80'}"))

    gpuless.run_apart("--kernelperf-update").assert_outcomes(passed=1)

    (file,) = (gpuless.path / "baselines").rglob("*.json")
    ((kernel,),) = json.loads(file.read_text())["kernels"].values()
    assert ["BLOCK", "EVEN", "num_warps"] == kernel["tuned"]
