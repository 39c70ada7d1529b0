"""
`--kernelperf-update`, `--kernelperf-update-new` and `--kernelperf-accept-regressions`.
"""

from __future__ import annotations

import pytest


@pytest.fixture
def project_of_two(project):
    """
    Return a project of two tests without baselines.
    """
    project.write_two()
    return project


@pytest.fixture
def baselined(project_of_two):
    """
    Return a project whose kernels have a baseline of 10 µs.
    """
    assert project_of_two.run("--kernelperf-update").ret == pytest.ExitCode.OK
    return project_of_two


def test_nothing_is_written_unless_asked(project_of_two):
    result = project_of_two.run("--kernelperf")

    assert result.ret == pytest.ExitCode.OK
    assert project_of_two.baseline_files() == []


@pytest.mark.parametrize("flag", ["--kernelperf-update", "--kernelperf-update-new"])
def test_an_update_implies_measuring_and_adds_what_has_no_baseline(project_of_two, flag):
    result = project_of_two.run(flag)

    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["added *test_a*", "added *test_b*"])
    assert project_of_two.baseline_files() == ["nvidia-scripted/test_it.json"]
    assert "test_a | device cold paced" in project_of_two.baseline_text()


def test_an_update_that_was_stored_is_judged_against_in_the_next_run(baselined):
    result = baselined.run("--kernelperf")

    result.stdout.fnmatch_lines(["test_a *UNCHANGED*"])


def test_a_regression_fails_and_is_not_stored_without_accepting_it(baselined):
    before = baselined.baseline_text()
    baselined.times(13.0)

    result = baselined.run("--kernelperf-update")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "refused *test_a*P50 10.00 µs, measured 13.00 µs (+30.00 %)*"
            "--kernelperf-accept-regressions*"
        ]
    )
    assert before == baselined.baseline_text()


def test_an_accepted_regression_passes_and_is_the_next_baseline(baselined):
    baselined.times(13.0)

    accepted = baselined.run("--kernelperf-update", "--kernelperf-accept-regressions")
    after = baselined.run("--kernelperf")

    assert accepted.ret == pytest.ExitCode.OK
    accepted.assert_outcomes(passed=2)
    accepted.stdout.fnmatch_lines(["moved *test_a*P50 10.00 µs -> 13.00 µs (+30.00 %)*"])
    after.stdout.fnmatch_lines(["test_a *UNCHANGED*"])


def test_an_accepted_regression_that_misses_its_target_fails_and_is_not_stored(project):
    project.write(
        """
        from pytest_kernelperf import kernel_perf

        @kernel_perf(target_us=11)
        def test_it(kernelperf):
            kernelperf(abs, -1)
        """
    )
    project.run("--kernelperf-update")
    before = project.baseline_text()
    project.times(13.0)

    result = project.run(
        "--kernelperf-update", "--kernelperf-accept-regressions", "--kernelperf-processes", "3"
    )

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*also misses its target*", "refused *misses its target*"])
    assert before == project.baseline_text()


def test_an_accepted_regression_that_is_not_stored_fails_the_run(project):
    """
    P50 is clearly slower, P99 too uncertain to store: then nothing is stored, nothing accepted.
    """
    project.write(
        """
        from pytest_kernelperf import kernel_perf

        @kernel_perf(percentiles=[50, 99], timer="launch", max_regression={50: 0.02, 99: 0.20})
        def test_it(kernelperf):
            kernelperf(abs, -1)
        """
    )
    for _ in range(5):
        project.run("--kernelperf-update")
    before = project.baseline_text()
    project.times(12.0)

    result = project.run(
        *("--kernelperf-update", "--kernelperf-accept-regressions"),
        *("--kernelperf-processes", "3", "--kernelperf-json", "run.json"),
    )

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["refused *P99 INCONCLUSIVE*", "kernelperf: ERROR: test_it*P50 REGRESSED*not stored*"]
    )
    assert before == project.baseline_text()
    assert project.read_json()["exit_failed"]


def test_an_improvement_moves_the_reference(baselined):
    baselined.times(7.0)

    result = baselined.run("--kernelperf-update")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["moved *test_a*P50 10.00 µs -> 7.000 µs*"])


def test_update_new_leaves_what_has_a_baseline(baselined):
    before = baselined.baseline_text()
    baselined.times(7.0)

    result = baselined.run("--kernelperf-update-new")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["kept *test_a*"])
    assert before == baselined.baseline_text()


def test_what_the_run_did_not_select_is_not_touched(baselined):
    baselined.times(7.0)

    result = baselined.run("--kernelperf-update", "-k", "test_a")

    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.no_fnmatch_line("*stopped early*")
    after = baselined.run("--kernelperf")
    after.stdout.fnmatch_lines(["test_a *UNCHANGED*", "test_b *IMPROVED*"])


def test_under_x_what_passed_is_stored_and_the_rest_is_named(project):
    project.write(
        """
        def test_first(kernelperf): kernelperf(abs, -1)
        def test_broken(kernelperf): assert kernelperf(abs, -1) == 2
        def test_last(kernelperf): kernelperf(abs, -1)
        """
    )

    result = project.run("--kernelperf-update", "-x")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "added *test_first*",
            "refused *test_broken*",
            "kernelperf: *stopped early, 1 not measured: test_it.py::test_last",
        ]
    )
    assert '"test_first' in project.baseline_text()
    assert "test_broken" not in project.baseline_text()


def test_an_interrupted_run_stores_what_passed_and_names_the_rest(project):
    project.write(
        """
        def interrupt(x):
            raise KeyboardInterrupt

        def test_first(kernelperf): kernelperf(abs, -1)
        def test_second(kernelperf): kernelperf(interrupt, -1)
        def test_last(kernelperf): kernelperf(abs, -1)
        """
    )

    result = project.run("--kernelperf-update", "--kernelperf-record", "run.jsonl")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["added *test_first*", "*2 not measured: test_it.py::test_second, test_it.py::test_last"]
    )
    assert '"test_first' in project.baseline_text()
    assert not project.read_run().complete


def test_five_updates_complete_a_baseline(project):
    """
    The README's promise: each run adds its process until the baseline knows how they differ.
    """
    project.write()
    for _ in range(5):
        assert project.run("--kernelperf-update").ret == pytest.ExitCode.OK

    result = project.run("--kernelperf")

    result.stdout.no_fnmatch_line("*PROVISIONAL*")
    project.times(10.5)
    project.run("--kernelperf").assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--kernelperf", "--kernelperf-accept-regressions"), "*add --kernelperf-update"),
        (("--kernelperf-update", "--kernelperf-update-new"), "*expected one of them, got both"),
    ],
)
def test_contradicting_options_are_a_usage_error(project_of_two, args, message):
    result = project_of_two.run(*args)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert project_of_two.baseline_files() == []


def test_baselines_that_cannot_be_written_fail_the_run_by_name(project_of_two, monkeypatch):
    """
    Root may write anywhere, so the system call fails instead of the permission.
    """

    def no_space(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", no_space)

    result = project_of_two.run("--kernelperf-update")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["kernelperf: ERROR: *test_it.json*No space left on device*"])
    assert project_of_two.baseline_files() == []


def test_an_interrupt_while_writing_leaves_the_old_file(baselined, monkeypatch):
    before = baselined.baseline_text()
    baselined.times(7.0)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)

    result = baselined.run("--kernelperf-update")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["kernelperf: ERROR: interrupted while storing baselines*"])
    assert before == baselined.baseline_text()
    assert baselined.baseline_files() == ["nvidia-scripted/test_it.json"]


@pytest.mark.parametrize("flag", ["--kernelperf-update", "--kernelperf-update-new"])
def test_what_is_judged_against_a_baseline_that_vanishes_meanwhile_begins_no_new_one(
    baselined, flag
):
    """As by a checkout beside the run: a slow time that failed its test was the new reference."""
    baselined.write_two(
        """
    def test_c(kernelperf):
        import shutil
        kernelperf(abs, -1)
        shutil.rmtree("baselines")
    """
    )
    baselined.times(10.0, test_a=13.0)

    result = baselined.run(flag)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["refused *test_a*put it back*", "refused *test_b*put it back*", "added *test_c*"]
    )
    assert "test_a" not in baselined.baseline_text()


@pytest.mark.parametrize("time_us", [0.0, float("nan")])
def test_what_no_clock_can_tell_is_refused_and_the_rest_is_stored(project_of_two, time_us):
    """A call shorter than a tick takes 0; it ended the run with a traceback and nothing stored."""
    project_of_two.times(10.0, test_a=time_us)

    result = project_of_two.run("--kernelperf-update")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["refused *test_a*CLOCK_STOOD_STILL*", "added *test_b*"])
    assert "test_a" not in project_of_two.baseline_text()
