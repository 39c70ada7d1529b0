"""
The marker at collection: a wrong one is an error of its own test, named, and never a crash.
"""

from __future__ import annotations

import pytest

MIXED = """
    import pytest
    from pytest_kernelperf import kernel_perf

    @kernel_perf
    def test_right(kernelperf):
        kernelperf(abs, -1)

    @kernel_perf(tmer="wall")
    def test_wrong(kernelperf):
        pass
"""


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("kernel_perf(tmer='wall')", "unknown keyword 'tmer': did you mean 'timer'?"),
        ("kernel_perf(timer='devise')", "timer: unknown timer 'devise': did you mean 'device'?"),
        ("kernel_perf(target_us=-5)", "target_us: expected microseconds above 0, got -5"),
        (
            "kernel_perf(target_us=float('nan'))",
            "target_us: expected microseconds above 0, got nan",
        ),
        ("kernel_perf(5)", "expected keywords only, got the positional 5"),
        ("kernel_perf(percentile=99)", "there is no target_us"),
        (
            "kernel_perf(per='tmp_pth')",
            "per: unknown parameter or fixture 'tmp_pth': there is none",
        ),
        ("pytest.mark.kernelperf", "the mark is called 'kernel_perf', got 'kernelperf'"),
    ],
)
def test_a_wrong_mark_is_a_collection_error_that_says_what_is_right(project, mark, message):
    project.write(
        f"""
        import pytest
        from pytest_kernelperf import kernel_perf

        @{mark}
        def test_wrong():
            pass
        """
    )

    result = project.run("-W", "ignore::pytest.PytestUnknownMarkWarning")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{message.replace('[', '[[]')}*", "in test_it.py::test_wrong"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_per_names_a_parameter_or_fixture_of_the_test(project):
    project.write(
        """
        import pytest
        from pytest_kernelperf import kernel_perf

        @pytest.fixture
        def items(): return 8

        @pytest.mark.parametrize("batch", [4])
        @kernel_perf(per="bacth")
        def test_wrong(kernelperf, batch): pass

        @pytest.mark.parametrize("batch", [4])
        @kernel_perf(per="batch")
        def test_parameter(kernelperf, batch): kernelperf(abs, -1)

        @kernel_perf(per="items")
        def test_asked_for_late(kernelperf, request):
            request.getfixturevalue("items")
            kernelperf(abs, -1)
        """
    )

    result = project.run("--continue-on-collection-errors")

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*per: unknown parameter or fixture 'bacth': did you mean 'batch'?",
            "in test_it.py::test_wrong[[]4]",
        ]
    )


def test_a_modules_per_need_not_suit_every_test(project):
    project.write(
        """
        import pytest
        from pytest_kernelperf import kernel_perf

        pytestmark = kernel_perf(per="batch")

        @pytest.mark.parametrize("batch", [4])
        def test_parameter(kernelperf, batch): kernelperf(abs, -1)

        def test_said_in_the_call(kernelperf): kernelperf.measure(abs, (-1,), per=2)

        def test_without(kernelperf): kernelperf(abs, -1)
        """
    )

    result = project.run()

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*per='batch': expected the name of a parameter or fixture*"])


def test_the_other_tests_of_the_file_are_collected(project):
    project.write(MIXED)

    result = project.run("--continue-on-collection-errors", "--kernelperf")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, errors=1)


def test_a_wrong_mark_that_was_not_selected_disturbs_nobody(project):
    project.write(MIXED)

    result = project.run("-k", "right")

    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1, deselected=1)


def test_a_wrong_mark_survives_xdist(project):
    project.write(MIXED)

    result = project.run_apart("-p", "xdist", "-n", "2")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*unknown keyword 'tmer': did you mean 'timer'?"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_wrong_mark_on_a_unittest_class_is_an_error_of_each_test(project):
    project.write(
        """
        import unittest
        from pytest_kernelperf import kernel_perf

        @kernel_perf(rounds=0)
        class TestWrong(unittest.TestCase):
            def test_a(self): pass
            def test_b(self): pass
        """
    )

    result = project.run()

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*rounds: expected a whole number of at least 1, got 0"])


def test_a_wrong_mark_of_one_parameter_set_spares_the_others(project):
    project.write(
        """
        import pytest
        from pytest_kernelperf import kernel_perf

        wrong = pytest.param(2, marks=kernel_perf(l2="hot"))

        @pytest.mark.parametrize("n", [1, wrong])
        def test_n(n): pass
        """
    )

    result = project.run("--continue-on-collection-errors")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["in test_it.py::test_n[[]2]"])


def test_junit_names_the_test_with_the_wrong_mark(project):
    project.write(MIXED)

    project.run("--junitxml=junit.xml")

    text = (project.path / "junit.xml").read_text()
    assert "unknown keyword 'tmer'" in text
    assert "test_wrong" in text


def test_stacked_marks_merge_keyword_by_keyword_the_closest_wins(project):
    """
    Rounds come from the parameter set, samples from the function, the rest from farther out.
    """
    project.pytester.makeini("[pytest]\nkernelperf_rounds = 9\nkernelperf_max_regression = 0.04")
    project.write(
        """
        import pytest
        from pytest_kernelperf import kernel_perf

        pytestmark = kernel_perf(rounds=8, samples=8, percentiles=(50, 90), l2="warm")

        class Base:
            pass

        @kernel_perf(timer="wall", rounds=7, samples=7, percentiles=(50, 91))
        class TestIt:
            @pytest.mark.parametrize("n", [pytest.param(1, marks=kernel_perf(rounds=2))])
            @kernel_perf(rounds=6, samples=3)
            def test_n(self, kernelperf, n):
                kernelperf(abs, -1)
        """
    )

    result = project.run("--kernelperf", "--kernelperf-record", "run.jsonl")

    assert result.ret == pytest.ExitCode.OK
    (recorded,) = project.read_run().recorded
    (process,) = recorded.measurement.processes
    assert [len(one.times_us) for one in process.rounds] == [3, 3]
    assert recorded.measurement.case.timer == "wall"
    assert recorded.measurement.case.l2 == "warm"
    assert recorded.limits.percentiles == (50.0, 91.0)
    assert recorded.limits.max_regression == {50.0: 0.04}


def test_a_classs_own_mark_wins_over_its_base_class(project):
    project.write(
        """
        from pytest_kernelperf import kernel_perf

        @kernel_perf(rounds=8, samples=4)
        class Base:
            def test_n(self, kernelperf):
                kernelperf(abs, -1)

        @kernel_perf(rounds=2)
        class TestDerived(Base):
            pass
        """
    )

    result = project.run("--kernelperf", "--kernelperf-record", "run.jsonl")

    assert result.ret == pytest.ExitCode.OK
    (recorded,) = project.read_run().recorded
    rounds = recorded.measurement.processes[0].rounds
    assert (len(rounds), len(rounds[0].times_us)) == (2, 4)


def test_the_marker_is_registered_for_strict_runs(project):
    project.write()

    result = project.run("--strict-markers", "--markers")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["@pytest.mark.kernel_perf(*target_us*resources): measure*"])
