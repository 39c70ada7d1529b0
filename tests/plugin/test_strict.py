"""
`--kernelperf-strict`: what could not be judged fails.
"""

from __future__ import annotations

import pytest


def incomparable(project):
    """
    Leave a baseline of another input shape behind.
    """
    project.run("--kernelperf-update")
    text = project.baseline_text().replace("float16[8] cuda", "float16[9] cuda")
    (project.path / "baselines" / project.baseline_files()[0]).write_text(text)


@pytest.mark.parametrize("strict", [(), ("--kernelperf-strict",)])
def test_a_missing_baseline_fails_only_under_strict(project, strict):
    project.write()

    result = project.run("--kernelperf", *strict)

    assert bool(strict) == (result.ret == pytest.ExitCode.TESTS_FAILED)
    result.assert_outcomes(**{"failed" if strict else "passed": 1})
    result.stdout.fnmatch_lines(["kernelperf: 0 judged, 1 NOT judged (1 NO_BASELINE)"])


@pytest.mark.parametrize("strict", [(), ("--kernelperf-strict",)])
def test_an_incomparable_baseline_fails_only_under_strict(project, strict):
    project.write()
    incomparable(project)

    result = project.run("--kernelperf", *strict)

    result.assert_outcomes(**{"failed" if strict else "passed": 1})
    result.stdout.fnmatch_lines(
        ["*float16[[]9]*", "kernelperf: 0 judged, 1 NOT judged (1 INCOMPARABLE)"]
    )


def test_an_inconclusive_verdict_fails_only_under_strict(project):
    """
    A target in the middle of the interval can be neither met nor missed.
    """
    project.write(
        """
        from pytest_kernelperf import kernel_perf

        @kernel_perf(target_us=10)
        def test_it(kernelperf): kernelperf(abs, -1)
        """
    )

    loose = project.run("--kernelperf")
    strict = project.run("--kernelperf", "--kernelperf-strict")

    loose.assert_outcomes(passed=1)
    strict.assert_outcomes(failed=1)
    strict.stdout.fnmatch_lines(["*(1 INCONCLUSIVE)"])


def test_a_missing_baseline_that_is_being_recorded_passes_under_strict(project):
    project.write()

    result = project.run("--kernelperf-update", "--kernelperf-strict")

    assert result.ret == pytest.ExitCode.OK
    assert project.baseline_files() == ["nvidia-scripted/test_it.json"]


def test_what_was_judged_well_passes_under_strict(project):
    project.write()
    project.run("--kernelperf-update")

    assert project.run("--kernelperf", "--kernelperf-strict").ret == pytest.ExitCode.OK


def test_strict_can_be_set_in_the_ini_file_and_rests_in_a_plain_run(project):
    project.pytester.makeini("[pytest]\nkernelperf_strict = true")
    project.write()

    assert project.run().ret == pytest.ExitCode.OK
    assert project.run("--kernelperf").ret == pytest.ExitCode.TESTS_FAILED


def test_the_command_that_runs_a_test_again_asks_for_what_the_run_was_asked_for(project):
    project.write()

    result = project.run(
        *("--kernelperf", "--kernelperf-strict", "--kernelperf-timer", "device,wall"),
        *("--kernelperf-rounds", "5", "--kernelperf-max-time", "2"),
    )

    asked = "--kernelperf-timer device,wall --kernelperf-rounds 5 --kernelperf-max-time 2"
    result.stdout.fnmatch_lines(
        [f"*rerun: python -m pytest *::test_kernel --kernelperf --kernelperf-strict {asked}"]
    )
