"""
A fixed number of processes: each measures all tests in one go, before the run's own.
"""

from __future__ import annotations

import pytest
from recorded_runs import THREE, counts, notes

COURSE = """
    import os, pytest

    def note(what):
        with open("course.txt", "a") as file:
            file.write(f"{os.environ.get('KERNELPERF_PROCESS', '1')}{what} ")

    @pytest.fixture(scope="session", autouse=True)
    def session():
        yield
        note("end")

    @pytest.mark.parametrize("name", "abcdef")
    def test_it(kernelperf, name):
        note(name)
        kernelperf(abs, -1)
"""


def calls_and_processes(project) -> tuple[int, int]:
    """
    Return the calls per sample of the one measurement of a run, and how many processes it has.
    """
    (one,) = project.read_run().recorded
    return one.measurement.plan.calls_per_sample, len(one.measurement.processes)


def test_each_process_goes_through_all_tests_and_ends_before_the_next(project_with_workers):
    project = project_with_workers
    project.write(COURSE)

    result = project.run_apart(*THREE)

    result.assert_outcomes(passed=6)
    assert set(counts(project).values()) == {3}
    course = (project.path / "course.txt").read_text().split()
    second, third, own = course[:7], course[7:14], course[14:]
    assert own == [*(f"1{name}" for name in "abcdef"), "1end"]
    for number, part in ("2", second), ("3", third):
        assert part[-1] == f"{number}end"
        names = [each.removeprefix(number) for each in part[:-1]]
        assert sorted(names) == [*"abcdef"] != names


def test_the_run_measures_by_the_plan_of_the_first_fresh_process(project):
    project.write()
    project.script(calls=4, later={"2": {"calls": 7}, "3": {"calls": 9}})

    project.run(*THREE)

    assert (7, 3) == calls_and_processes(project)


def test_a_stored_plan_holds_for_all_processes(project):
    project.write()
    project.run("--kernelperf-update", "--kernelperf-processes", "1")
    project.script(calls=5, later={"2": {"calls": 7}})

    project.run(*THREE)

    assert (4, 3) == calls_and_processes(project)


def test_a_slow_verdict_is_still_the_tests_own_and_ends_a_run_under_x(project):
    project.write_two()
    project.run("--kernelperf-update", "--kernelperf-processes", "5")
    project.times(13.0)

    result = project.run("--kernelperf", "--kernelperf-processes", "5", "-x")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED *test_a - REGRESSED *", "*stopping after 1 failures*"])
    result.stdout.fnmatch_lines(["*stopped early, 1 not measured: test_it.py::test_b*"])


def test_a_test_that_asks_for_the_fixture_late_gets_its_processes_all_the_same(project):
    project.write("def test_late(request): request.getfixturevalue('kernelperf')(abs, -1)")

    project.run(*THREE)

    assert counts(project) == {"test_late": 3}


def test_processes_that_ended_are_not_named_as_the_runs_own(project_with_workers):
    project = project_with_workers
    project.write(
        """
        import os

        def test_it(kernelperf):
            with open("pids.txt", "a") as file:
                file.write(os.environ.get("KERNELPERF_PIDS", "none") + "\\n")
            kernelperf(abs, -1)
        """
    )

    project.run_apart(*THREE)

    second, third, own = (project.path / "pids.txt").read_text().split()
    assert [len(second.split(",")), len(third.split(",")), own] == [3, 2, "none"]


def test_a_process_has_one_turn_for_all_its_tests(project_with_workers):
    """
    Where it can't tell a neighbour from the run's others, it pauses when its turn begins.
    """
    project = project_with_workers
    project.write(
        """
        import os

        def note():
            with open("turns.txt", "a") as file:
                file.write(os.environ.get("KERNELPERF_TURN", "none") + " ")

        def test_a(kernelperf): note(); kernelperf(abs, -1)
        def test_b(kernelperf): note(); kernelperf(abs, -1)
        """
    )

    project.run_apart(*THREE)

    turns = (project.path / "turns.txt").read_text().split()
    second, third, own = turns[:2], turns[2:4], turns[4:]
    assert len({*second}) == len({*third}) == 1
    assert float(second[0]) < float(third[0])
    assert own == ["none", "none"]


def test_tests_that_are_deselected_are_not_asked_for(project_with_workers):
    project = project_with_workers
    project.write(COURSE)

    project.run_apart(*THREE, "-k", "test_it[c]")

    course = (project.path / "course.txt").read_text().split()
    assert course == ["2c", "2end", "3c", "3end", "1c", "1end"]


@pytest.mark.parametrize("words", [("--collect-only",), ("--kernelperf-against", "no-such-rev")])
def test_what_measures_nothing_or_against_a_revision_does_not_begin_with_it(
    project, monkeypatch, words
):
    begun = []
    monkeypatch.setattr("pytest_kernelperf.processes.sweep.Sweep.run", lambda *_: begun.append(1))
    project.write()

    project.run("--kernelperf", "--kernelperf-processes", "3", *words)

    assert begun == []


def test_a_spent_budget_leaves_the_run_its_own_process(project_with_workers):
    project = project_with_workers
    project.write_two()

    result = project.run_apart(*THREE, "--kernelperf-budget", "0.01")

    result.assert_outcomes(passed=2)
    assert counts(project) == {"test_a": 1, "test_b": 1}
    assert notes(project).count("(kernelperf_budget) are spent: judged from 1") == 2


def test_a_test_that_only_compares_is_tried_in_one_other_process(project_with_workers):
    project = project_with_workers
    project.write(
        """
        import os

        def test_it(kernelperf):
            with open("course.txt", "a") as file:
                file.write(os.environ.get("KERNELPERF_PROCESS", "1") + " ")
            kernelperf.compare({"a": abs, "b": lambda x: abs(x)}, (-1,), reference="a")
        """
    )

    project.run_apart(*THREE).assert_outcomes(passed=1)

    assert (project.path / "course.txt").read_text().split() == ["2", "1"]


def test_a_test_that_measured_nothing_at_first_gets_its_processes_after_the_run(
    project_with_workers,
):
    project = project_with_workers
    project.write(
        """
        from pathlib import Path

        def test_it(kernelperf):
            seen = Path("seen.txt")
            if seen.exists():
                kernelperf(abs, -1)
            seen.touch()
        """
    )

    project.run_apart(*THREE).assert_outcomes(passed=1)

    assert counts(project) == {"test_it": 3}
    assert notes(project) == ""
