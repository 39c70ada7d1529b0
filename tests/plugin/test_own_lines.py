"""
What a test does wrong with the fixture: shown at its own line, without frames of the plugin.
"""

from __future__ import annotations

import pytest

#: A wrong test, the line that is shown, and the message that is quoted.
WRONG = {
    "a value": (
        "def test_it(kernelperf): kernelperf.measure(abs, (-1,), rounds=0)",
        "kernelperf.measure(abs, (-1,), rounds=0)",
        "kernelperf.measure: rounds: expected *got 0",
    ),
    "a number that is not there": (
        "def test_it(kernelperf): assert kernelperf.p50_us < 5",
        "assert kernelperf.p50_us < 5",
        "there is no number, because *",
    ),
    "in a function of the test's own": (
        """
        def measure(kernelperf): kernelperf.measure(abs, (-1,), name="|")
        def test_it(kernelperf): measure(kernelperf)
        """,
        'kernelperf.measure(abs, (-1,), name="|")',
        "name: expected a printable text without '|' and without space at its ends, got '|'",
    ),
    "in a fixture": (
        """
        import pytest

        @pytest.fixture
        def measured(kernelperf): return kernelperf.compare({}, reference="a")
        def test_it(measured): pass
        """,
        'kernelperf.compare({}, reference="a")',
        "kernelperf.compare: expected a dictionary of at least two callables *",
    ),
}


@pytest.mark.parametrize(("source", "line", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("args", [(), ("--kernelperf",)])
def test_a_wrong_call_is_shown_at_the_tests_own_line(project, source, line, message, args):
    project.write(source)

    result = project.run(*args, "--showlocals", "-vv", "--junitxml=junit.xml")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*>*{line}", f"E *{message}", "test_it.py:*Error"])
    result.stdout.re_match_lines([r"(FAILED|ERROR) test_it.py::test_it - (?!pytest_kernelperf)"])
    result.stdout.no_re_match_line(r".*pytest_kernelperf/\w+.py:\d")
    assert "pytest_kernelperf.errors" not in junit_message(project)


def junit_message(project) -> str:
    """
    Return what JUnit's report quotes of the only failure.
    """
    return (project.path / "junit.xml").read_text().split('message="')[1].split('"')[0]


def test_the_full_traceback_is_there_for_who_asks(project):
    project.write("def test_it(kernelperf): kernelperf.measure(abs, (-1,), rounds=0)")

    result = project.run("--full-trace")

    result.stdout.re_match_lines([r".*pytest_kernelperf/\w+.py:\d+: OptionsError"])


def test_a_fault_of_a_kernel_keeps_the_frames_that_led_to_it(project):
    project.write(
        """
        def kernel(x): raise ZeroDivisionError
        def test_it(kernelperf): kernelperf(kernel, -1)
        """
    )

    result = project.run()

    result.stdout.re_match_lines([r".*in call_once", r".*test_it.py:\d+: ZeroDivisionError"])
