"""
What failed is never stored by an update: whatever failed in a test, and when.
"""

from __future__ import annotations

import pytest


def test_a_failed_test_is_never_stored(project):
    project.write("def test_it(kernelperf): assert kernelperf(abs, -1) == 2")

    result = project.run("--kernelperf-update")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["refused *test_it*"])
    assert project.baseline_files() == []


def test_a_kernel_that_raises_shows_the_users_traceback_and_stores_nothing(project):
    project.write(
        """
        def broken(x):
            raise ZeroDivisionError("from the kernel")

        def test_it(kernelperf):
            kernelperf(broken, 1)
        """
    )

    result = project.run("--kernelperf-update")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [">*kernelperf(broken, 1)", ">*raise ZeroDivisionError*", "E *from the kernel"]
    )
    assert project.baseline_files() == []


def test_a_test_with_a_failed_subtest_is_never_stored(project):
    if int(pytest.__version__.split(".")[0]) < 9:
        pytest.skip("subtests came with pytest 9")
    project.write(
        """
        def test_it(kernelperf, subtests):
            out = kernelperf(abs, -1)
            with subtests.test("value"):
                assert out == 2
        """
    )

    result = project.run("--kernelperf-update")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert project.baseline_files() == []


@pytest.mark.parametrize("flag", ["--kernelperf-update", "--kernelperf-update-new"])
def test_a_test_whose_teardown_fails_is_not_stored(project, flag):
    project.write(
        """
        import pytest

        @pytest.fixture
        def fragile():
            yield
            raise RuntimeError("the check after the test")

        def test_fails_late(kernelperf, fragile): kernelperf(abs, -1)
        def test_sound(kernelperf): kernelperf(abs, -1)
        """
    )

    result = project.run(flag)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["refused *test_fails_late*", "added *test_sound*"])
    assert "test_fails_late" not in project.baseline_text()


def test_of_a_slow_test_whose_teardown_fails_too_nothing_is_stored(project):
    """The slow verdict is the reason of one failure, not of the other."""
    late = "request.addfinalizer(lambda: 1 / 0)"
    slow = "kernelperf.measure(abs, (-1,), name='slow')"
    new = "kernelperf.measure(abs, (-1,), name='new')"
    project.write(f"def test_it(kernelperf, request): {slow}")
    project.run("--kernelperf-update")
    before = project.baseline_text()
    project.times(10.0, slow=13.0)
    project.write(f"def test_it(kernelperf, request): {late}; {slow}; {new}")

    project.run("--kernelperf-update", "--kernelperf-record", "run.jsonl")

    assert before == project.baseline_text()
    assert project.read_run().failed == ("test_it.py::test_it",)
