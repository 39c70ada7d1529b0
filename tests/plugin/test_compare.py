"""
`kernelperf.compare`: interleaved callables, their ratios, and whether they agree.
"""

from __future__ import annotations

import pytest

COMPARE = """
    import pytest
    from pytest_kernelperf import NotMeasuredError

    def test_it(kernelperf):
        found = kernelperf.compare({"ours": abs, "theirs": abs}, (-1,), reference="theirs")
        assert found.outputs == {"ours": 1, "theirs": 1}
        assert found.measured == kernelperf.measured
        if found.measured:
            assert found.speedup("ours") == pytest.approx(2, rel=1e-3)
            assert found["ours"].speedup_interval.low <= 2.001
            assert [one.name for one in found.ratios] == ["ours", "theirs"]
            with pytest.raises(KeyError, match="expected one of 'ours', 'theirs'"):
                found["mine"]
        else:
            with pytest.raises(NotMeasuredError, match="--kernelperf"):
                found.speedup("ours")
"""


def test_unmeasured_each_callable_is_called_once(project):
    project.write(
        """
        def test_it(kernelperf):
            calls = []
            each = {name: lambda name=name: calls.append(name) for name in ("a", "b")}
            kernelperf.compare(each, reference="a")
            assert calls == ["a", "b"]
        """
    )

    assert project.run().ret == pytest.ExitCode.OK


@pytest.mark.parametrize("args", [(), ("--kernelperf",)])
def test_ratios_are_over_the_reference(project, args):
    project.times(10.0, ours=5.0, theirs=10.0)
    project.write(COMPARE)

    result = project.run(*args)

    assert result.ret == pytest.ExitCode.OK
    if args:
        result.stdout.fnmatch_lines(["*ours*2.00*"])


@pytest.mark.parametrize("args", [(), ("--kernelperf",)])
def test_callables_that_disagree_fail_the_test(project, args):
    project.write(
        """
        def test_it(kernelperf):
            kernelperf.compare({"a": abs, "b": lambda x: x}, (-1,), reference="a")
        """
    )

    result = project.run(*args)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [">*kernelperf.compare*", "E *INVALID (WRONG_OUTPUT)", "E *'b' does not agree with 'a'*"]
    )


def test_callables_declared_random_need_not_agree(project):
    project.write(
        """
        def test_it(kernelperf):
            kernelperf.compare(
                {"a": abs, "b": lambda x: x}, (-1,), reference="a", deterministic=False
            )
        """
    )

    assert project.run().ret == pytest.ExitCode.OK


def test_an_invalid_callable_fails_the_test_and_gives_no_ratio(project):
    project.script(problem="POISON_LEFT")
    project.write(
        """
        def test_it(kernelperf):
            kernelperf.compare({"a": abs, "b": abs}, (-1,), reference="a")
        """
    )

    result = project.run("--kernelperf", "--kernelperf-record", "run.jsonl")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *INVALID *(POISON_LEFT)", "kernelperf: 0 judged, 1 NOT judged (1 INVALID)"]
    )
    (comparison,) = project.read_run().comparisons
    assert (comparison.ratios, comparison.problem.code) == ((), "POISON_LEFT")


DISAGREE = """
    def test_it(kernelperf):
        kernelperf.compare({"a": abs, "b": lambda x: x}, (-1,), reference="a")
"""


def test_a_comparison_that_fails_is_counted_and_recorded(project):
    """
    The last line, the JSON document and the record tell what the exit status tells.
    """
    project.write(DISAGREE)

    result = project.run(
        "--kernelperf", "--kernelperf-record", "run.jsonl", "--kernelperf-json", "run.json"
    )

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.outlines[-1] == "kernelperf: 0 judged, 1 NOT judged (1 INVALID)"
    (comparison,) = project.read_run().comparisons
    assert (comparison.ratios, comparison.problem.code) == ((), "WRONG_OUTPUT")
    assert {"a", "b"} == set(comparison.measurements)
    assert project.read_run().failed == ()
    document = project.read_json()
    assert document["exit_failed"]
    assert {"judged": 0, "not_judged": 1, "statuses": {"INVALID": 1}} == document["counts"]
    (shown,) = document["comparisons"]
    assert (shown["ratios"], shown["problem"]["code"]) == ([], "WRONG_OUTPUT")


def test_a_comparison_that_fails_fails_its_test_even_if_the_test_swallows_it(project):
    project.write(
        """
        import contextlib

        def test_it(kernelperf):
            with contextlib.suppress(AssertionError):
                kernelperf.compare({"a": abs, "b": lambda x: x}, (-1,), reference="a")
        """
    )

    result = project.run("--kernelperf")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED *test_it - INVALID *(WRONG_OUTPUT)*"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("kernelperf.compare({'a': abs}, (-1,), reference='a')", "*at least two callables*"),
        ("kernelperf.compare([abs, abs], (-1,), reference='a')", "*expected a dictionary*"),
        (
            "kernelperf.compare({'a': abs, 'b': abs}, (-1,), reference='c')",
            "*reference: expected one of 'a', 'b', got 'c'",
        ),
        (
            "kernelperf.compare({'a': abs, 'b': abs}, (-1,), reference='a', min_speed=2)",
            "kernelperf.compare: unknown keyword 'min_speed'*",
        ),
        (
            "kernelperf.compare({'a': abs, 'b': abs}, (-1,), reference='a', min_speedup={'c': 2})",
            "kernelperf.compare: min_speedup: expected one of 'b', got 'c'",
        ),
        (
            "kernelperf.compare({'a': abs, 'b': abs}, (-1,), reference='a', min_speedup={'a': 2})",
            "kernelperf.compare: min_speedup: expected one of 'b', got 'a': that is the reference*",
        ),
        (
            "kernelperf.compare({'a': abs, 'b': abs}, (-1,), reference='a', min_speedup=0)",
            "kernelperf.compare: min_speedup: expected a ratio above 0 such as 1.1, got 0",
        ),
        (
            "kernelperf.compare({'a': abs, 'b': abs}, (-1,), reference='a', rtol=-1)",
            "kernelperf.compare: rtol: expected a number of at least 0*got -1",
        ),
        (
            "kernelperf.compare({'a': abs, 'b': abs}, (-1,), reference='a', target_us=2)",
            "kernelperf.compare: target_us= judges against *use kernelperf.measure*",
        ),
    ],
)
def test_a_wrong_comparison_is_refused(project, call, message):
    project.write(f"def test_it(kernelperf): {call}")

    result = project.run()

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"E *OptionsError: {message}"])


def test_a_comparison_is_no_baseline(project):
    project.write(COMPARE.replace("approx(2", "approx(1"))
    project.times(10.0, ours=10.0, theirs=10.0)

    result = project.run("--kernelperf-update")

    assert result.ret == pytest.ExitCode.OK
    assert project.baseline_files() == []


def test_the_numbers_of_a_measurement_beside_a_comparison_stay_its_own(project):
    project.times(10.0, ours=5.0, theirs=10.0)
    project.write(
        """
        import pytest

        def test_it(kernelperf):
            kernelperf(abs, -1)
            kernelperf.compare({"ours": abs, "theirs": abs}, (-1,), reference="theirs")
            assert kernelperf.p50_us == pytest.approx(10, rel=0.01)
        """
    )

    assert project.run("--kernelperf").ret == pytest.ExitCode.OK


def test_two_comparisons_need_names(project):
    project.write(
        """
        def test_it(kernelperf):
            for _ in range(2):
                kernelperf.compare({"a": abs, "b": abs}, (-1,), reference="a")
        """
    )

    result = project.run()

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["E *OptionsError: *two measurements called 'compare'*name=*"])
