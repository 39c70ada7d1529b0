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

    asked = "--kernelperf-timer=device,wall --kernelperf-rounds=5 --kernelperf-max-time=2"
    result.stdout.fnmatch_lines(
        [f"*rerun: python -m pytest *::test_kernel --kernelperf --kernelperf-strict {asked}"]
    )


NOTHING = "kernelperf: ERROR: nothing was judged, which strict does not let pass: "
#: What can be wrong so that nothing is judged, and what is said of it.
UNJUDGED = {
    "no mark": ("def test_it(): pass", (), "no test to run is marked kernel_perf *"),
    "a slip in the mark": (
        "import pytest\n@pytest.mark.kernelpref\ndef test_it(): pass",
        ("-W", "ignore"),
        "no test to run is marked kernel_perf *",
    ),
    "all skipped": (
        "import pytest\ndef test_it(kernelperf): pytest.skip('no card')",
        (),
        "none of 1 tests that could measure came to a verdict",
    ),
    "all deselected": (
        "def test_it(kernelperf): kernelperf(abs, -1)",
        ("-k", "attention"),
        "no test to run is marked kernel_perf *",
    ),
    "no mark to select by": (
        "def test_it(): pass",
        ("--kernelperf-only",),
        "no test to run is marked kernel_perf *",
    ),
}


@pytest.mark.parametrize(("source", "args", "why"), UNJUDGED.values(), ids=UNJUDGED)
def test_a_run_that_judges_nothing_fails_only_under_strict(project, source, args, why):
    project.write(source)

    loose = project.run("--kernelperf", *args)
    strict = project.run(
        "--kernelperf", "--kernelperf-strict", "--kernelperf-json", "a.json", *args
    )

    assert loose.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert loose.outlines[-1] == "kernelperf: 0 judged"
    assert strict.ret == pytest.ExitCode.TESTS_FAILED
    strict.stdout.fnmatch_lines([NOTHING + why])
    assert strict.outlines[-1] == "kernelperf: 0 judged"
    assert project.read_json("a.json")["exit_failed"]


@pytest.mark.parametrize("args", [(), ("-k", "attention")])
def test_a_worker_that_judges_nothing_fails_the_run_under_strict(project, args):
    project.write("def test_it(): pass")

    result = project.run_apart(
        "-p", "xdist", "-n", "1", "--kernelperf", "--kernelperf-strict", *args
    )

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([NOTHING + "no test to run is marked kernel_perf *"])
    assert result.outlines[-1] == "kernelperf: 0 judged"


def test_a_comparison_without_a_limit_is_enough_under_strict(project):
    project.write(
        """
        def test_it(kernelperf):
            kernelperf.compare({"ours": abs, "theirs": abs}, (-1,), reference="theirs")
        """
    )

    result = project.run("--kernelperf", "--kernelperf-strict")

    assert result.ret == pytest.ExitCode.OK


def test_a_run_without_any_test_is_left_to_pytest_under_strict(project):
    result = project.run("--kernelperf", "--kernelperf-strict")

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert result.outlines[-1] == "kernelperf: 0 judged"


def test_collecting_only_judges_nothing_and_passes_under_strict(project):
    project.write("def test_it(): pass")

    result = project.run("--kernelperf", "--kernelperf-strict", "--collect-only")

    assert result.ret == pytest.ExitCode.OK
    assert result.outlines[-1] == "kernelperf: 0 judged"
