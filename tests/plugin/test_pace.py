"""
A pace is part of what is measured: it has baselines of its own, and not every timer has it.
"""

from __future__ import annotations

import pytest

SUSTAINED = """
    from pytest_kernelperf import kernel_perf

    @kernel_perf(pace="sustained"{more})
    def test_it(kernelperf):
        kernelperf(abs, -1)
"""


def test_a_sustained_pace_has_a_baseline_of_its_own(project):
    project.write(SUSTAINED.format(more=""))
    project.run("--kernelperf-update")
    assert "test_it | device cold sustained" in project.baseline_text()

    project.write(SUSTAINED.format(more="").replace("sustained", "paced"))
    result = project.run("--kernelperf")

    assert pytest.ExitCode.OK == result.ret
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["kernelperf: 0 judged, 1 NOT judged (1 NO_BASELINE)*"])


@pytest.mark.parametrize("more", [', timer="launch"', ", percentiles=(50, 99)", ', timer="wall"'])
def test_a_sustained_pace_of_another_timer_fails_its_test_and_says_why(project, more):
    project.write(SUSTAINED.format(more=more))

    result = project.run("--kernelperf")

    assert pytest.ExitCode.TESTS_FAILED == result.ret
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*pace='sustained' is measured by the device timer alone*"])


def test_unmeasured_a_sustained_pace_is_one_plain_call(project):
    project.write(SUSTAINED.format(more=""))

    project.run().assert_outcomes(passed=1)
