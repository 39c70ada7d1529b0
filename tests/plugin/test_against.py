"""
`--kernelperf-against`: a git repository of its own for each test, real processes, scripted times.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from git_project import left_in, verdicts


def test_a_slower_working_tree_is_regressed_and_nothing_is_left_behind(repository, temporary):
    repository.project.times(10.3)
    before = repository.state()

    result = repository.run("HEAD")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*slower than before, beyond the margin*3 pairs of processes*"])
    result.stdout.fnmatch_lines([f"kernelperf: compared with {before[1][:7]} (HEAD)"])
    assert before == repository.state()
    assert 1 == repository.worktrees()
    assert [] == left_in(temporary)


def test_an_unchanged_working_tree_is_unchanged(repository):
    result = repository.run("main")

    result.assert_outcomes(passed=1)
    assert {"test_kernel": "UNCHANGED WITHIN_MARGIN"} == verdicts(repository)


def test_both_sides_stand_in_the_record_and_judge_alike_from_it(repository):
    repository.project.times(10.3)
    repository.run(repository.git("rev-parse", "HEAD"))

    (one,) = repository.project.read_run().recorded
    judged = subprocess.run(
        [sys.executable, "-m", "pytest_kernelperf", "judge", "run.jsonl", "--json", "again.json"],
        cwd=repository.path,
        check=False,
        capture_output=True,
        text=True,
    )

    assert 3 == len(one.measurement.processes) == len(one.against.measurement.processes)
    assert repository.git("rev-parse", "HEAD") == one.against.commit
    assert {one.against.commit} == {p.commit for p in one.against.measurement.processes}
    assert f"{one.against.commit}+dirty" == one.measurement.processes[0].commit
    assert 1 == judged.returncode
    again = repository.project.read_json("again.json")["measurements"]
    assert repository.project.read_json()["measurements"] == again


def test_processes_of_the_two_sides_take_turns(repository):
    (repository.path / "test_it.py").write_text(
        f"""
import os

def test_kernel(kernelperf):
    with open({str(repository.path / "run.js-order")!r}, "a") as file:
        file.write(os.environ.get("KERNELPERF_PROCESS", "1") + " ")
    kernelperf(abs, -1)
"""
    )
    repository.commit("tells the order")
    repository.run("HEAD", "--kernelperf-processes", "4")

    # Even numbers are the revision's.
    order = (repository.path / "run.js-order").read_text().split()
    assert ["1", "2", "3", "5", "4", "6", "7", "9", "8"] == order


def test_three_pairs_of_processes_are_ready_before_the_first_test(repository):
    repository.project.write(
        f"""
import os

def tell(word):
    with open({str(repository.path / "run.js-order")!r}, "a") as file:
        file.write(word + " ")

tell(os.environ.get("KERNELPERF_PROCESS", "1"))


def test_kernel(kernelperf):
    tell("measured")
    kernelperf(abs, -1)
"""
    )
    repository.commit("tells who imported it")
    repository.run("HEAD")

    order = (repository.path / "run.js-order").read_text().split()
    assert [*"1234567"] == sorted(order[: order.index("measured")])


def test_what_is_undecided_after_three_pairs_gets_five(repository):
    repository.project.times(10.05)
    repository.run("HEAD")

    (one,) = repository.project.read_run().recorded
    assert 5 == len(one.against.measurement.processes)


def test_a_spent_budget_ends_the_search_and_is_said(repository):
    repository.project.times(10.05)
    repository.run("HEAD", "--kernelperf-budget", "0.01")

    (one,) = repository.project.read_run().recorded
    assert 3 == len(one.against.measurement.processes)
    assert "0.01 s for fresh processes" in one.measurement.notes[-1]


def test_baselines_are_neither_read_nor_written(repository):
    repository.project.times(5.0)
    repository.project.run("--kernelperf-update", "--kernelperf-processes", "1")
    repository.project.times(10.0)
    stored = repository.project.baseline_text()
    (file,) = repository.project.baseline_files()
    (repository.path / "baselines" / file).write_text("damaged")

    result = repository.run("HEAD")

    result.assert_outcomes(passed=1)
    assert "damaged" == repository.project.baseline_text() != stored


def test_tests_of_one_side_are_said_and_not_failed(repository):
    repository.project.write("def test_old(kernelperf): kernelperf(abs, -1)", "test_gone")
    base = repository.commit("with an old test")[:7]
    (repository.path / "test_gone.py").unlink()
    repository.project.write("def test_new(kernelperf): kernelperf(abs, -1)", "test_new")

    result = repository.run("HEAD")

    result.assert_outcomes(passed=2)
    assert "NO_BASELINE NOT_IN_REVISION" == verdicts(repository)["test_new"]
    result.stdout.fnmatch_lines(
        [
            f"kernelperf: not in {base} (HEAD), so compared with nothing: test_new.py::test_new",
            f"kernelperf: only in {base} (HEAD), so not compared: test_gone.py::test_old",
        ]
    )
    assert 1 == repository.run("HEAD", "--kernelperf-strict", "test_new.py").ret


def test_a_file_that_only_the_working_tree_has_can_be_named(repository):
    repository.project.write("def test_new(kernelperf): kernelperf(abs, -1)", "test_new")

    result = repository.run("HEAD", "test_new.py::test_new", "test_it.py::test_kernel")

    result.assert_outcomes(passed=2)
    assert "UNCHANGED WITHIN_MARGIN" == verdicts(repository)["test_kernel"]


def test_tests_that_were_not_named_are_not_missed(repository):
    repository.project.write_two()
    repository.commit("two tests")

    result = repository.run("HEAD", "test_it.py::test_a")

    result.assert_outcomes(passed=1)
    assert "only in" not in str(result.stdout)


def test_a_test_that_does_not_measure_at_the_revision_is_said_and_not_failed(repository):
    other = "\ndef test_other(kernelperf): kernelperf(abs, -1)"
    repository.project.write("def test_kernel(): pass" + other)
    repository.commit("one of two measures")
    repository.project.write("def test_kernel(kernelperf): kernelperf(abs, -1)" + other)

    result = repository.run("HEAD", "-k", "test_kernel or test_other")

    result.assert_outcomes(passed=2)
    assert "NO_BASELINE NOT_IN_REVISION" == verdicts(repository)["test_kernel"]


def test_a_test_that_fails_at_the_revision_is_said_and_not_failed(repository):
    repository.project.write("def test_kernel(kernelperf): assert kernelperf(abs, -1) == 2")
    repository.commit("wrong")
    repository.project.write("def test_kernel(kernelperf): assert kernelperf(abs, -1) == 1")

    result = repository.run("HEAD")

    result.assert_outcomes(passed=1)
    (one,) = repository.project.read_run().recorded
    assert one.against.missing.startswith("the test failed there: ")


def test_other_inputs_are_incomparable(repository):
    room = repository.path / "scripted_room.py"
    room.write_text(room.read_text().replace("float16[8] cuda", "float16[9] cuda"))

    result = repository.run("HEAD")

    result.assert_outcomes(passed=1)
    assert {"test_kernel": "INCOMPARABLE INPUTS_DIFFER"} == verdicts(repository)
    result.stdout.fnmatch_lines(["*can't be compared with *input 0 was *8* there, is *9*"])


@pytest.mark.parametrize(("worker", "pair"), [(2, 1), (5, 2)])
def test_a_pair_that_a_crash_spoils_is_left_out(repository, worker, pair):
    repository.project.write(
        f"""
        import os

        def test_kernel(kernelperf):
            if os.environ.get("KERNELPERF_PROCESS") == "{worker}":
                os.kill(os.getpid(), 9)
            kernelperf(abs, -1)
        """
    )
    repository.commit("crashes once")

    repository.run("HEAD")

    (one,) = repository.project.read_run().recorded
    assert 2 == len(one.against.measurement.processes) == len(one.measurement.processes)
    assert any(
        f"pair {pair} is left out: worker {worker} was lost" in note
        for note in one.measurement.notes
    )


def test_pairs_whose_working_tree_was_edited_during_the_run_are_left_out(repository):
    (repository.path / "kernels.py").write_text("def kernel(x):\n    return abs(x)\n")
    repository.project.write(
        """
        import os
        from pathlib import Path
        from kernels import kernel

        def test_kernel(kernelperf):
            kernelperf(kernel, -1)
            if "KERNELPERF_PROCESS" not in os.environ:
                file = Path(__file__).with_name("kernels.py")
                file.write_text(file.read_text() + "# edited\\n")
        """
    )
    repository.commit("edits itself")
    # Undecided after three pairs, so that two more start, after the edit.
    repository.project.times(10.05)

    repository.run("HEAD")

    (one,) = repository.project.read_run().recorded
    assert 3 == len(one.against.measurement.processes) == len(one.measurement.processes)
    left_out = "is left out: kernels.py was edited after the run had imported it"
    assert [f"pair {pair} {left_out}" for pair in (4, 5)] == list(one.measurement.notes[-2:])


def test_the_merge_base_is_where_a_branch_or_a_detached_head_left_main(repository):
    base = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "-q", "--detach")
    repository.project.times(10.3)
    repository.commit("slower")

    result = repository.run("merge-base")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"kernelperf: compared with {base[:7]} (merge-base)"])


def test_json_says_what_was_compared(repository):
    repository.run("main")

    (one,) = json.loads((repository.path / "run.json").read_text())["measurements"]
    assert repository.git("rev-parse", "HEAD") == one["against"]["commit"]
    assert one["against"]["revision"].endswith(" (main)")
    assert 3 == len(one["against"]["processes"])
