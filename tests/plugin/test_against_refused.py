"""
`--kernelperf-against`: revisions and options that are refused, with the reason; nothing is touched.
"""

from __future__ import annotations

import pytest
from git_project import CONFTEST, Repository, with_submodule

from pytest_kernelperf.against.paired_run import _checked
from pytest_kernelperf.against.revision import find_revision
from pytest_kernelperf.errors import RevisionError


def refused(repository: Repository, revision: str, *messages: str) -> None:
    """
    Assert that a run against a revision ends with status 2 and touches nothing.
    """
    before = repository.state()
    result = repository.run(revision)
    assert 2 == result.ret
    said = f"{result.stdout}\n{result.stderr}"
    for message in messages:
        assert message in said
    assert before == repository.state()
    assert 1 == repository.worktrees()


def test_a_revision_that_does_not_exist(repository):
    refused(
        repository, "nowhere", "there is no revision 'nowhere' in ", "expected a commit, branch"
    )


def test_a_revision_that_looks_like_an_option(repository):
    result = repository.project.run("--kernelperf", "--kernelperf-against=--all")

    assert 2 == result.ret
    assert "there is no revision '--all'" in str(result.stderr)


def test_a_revision_that_does_not_import(repository):
    repository.project.write("import packageof1999\ndef test_kernel(kernelperf): pass")
    repository.commit("other dependencies")
    repository.project.write("def test_kernel(kernelperf): kernelperf(abs, -1)")

    refused(
        repository,
        "HEAD",
        "can't import test_it.py: ModuleNotFoundError: No module named 'packageof1999'",
        "Install what that revision needs",
    )


def declaring(*requirements: str) -> str:
    return f"[project]\nname = 'p'\nversion = '0'\ndependencies = {list(requirements)!r}\n"


@pytest.mark.parametrize(
    ("needed", "said"),
    [
        ("PackageOf1999>=2", "it needs packageof1999>=2 (not installed here). Both sides run in"),
        ("pytest<2", f"it needs pytest<2 ({pytest.__version__} is installed here). Both sides"),
    ],
)
def test_a_revision_that_declares_other_dependencies(repository, needed, said):
    """They may be imported late, or not at all: nothing else would tell."""
    project = repository.path / "pyproject.toml"
    project.write_text(declaring(needed))
    repository.project.write("def test_kernel(kernelperf): kernelperf(abs, -1)")
    repository.commit("other dependencies")
    project.write_text(declaring("pytest>=8"))

    refused(repository, "HEAD", said)


def test_what_the_working_tree_lives_without_the_revision_may_too(repository):
    project = repository.path / "pyproject.toml"
    project.write_text(declaring("pytest<2", "packageof1999"))
    repository.commit("bounds that nobody keeps")
    project.write_text(declaring("pytest<3", "packageof1999"))

    assert 0 == repository.run("HEAD").ret


def test_a_revision_that_lacks_the_plugin(repository):
    repository.project.write("def test_kernel(): pass")
    repository.commit("without the plugin")
    repository.project.write("def test_kernel(kernelperf): kernelperf(abs, -1)")

    refused(repository, "HEAD", "it lacks the plugin, for none of its tests is marked")


def test_a_revision_whose_configuration_keeps_the_plugin_out(repository):
    """
    `-p no:kernelperf` there; here the tests' own `-p kernelperf` would bring it back.
    """
    revision = find_revision("HEAD", repository.path)
    answer = "worker 2 could not start pytest: unrecognized arguments: --kernelperf"

    with pytest.raises(RevisionError, match="its configuration keeps this plugin out"):
        _checked(answer, ("test_it.py::test_kernel",), revision)


def test_a_revision_whose_conftest_does_not_import(repository):
    (repository.path / "conftest.py").write_text("import packageof1999")
    repository.commit("other dependencies")
    (repository.path / "conftest.py").write_text(CONFTEST)

    refused(repository, "HEAD", "could not start pytest", "packageof1999")


def test_no_repository(real_project):
    result = real_project.run("--kernelperf", "--kernelperf-against", "HEAD")

    assert 2 == result.ret
    assert "not a git repository" in str(result.stderr)


def test_no_git(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")

    result = repository.run("HEAD")

    assert 2 == result.ret
    assert "git can't be started" in str(result.stderr)


def test_a_dirty_submodule(repository, tmp_path_factory):
    with_submodule(repository, tmp_path_factory.mktemp("sub"))
    (repository.path / "sub" / "data.txt").write_text("other")

    refused(repository, "HEAD", "submodule sub has uncommitted changes")


def test_a_submodule_that_is_not_here(repository, tmp_path_factory):
    with_submodule(repository, tmp_path_factory.mktemp("sub"))
    repository.git("submodule", "deinit", "-q", "-f", "sub")

    refused(repository, "HEAD", "submodule sub is not here at ")


def test_no_default_branch(repository):
    repository.git("checkout", "-q", "-b", "other")
    repository.git("branch", "-q", "-D", "main")

    refused(repository, "merge-base", "has no default branch", "name a commit")


def test_a_shallow_clone_without_the_merge_base(repository):
    repository.git("checkout", "-q", "-b", "work")
    (repository.path / "more.txt").write_text("more")
    repository.commit("work")
    repository.git("checkout", "-q", "main")
    (repository.path / "other.txt").write_text("other")
    repository.commit("main goes on")
    clone = repository.path / "own cache" / "clone"
    repository.git(
        *("clone", "-q", "--depth", "1", "--no-single-branch", "--branch", "work"),
        *(f"file://{repository.path}", str(clone)),
    )

    result = repository.project.run(
        *("--kernelperf", "--kernelperf-against", "merge-base", f"--rootdir={clone}", str(clone))
    )

    assert 2 == result.ret
    assert "no common commit" in str(result.stderr)
    assert "shallow clone" in str(result.stderr)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--kernelperf-update",), "--kernelperf-update: --kernelperf-against compares times*"),
        (("--kernelperf-baselines", "."), "--kernelperf-baselines: --kernelperf-against*"),
    ],
)
def test_options_that_belong_to_baselines_are_refused(repository, args, message):
    result = repository.run("HEAD", *args)

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_it_does_nothing_without_measuring(repository):
    result = repository.project.run("--kernelperf-against", "HEAD")

    assert pytest.ExitCode.USAGE_ERROR == result.ret
