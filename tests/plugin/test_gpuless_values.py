"""
Without a GPU, a test that asks for what is in a tensor: what is said of its kernels, and what not.
"""

from __future__ import annotations

import needs
import pytest
from copy_kernel import COPY, GOOD

needs.triton()
needs.no_gpu()


def plain_and_strict(outcome: str) -> pytest.MarkDecorator:
    """
    Run a test of what is not judged twice: it ends so, and fails where that is asked for.
    """
    return pytest.mark.parametrize(
        ("options", "outcome"),
        [((), {outcome: 1}), (("--kernelperf-strict",), {"failed": 1})],
        ids=["plain", "strict"],
    )


ASKS_FIRST = COPY.replace("kernelperf(copy, x)", "assert x.sum() == 0\n        kernelperf(copy, x)")


@plain_and_strict("skipped")
def test_a_test_that_asks_for_a_value_first_is_counted_as_not_judged(gpuless, options, outcome):
    gpuless.write(ASKS_FIRST.format(line=GOOD, limits="{'targets': 'sm_80'}"))

    result = gpuless.run_apart("--kernelperf-update", *options)

    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines(
        ["INCONCLUSIVE *(NEEDS_VALUE)", "kernelperf: 0 judged, 1 NOT judged (1 INCONCLUSIVE)"]
    )
    assert [] == gpuless.baseline_files()


@plain_and_strict("passed")
def test_a_stored_call_behind_a_value_is_counted_as_not_judged(gpuless, options, outcome):
    source = COPY.format(line=GOOD, limits="{'targets': 'sm_80'}")
    twice = source.replace(
        "kernelperf(copy, x)",
        "kernelperf.measure(copy, args=(x,), name='first')\n"
        "        kernelperf.measure(copy, args=(x,), name='second')",
    )
    gpuless.write(twice)
    gpuless.run_apart("--kernelperf-update")
    gpuless.write(twice.replace("name='first')", "name='first')\n        assert x.sum() == 0", 1))

    result = gpuless.run_apart("--kernelperf", *options)

    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines(
        [
            "INCONCLUSIVE *test_copy second*(NEEDS_VALUE)",
            "kernelperf: 1 judged, 1 NOT judged (1 INCONCLUSIVE)",
        ]
    )


ASKS_ON_HOPPER = COPY.replace(
    "return y",
    "assert torch.cuda.get_device_capability()[0] != 9 or x.sum() == 0\n        return y",
)


@plain_and_strict("passed")
def test_a_target_whose_call_asks_for_a_value_is_counted_as_not_judged(gpuless, options, outcome):
    limits = "{'targets': ('sm_90', 'sm_80'), 'spills': 0}"
    gpuless.write(ASKS_ON_HOPPER.format(line=GOOD, limits=limits))
    gpuless.run_apart("--kernelperf-update").assert_outcomes(passed=1)

    result = gpuless.run_apart("--kernelperf", *options)

    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines(
        [
            "INCONCLUSIVE *test_copy*sm_90*(NEEDS_VALUE)",
            "kernelperf: 1 judged, 1 NOT judged (1 INCONCLUSIVE)",
        ]
    )


def test_a_call_that_asks_for_a_value_on_all_targets_is_skipped(gpuless):
    limits = "{'targets': ('sm_90',), 'spills': 0}"
    gpuless.write(ASKS_ON_HOPPER.format(line=GOOD, limits=limits))

    result = gpuless.run_apart("--kernelperf")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["kernelperf: 0 judged, 1 NOT judged (1 INCONCLUSIVE)"])


def test_a_grid_that_asks_for_a_value_is_no_kernel_that_does_not_compile(gpuless):
    asking = "lambda meta: (triton.cdiv(int(x.sum()), meta['BLOCK']),)"
    source = COPY.replace("(triton.cdiv(x.numel(), 1024),)", asking)
    gpuless.write(source.format(line=GOOD, limits="{'targets': 'sm_80'}"))

    result = gpuless.run_apart("--kernelperf")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["INCONCLUSIVE *(NEEDS_VALUE)", "*the value of a GPU tensor*"])
