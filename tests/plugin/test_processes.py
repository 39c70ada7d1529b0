"""
Fresh processes: when a test is measured in more of them, and what comes of it.
"""

from __future__ import annotations

import pytest

RECORD = ("--kernelperf-record", "run.jsonl")


@pytest.fixture
def baselined(project):
    """
    Return a project of two tests with a baseline of 10 µs from five processes.
    """
    project.write_two()
    result = project.run("--kernelperf-update", "--kernelperf-processes", "5")
    assert result.ret == pytest.ExitCode.OK
    return project


def processes(project) -> dict[str, int]:
    """
    Return how many processes measured each test.
    """
    recorded = project.read_run().recorded
    return {one.measurement.case.test: len(one.measurement.processes) for one in recorded}


def test_what_is_unchanged_is_measured_once(baselined):
    baselined.run("--kernelperf", *RECORD)

    assert processes(baselined) == {"test_a": 1, "test_b": 1}


def test_only_what_seems_slower_is_measured_again_and_fails_if_it_stays(baselined):
    baselined.times(10.0, test_a=13.0)

    result = baselined.run("--kernelperf", *RECORD)

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["test_a *REGRESSED*", "test_b *UNCHANGED*"])
    assert processes(baselined) == {"test_a": 3, "test_b": 1}


def test_what_stays_undecided_is_measured_in_five(baselined):
    baselined.times(10.0, test_a=10.15)

    result = baselined.run("--kernelperf", *RECORD)

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["test_a *INCONCLUSIVE*"])
    assert processes(baselined) == {"test_a": 5, "test_b": 1}


def test_a_first_process_that_alone_was_slow_is_settled_by_the_others(baselined):
    later = {str(number): {"times_us": {"": 10.0}} for number in (2, 3, 4, 5)}
    baselined.script(times_us={"": 10.0, "test_a": 10.07}, later=later)

    result = baselined.run("--kernelperf", *RECORD)

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["test_a *UNCHANGED*"])
    assert processes(baselined)["test_a"] >= 3


def test_an_improvement_is_confirmed_before_it_is_stored(baselined):
    baselined.times(10.0, test_a=7.0)

    result = baselined.run("--kernelperf-update", *RECORD)

    result.stdout.fnmatch_lines(["moved *test_a*P50 10.00 µs -> 7.000 µs*"])
    assert processes(baselined)["test_a"] == 3


def test_a_fixed_number_of_processes_holds_for_every_test(baselined):
    baselined.times(10.0, test_a=13.0)

    baselined.run("--kernelperf", "--kernelperf-processes", "2", *RECORD)

    assert processes(baselined) == {"test_a": 2, "test_b": 2}


def test_the_number_can_stand_in_the_ini_file_and_the_option_wins(baselined):
    baselined.pytester.makeini("[pytest]\nkernelperf_processes = 2")

    baselined.run("--kernelperf", "-k", "test_a", *RECORD)
    assert processes(baselined) == {"test_a": 2}
    baselined.run("--kernelperf", "-k", "test_a", "--kernelperf-processes", "1", *RECORD)
    assert processes(baselined) == {"test_a": 1}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--kernelperf", "--kernelperf-processes", "0"), "--kernelperf-processes: expected*got 0"),
        (("--kernelperf", "--kernelperf-budget", "-1"), "--kernelperf-budget: expected*got -1*"),
        (("--kernelperf-processes", "3"), "--kernelperf-processes does nothing without*"),
        (("--kernelperf-budget", "3"), "--kernelperf-budget does nothing without*"),
    ],
)
def test_wrong_numbers_are_a_usage_error(project, args, message):
    result = project.run(*args)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_a_full_baseline_is_stored_in_one_run(baselined):
    entry = baselined.baseline_text()

    assert entry.count('"id"') == 10  # five processes of two tests
    assert "provisional" not in entry


def test_a_test_that_failed_is_not_measured_again(baselined):
    baselined.write("def test_a(kernelperf): assert kernelperf(abs, -1) == 2")
    baselined.times(13.0)

    baselined.run("--kernelperf", *RECORD)

    assert processes(baselined) == {"test_a": 1}


def test_all_measurements_of_a_test_are_joined_by_name(project):
    project.write(
        """
        def test_it(kernelperf):
            kernelperf.measure(abs, (-1,), name="first")
            kernelperf.measure(abs, (-1,), name="second")
        """
    )

    project.run("--kernelperf", "--kernelperf-processes", "3", *RECORD)

    recorded = project.read_run().recorded
    assert [one.measurement.case.name for one in recorded] == ["first", "second"]
    assert [len({p.id for p in one.measurement.processes}) for one in recorded] == [3, 3]


def test_a_kernel_that_is_wrong_in_a_later_process_is_invalid(project):
    project.write()
    project.script(later={"2": {"problem": "WRONG_OUTPUT"}})

    result = project.run("--kernelperf-update", "--kernelperf-processes", "3")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED *test_kernel - INVALID *"])
    assert project.baseline_files() == []
