"""
The `kernelperf` fixture, measured and unmeasured.
"""

from __future__ import annotations

import pytest

ALL_NUMBERS = """
    import pytest
    from pytest_kernelperf import NotMeasuredError, kernel_perf

    @kernel_perf(percentiles=(50, 95, 99))
    def test_it(kernelperf):
        out = kernelperf(lambda x, *, y: (x, y), 1, y=2)
        assert out == (1, 2)
        if kernelperf.measured:
            assert kernelperf.p50_us == pytest.approx(10, rel=0.01)
            assert kernelperf.p95_us > kernelperf.p50_us
            assert kernelperf.p99_us == kernelperf.percentile_us(99)
            interval = kernelperf.interval_us(50)
            assert interval.low <= kernelperf.p50_us <= interval.high
            assert len(kernelperf.samples_us) == 5 * 20
            assert kernelperf.verdict.status == "NO_BASELINE"
            assert [m.case.timer for m in kernelperf.measurements] == ["device", "launch"]
        else:
            assert kernelperf.measurements == ()
            for read in (
                lambda: kernelperf.p50_us,
                lambda: kernelperf.interval_us(50),
                lambda: kernelperf.samples_us,
                lambda: kernelperf.verdict,
            ):
                with pytest.raises(NotMeasuredError, match="run pytest with --kernelperf"):
                    read()
"""


@pytest.mark.parametrize("args", [(), ("--kernelperf",)])
def test_the_fixture_calls_the_function_and_gives_plain_numbers_if_measured(project, args):
    project.write(ALL_NUMBERS)

    result = project.run(*args)

    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1)
    assert project.baseline_files() == []


def test_unmeasured_the_function_is_called_once(project):
    project.write(
        """
        def test_it(kernelperf):
            calls = []
            kernelperf(calls.append, 1)
            assert calls == [1]
        """
    )

    assert project.run().ret == pytest.ExitCode.OK


def test_without_the_marker_the_fixture_measures_with_all_defaults(project):
    project.write("def test_it(kernelperf): kernelperf(abs, -1)")

    result = project.run("--kernelperf", "--kernelperf-update")

    assert result.ret == pytest.ExitCode.OK
    assert project.baseline_files() == ["nvidia-scripted/test_it.json"]


def test_named_measurements_are_told_apart(project):
    project.times(10.0, bwd=25.0)
    project.write(
        """
        import pytest

        def test_it(kernelperf):
            kernelperf.measure(abs, (-1,), name="fwd")
            kernelperf.measure(abs, (-1,), name="bwd", rounds=2)
            assert kernelperf["fwd"].p50_us == pytest.approx(10, rel=0.01)
            assert kernelperf["bwd"].p50_us == pytest.approx(25, rel=0.01)
            assert len(kernelperf["bwd"].measurements[0].processes[0].rounds) == 2
            with pytest.raises(KeyError, match="no measurement is called 'x'.*'fwd', 'bwd'"):
                kernelperf["x"]
            with pytest.raises(Exception, match=r"kernelperf\\['fwd'\\].p50_us"):
                kernelperf.p50_us
        """
    )

    result = project.run("--kernelperf-update")

    assert result.ret == pytest.ExitCode.OK
    assert "test_it fwd | device cold paced" in project.baseline_text()
    assert "test_it bwd | device cold paced" in project.baseline_text()


@pytest.mark.parametrize("args", [(), ("--kernelperf",)])
@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("kernelperf(abs, -1)", "measures twice without a name*name='forward'*"),
        ("kernelperf.measure(abs, (-1,), name='a'); kernelperf.measure(abs, (-1,), name='a')",
         "two measurements called 'a': give each its own name=*"),
        ("kernelperf.measure(abs, (-1,), name='a|b')", "name: *text without '|'*"),
        ("kernelperf.measure(abs, (-1,), name='')", "name: expected a printable text*"),
        ("kernelperf.measure(abs, (-1,), name='x ')", "name: *space at its ends, got 'x '"),
        (r"kernelperf.measure(abs, (-1,), name='\udc80')", "name: expected a printable text*"),
    ],
)  # fmt: skip
def test_measurements_without_a_name_of_their_own_are_refused(project, args, second, message):
    """
    Unmeasured too, so that a machine without a GPU finds it.
    """
    project.write(f"def test_it(kernelperf):\n    kernelperf(abs, -1)\n    {second}")

    result = project.run(*args)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *OptionsError: *{message}"])


def test_a_percentile_that_the_timer_cannot_give_raises(project):
    project.write(
        """
        def test_it(kernelperf):
            kernelperf(abs, -1)
            kernelperf.p99_us
        """
    )

    result = project.run("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *NotMeasuredError: P99 was not measured*percentiles=(50, 99)*"])


def test_a_number_before_the_call_raises(project):
    project.write("def test_it(kernelperf): kernelperf.p50_us")

    result = project.run("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *NotMeasuredError*nothing was measured yet*"])


@pytest.mark.parametrize("args", [(), ("--kernelperf",)])
@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("measure(abs, -1)", "kernelperf.measure: *as a tuple, got int: write (x,) *"),
        # What iterates would fall apart, and its only row be measured.
        ("measure(abs, range(1))", "kernelperf.measure: *as a tuple, got range: write (x,) *"),
        (
            "measure(abs, (1,), [2])",
            "kernelperf.measure: *as a dictionary, got list: write kwargs=*",
        ),
        (
            "compare({'a': abs, 'b': abs}, range(1), reference='a')",
            "kernelperf.compare: *as a tuple, got range*",
        ),
        (
            "data_independence(abs, {'a': (1,), 'b': (2,)}, kwargs=[3])",
            "kernelperf.data_independence: *as a dictionary, got list*",
        ),
    ],
)
def test_arguments_that_are_no_tuple_are_refused(project, args, call, message):
    project.write(f"def test_it(kernelperf): kernelperf.{call}")

    result = project.run(*args)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"E *OptionsError: {message}"])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ("timr='wall'", "kernelperf.measure: unknown keyword 'timr': did you mean 'timer'?"),
        ("rounds=0", "kernelperf.measure: rounds: expected a whole number*"),
        ("requires='cuda'", "kernelperf.measure: requires= skips a test before it starts*"),
        ("per='batch'", "per='batch': expected the name of a parameter or fixture*"),
        ("per='word'", "per='word': expected a parameter or fixture that holds a number*'eight'"),
        ("per='zero'", "per='zero': expected a parameter or fixture that holds a number*0"),
    ],
)
def test_wrong_keywords_of_a_measurement_fail_the_test(project, keywords, message):
    project.write(
        f"""
        import pytest

        @pytest.fixture
        def word(): return "eight"

        @pytest.mark.parametrize("zero", [0])
        def test_it(kernelperf, word, zero):
            kernelperf.measure(abs, (-1,), {keywords})
        """
    )

    result = project.run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *OptionsError: {message}"])


@pytest.mark.parametrize("how", ["parameter", "fixture", "number"])
def test_per_divides_the_time_before_it_meets_the_target(project, how):
    """
    10 µs for a batch of 4 is 2.5 µs per item: over a target of 2, under one of 3.
    """
    project.write(
        f"""
        import pytest
        from pytest_kernelperf import kernel_perf

        @pytest.fixture
        def size(): return 4

        PER = {{"parameter": "batch", "fixture": "size", "number": 4}}[{how!r}]

        @pytest.mark.parametrize("batch", [4])
        @pytest.mark.parametrize("unused", [
            pytest.param(0, marks=kernel_perf(target_us=3, per=PER), id="met"),
            pytest.param(0, marks=kernel_perf(target_us=2, per=PER), id="missed"),
        ])
        def test_it(kernelperf, batch, unused, size):
            kernelperf(abs, -1)
        """
    )

    result = project.run("--kernelperf")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED *missed*MISSED_TARGET*"])


def test_a_unittest_class_measures_through_an_autouse_fixture(project):
    project.write(
        """
        import unittest
        import pytest
        from pytest_kernelperf import kernel_perf

        @kernel_perf(target_us=5)
        class TestIt(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def take(self, kernelperf):
                self.kernelperf = kernelperf

            def test_slow(self):
                self.kernelperf(abs, -1)

            def test_wrong(self):
                self.kernelperf(abs, -1)
                self.assertEqual(1, 2)
        """
    )

    result = project.run("--kernelperf")

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["FAILED *test_slow*MISSED_TARGET*", "FAILED *test_wrong*AssertionError*"]
    )


@pytest.mark.parametrize(
    "call",
    [
        "kernelperf.measure(abs, (-1,), target_us=1)",
        "kernelperf.compare({'a': abs, 'b': abs}, (-1,), reference='a')",
        "kernelperf.data_independence(abs, {'a': (1,), 'b': (2,)})",
    ],
)
def test_measuring_in_a_teardown_is_an_error(project, call):
    """
    The test is judged by then: the measurement would be lost without a word.
    """
    project.write(
        f"""
        import pytest

        @pytest.fixture
        def late(kernelperf):
            yield
            {call}

        def test_it(late): pass
        """
    )

    result = project.run("--kernelperf")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["E *OptionsError: measured after the test's end*"])
