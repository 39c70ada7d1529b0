"""
Baseline files that can't be used: named before any time is spent, and left as they are.
"""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def baseline(project):
    """
    Return the baseline file of a project whose test says aloud that it runs.
    """
    project.write("def test_it(kernelperf): print('MEASURING'); kernelperf(abs, -1)")
    project.run("--kernelperf-update")
    (name,) = project.baseline_files()
    return project.path / "baselines" / name


def newer(path):
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "schema_version": 10_000}))


def directory(path):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "a list": lambda path: path.write_text("[]"),
    "newer": newer,
    "a directory": directory,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("flag", ["--kernelperf", "--kernelperf-update"])
def test_a_bad_file_is_an_error_that_names_it_before_measuring(project, baseline, damage, flag):
    damage(baseline)
    before = None if baseline.is_dir() else baseline.read_bytes()

    result = project.run(flag, "-s")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{baseline.name}*"])
    result.stdout.no_fnmatch_line("*MEASURING*")
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert baseline.is_dir() if before is None else before == baseline.read_bytes()


@pytest.mark.parametrize("flag", ["--kernelperf", "--kernelperf-update"])
def test_a_bad_file_of_compiled_kernels_is_named_before_measuring_too(project, baseline, flag):
    kernels = project.path / "baselines" / "sm_90" / "test_it.json"
    kernels.parent.mkdir()
    kernels.write_text('{ "schema')

    result = project.run(flag, "-s")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{kernels}*"])
    result.stdout.no_fnmatch_line("*MEASURING*")
    assert '{ "schema' == kernels.read_text()


def test_a_bad_file_does_not_matter_to_a_run_that_measures_nothing(project, baseline):
    baseline.write_text("[]")

    assert project.run().ret == pytest.ExitCode.OK


def test_a_read_only_file_is_refused_before_its_test_is_measured(project, baseline):
    baseline.chmod(0o444)
    before = baseline.read_bytes()

    result = project.run("--kernelperf-update", "-s")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *BaselineWriteError: *test_it.json*read-only*"])
    assert before == baseline.read_bytes()


@pytest.fixture
def two_projects(project):
    """
    Return a folder with two projects, each with a test of the same name.
    """
    for name in ("left", "right"):
        file = project.path / name / "tests" / "test_k.py"
        file.parent.mkdir(parents=True)
        file.write_text("def test_k(kernelperf): print('MEASURING'); kernelperf(abs, -1)")
        (project.path / name / "pyproject.toml").touch()
    return project


@pytest.mark.parametrize("flag", ["--kernelperf", "--kernelperf-update"])
@pytest.mark.parametrize("where", ["command line", "ini file"])
def test_two_projects_that_would_share_a_baseline_are_an_error_that_names_both(
    two_projects, flag, where
):
    shared = two_projects.path / "shared"
    args = (flag, "--import-mode=importlib", f"--kernelperf-baselines={shared}")
    two_projects.run("--kernelperf-update", *args[1:], "left")
    before = {path: path.read_bytes() for path in shared.rglob("*.json")}
    if where == "ini file":
        two_projects.pytester.makeini("[pytest]\nkernelperf_baselines = shared")
        args = args[:2]

    result = two_projects.run(*args, "-s", "left", "right")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*left/tests/test_k.py and *right/tests/test_k.py are both *"])
    result.stdout.no_fnmatch_line("*MEASURING*")
    assert len(before) == 1
    assert before == {path: path.read_bytes() for path in shared.rglob("*.json")}


def test_two_projects_with_baselines_of_their_own_are_measured_in_one_run(two_projects):
    result = two_projects.run("--kernelperf-update", "--import-mode=importlib", "left", "right")

    assert result.ret == pytest.ExitCode.OK
    for name in ("left", "right"):
        assert (two_projects.path / name / "baselines/nvidia-scripted/tests/test_k.json").is_file()


def test_two_projects_that_a_record_could_not_tell_apart_are_an_error(two_projects):
    result = two_projects.run(
        "--kernelperf", "--import-mode=importlib", "--kernelperf-record=run.gz", "left", "right"
    )

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*test_k.py are both tests/test_k.py to a record, *"])
