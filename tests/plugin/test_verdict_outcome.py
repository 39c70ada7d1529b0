"""
What a verdict does to its test: when it is raised, and as what.
"""

from __future__ import annotations

import pytest


@pytest.fixture
def baselined(project):
    """
    Return a project whose kernels have a baseline of 10 µs.
    """
    project.write_two()
    assert project.run("--kernelperf-update").ret == pytest.ExitCode.OK
    return project


def test_an_unchanged_kernel_passes(baselined):
    result = baselined.run("--kernelperf")

    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["test_a *UNCHANGED*", "test_b *UNCHANGED*"])
    assert result.outlines[-1] == "kernelperf: 2 judged"


def test_a_slower_kernel_fails_its_test_and_only_its_test(baselined):
    before = baselined.baseline_text()
    baselined.times(10.0, test_a=13.0)

    result = baselined.run("--kernelperf")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "REGRESSED test_it.py::test_a*",
            "*rerun: python -m pytest test_it.py::test_a --kernelperf",
            "test_a *REGRESSED*",
            "FAILED test_it.py::test_a - REGRESSED P50 [[]device] +30.00 % *",
            "kernelperf: 2 judged",
        ]
    )
    assert before == baselined.baseline_text()


def test_a_faster_kernel_passes_as_improved(baselined):
    baselined.times(7.0)

    result = baselined.run("--kernelperf")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["test_a *IMPROVED*"])


def test_a_missed_target_fails_the_test(project):
    project.write(
        """
        from pytest_kernelperf import kernel_perf

        @kernel_perf(target_us=5)
        def test_it(kernelperf):
            kernelperf(abs, -1)
        """
    )

    result = project.run("--kernelperf")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_it - MISSED_TARGET *"])


def test_the_verdict_is_raised_after_the_body_so_that_the_next_one_is_not_hidden(
    project, monkeypatch
):
    project.write(
        """
        def test_it(kernelperf):
            kernelperf.measure(abs, (-1,), name="first")
            kernelperf.measure(abs, (-1,), name="second")
            print("reached the end")
        """
    )
    project.run("--kernelperf-update")
    project.times(10.0, first=13.0, second=14.0)
    monkeypatch.setenv("COLUMNS", "160")

    result = project.run("--kernelperf", "-s")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*reached the end*",
            "REGRESSED *test_it first*",
            "REGRESSED *test_it second*",
            "FAILED *test_it - REGRESSED P50 [[]device] +30.00 % *; first; and 1 more",
        ]
    )


def test_a_wrong_result_is_reported_before_a_slow_one_which_is_still_listed(project):
    project.write("def test_it(kernelperf): assert kernelperf(abs, -1) == 1")
    project.run("--kernelperf-update")
    project.write("def test_it(kernelperf): assert kernelperf(abs, -1) == 2")
    project.times(13.0)

    result = project.run("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E * assert 1 == 2*",
            "test_it *INCONCLUSIVE*",
            "FAILED test_it.py::test_it - assert 1 == 2*",
        ]
    )


def test_an_invalid_measurement_fails_at_once_at_the_users_line(project):
    project.script(problem="WRONG_OUTPUT")
    project.write(
        """
        def test_it(kernelperf):
            kernelperf(abs, -1)
            print("went on")
        """
    )

    result = project.run("--kernelperf-update")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">*kernelperf(abs, -1)",
            "E *KernelPerfFailure: INVALID test_it.py::test_it [[]device] (WRONG_OUTPUT)",
            "E *the script says so",
            "kernelperf: 0 judged, 1 NOT judged (1 INVALID)",
        ]
    )
    result.stdout.no_fnmatch_line("*went on*")
    result.stdout.no_fnmatch_line("*bench.py*")
    assert project.baseline_files() == []


def test_an_invalid_measurement_that_the_test_swallows_fails_it_all_the_same(project):
    project.script(problem="POISON_LEFT")
    project.write(
        """
        import contextlib

        def test_it(kernelperf):
            with contextlib.suppress(AssertionError):
                kernelperf(abs, -1)
        """
    )

    result = project.run("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["INVALID test_it.py::test_it *(POISON_LEFT)", "FAILED *test_it - INVALID *"]
    )


def test_x_stops_at_a_slower_kernel(baselined):
    baselined.times(10.0, test_a=13.0)

    result = baselined.run("--kernelperf", "-x")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["kernelperf: stopped early, 1 not measured: test_it.py::test_b", "kernelperf: 1 judged"]
    )


def test_last_failed_runs_the_slower_kernel_again(baselined):
    baselined.times(10.0, test_a=13.0)
    baselined.run("--kernelperf", "-p", "cacheprovider")

    result = baselined.run("--kernelperf", "--lf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_a*"])


def test_junit_reports_the_slower_kernel_as_the_tests_failure(baselined):
    baselined.times(10.0, test_a=13.0)

    baselined.run("--kernelperf", "--junitxml=junit.xml")

    text = (baselined.path / "junit.xml").read_text()
    assert 'failures="1"' in text
    assert (
        '<failure message="REGRESSED P50 [device] +30.00 % (margin 5.00 %): 13.00 µs, was ' in text
    )


def test_the_short_summary_shows_the_change_in_a_narrow_terminal(baselined, monkeypatch):
    """The line is cut off at the terminal's width, so the name must not be said twice."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("BUILD_NUMBER", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    baselined.times(10.0, test_a=13.0)

    result = baselined.run("--kernelperf")

    (line,) = [line for line in result.outlines if line.startswith("FAILED ")]
    assert line.startswith("FAILED test_it.py::test_a - REGRESSED P50 [device] +30.00 %")
    assert len(line) <= 80


@pytest.mark.parametrize(
    ("mark", "outcome"),
    [
        ("xfail(raises=KernelPerfFailure)", {"xfailed": 1}),
        ("xfail(raises=ValueError)", {"failed": 1}),
        ("xfail(reason='known')", {"xfailed": 1}),
    ],
)
def test_xfail_knows_a_slow_verdict_by_its_exception(project, mark, outcome):
    project.write(
        f"""
        import pytest
        from pytest_kernelperf import KernelPerfFailure, kernel_perf

        @pytest.mark.{mark}
        @kernel_perf(target_us=5)
        def test_it(kernelperf):
            kernelperf(abs, -1)
        """
    )

    result = project.run("--kernelperf")

    result.assert_outcomes(**outcome)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("pass", {"failed": 1}),
        ("pytest.skip('not now')", {"skipped": 1}),
        ("pytest.xfail('known')", {"xfailed": 1}),
        ("kernelperf.compare({'a': abs, 'b': abs}, (-1,), reference='a')", {"passed": 1}),
    ],
)
def test_a_marked_test_that_passes_unmeasured_fails(project, body, outcome):
    project.write(
        f"""
        import pytest
        from pytest_kernelperf import kernel_perf

        @kernel_perf
        def test_it(kernelperf):
            {body}
        """
    )

    assert project.run().ret == pytest.ExitCode.OK
    result = project.run("--kernelperf")

    result.assert_outcomes(**outcome)
    if "failed" in outcome:
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(
            [
                "FAILED test_it.py::test_it - NOT_MEASURED *",
                "kernelperf: 0 judged, 1 NOT judged (1 NOT_MEASURED)",
            ]
        )


def test_an_unmarked_test_may_leave_the_fixture_unused(project):
    project.write("def test_it(kernelperf): pass")

    result = project.run("--kernelperf")

    result.assert_outcomes(passed=1)


def test_an_expected_failure_that_passes_unmeasured_stays_pytests_to_judge(project):
    project.write(
        """
        import pytest
        from pytest_kernelperf import kernel_perf

        @pytest.mark.xfail(strict=True)
        @kernel_perf
        def test_expected(): pass

        @pytest.mark.xfail(False, reason="not here")
        @kernel_perf
        def test_not_expected(): pass
        """
    )

    result = project.run("--kernelperf")

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*XPASS(strict)*", "FAILED *test_not_expected - NOT_MEASURED*"])


def test_a_failing_setup_after_a_measurement_is_kept_as_evidence_not_as_a_pass(project):
    project.write(
        """
        import pytest

        @pytest.fixture
        def broken(kernelperf):
            kernelperf(abs, -1)
            raise RuntimeError("broken")

        def test_it(broken): pass
        """
    )

    result = project.run("--kernelperf-update", "--kernelperf-record", "run.jsonl")

    result.assert_outcomes(errors=1)
    (recorded,) = project.read_run().recorded
    assert not recorded.body_passed
    assert project.baseline_files() == []
