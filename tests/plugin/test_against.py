"""
`--kernelperf-against`: a git repository of its own for each test, real processes, scripted times.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_kernelperf.errors import RevisionError
from pytest_kernelperf.paired_run import _checked
from pytest_kernelperf.revision import find_revision

RECORD = ("--kernelperf-record", "run.jsonl", "--kernelperf-json", "run.json")
CONFTEST = """
from pathlib import Path

from pytest_kernelperf.stash import ROOM
from scripted_room import ScriptedRoom

def pytest_configure(config):
    config.stash[ROOM] = ScriptedRoom(Path(__file__).parent)
"""


class Repository:
    """
    A project under git whose kernels are as fast as its files say, at each commit.
    """

    def __init__(self, project) -> None:
        self.project = project
        self.path = project.path
        source = Path(__file__).with_name("scripted_room.py").read_text()
        (self.path / "scripted_room.py").write_text(source)
        (self.path / "conftest.py").write_text(CONFTEST)
        (self.path / ".gitignore").write_text("__pycache__/\n.pytest_cache/\nrun.js*\nown cache\n")
        project.write()
        project.times(10.0)
        self.git("init", "-q", "-b", "main")
        self.commit("first")

    def git(self, *words: str, folder: Path | None = None) -> str:
        """
        Run git in the project.
        """
        who = ("-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "protocol.file.allow=always")
        return subprocess.run(
            ["git", *who, *words],
            cwd=folder or self.path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def commit(self, message: str) -> str:
        """
        Commit all files; return the hash.
        """
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def run(self, revision: str, *args: str) -> pytest.RunResult:
        """
        Measure against a revision.
        """
        return self.project.run("--kernelperf", "--kernelperf-against", revision, *RECORD, *args)

    def state(self) -> tuple[str, str, str]:
        """
        Return what a run must leave alone.
        """
        index = (self.path / ".git" / "index").read_bytes().hex()
        return (
            self.git("--no-optional-locks", "status", "--porcelain"),
            self.git("rev-parse", "HEAD"),
            index,
        )

    def worktrees(self) -> int:
        """
        Return how many worktrees git knows, the first one included.
        """
        return self.git("worktree", "list", "--porcelain").count("worktree ")


@pytest.fixture
def temporary(tmp_path_factory, monkeypatch) -> Path:
    """
    Return the folder of temporary files, in which a run must leave nothing.
    """
    folder = tmp_path_factory.mktemp("tmp")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def repository(real_project, temporary) -> Repository:
    return Repository(real_project)


def left_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if each.name.startswith("kernelperf")]


def verdicts(repository: Repository) -> dict[str, str]:
    """
    Return each test's status and reason, live; the record must give the same.
    """
    document = repository.project.read_json()
    return {
        one["test"]: f"{each['status']} {each['reason']}"
        for one in document["measurements"]
        for each in one["verdicts"]
    }


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


def test_a_pair_that_a_crash_spoils_is_left_out(repository):
    repository.project.write(
        """
        import os

        def test_kernel(kernelperf):
            if os.environ.get("KERNELPERF_PROCESS") == "5":
                os.kill(os.getpid(), 9)
            kernelperf(abs, -1)
        """
    )
    repository.commit("crashes once")

    repository.run("HEAD")

    (one,) = repository.project.read_run().recorded
    assert 2 == len(one.against.measurement.processes) == len(one.measurement.processes)
    assert any("pair 2 is left out: worker 5 was lost" in note for note in one.measurement.notes)


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


# --- whose code is measured -----------------------------------------------------------------------

PACKAGE_TEST = """
import json, os
import mykernels

def test_kernel(kernelperf):
    script = {"times_us": {"": mykernels.TIME_US}}
    place = os.path.join(os.path.dirname(__file__), "..", "script.json")
    with open(place, "w") as file:
        json.dump(script, file)
    kernelperf(abs, -1)
"""


def with_package(repository: Repository, place: str = "src/mykernels") -> Path:
    """
    Give the project a package that says how fast it is, and a test that imports it.
    """
    package = repository.path / place
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("TIME_US = 10.0\n")
    tests = repository.path / "tests"
    tests.mkdir()
    (tests / "test_package.py").write_text(PACKAGE_TEST)
    (repository.path / ".gitignore").open("a").write("script.json\n")
    repository.git("rm", "-q", "--cached", "script.json")
    repository.commit("a package")
    return package / "__init__.py"


def slower(repository: Repository, module: Path) -> pytest.RunResult:
    """
    Make the package slower in the working tree, and measure it in a process of its own.
    """
    module.write_text("TIME_US = 12.0\n")
    return repository.project.run_apart(
        *("--kernelperf", "--kernelperf-against", "HEAD", "tests/test_package.py", *RECORD)
    )


def changed(repository: Repository) -> float:
    (one,) = repository.project.read_json()["measurements"]
    return round(one["verdicts"][0]["change"], 3)


def test_a_src_layout_on_the_python_path_is_imported_from_the_revision(repository, monkeypatch):
    module = with_package(repository)
    monkeypatch.setenv("PYTHONPATH", str(repository.path / "src"), prepend=os.pathsep)

    slower(repository, module).assert_outcomes(failed=1)

    assert 0.2 == changed(repository)


def test_the_ini_key_pythonpath_leads_into_the_revision(repository):
    repository.project.pytester.makeini("[pytest]\npythonpath = src")
    module = with_package(repository)

    slower(repository, module).assert_outcomes(failed=1)

    assert 0.2 == changed(repository)


#: What `pip install -e` of setuptools leaves in site-packages, in short.
FINDER = """
import sys
from importlib.machinery import PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path

MAPPING = {{"mykernels": {place!r}}}
NAMESPACES = {{}}

class _EditableFinder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in MAPPING:
            init = Path(MAPPING[name]) / "__init__.py"
            return spec_from_file_location(name, init) if init.exists() else None

def install():
    sys.meta_path.append(_EditableFinder)
"""


@pytest.mark.parametrize("before", ["src/mykernels", "mykernels"])
def test_an_editable_install_is_bent_into_the_revision(
    repository, monkeypatch, tmp_path_factory, before
):
    """
    Also where the package lay elsewhere then.
    """
    site = tmp_path_factory.mktemp("site")
    now = repository.path / "src" / "mykernels"
    (site / "__editable___mykernels_finder.py").write_text(FINDER.format(place=str(now)))
    (site / "sitecustomize.py").write_text(
        "import __editable___mykernels_finder as finder\nfinder.install()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    module = with_package(repository, before)
    if module.parent != now:
        now.parent.mkdir()
        module.parent.rename(now)

    slower(repository, now / "__init__.py").assert_outcomes(failed=1)

    assert 0.2 == changed(repository)


def test_code_that_both_sides_would_share_is_an_error(repository, monkeypatch, tmp_path_factory):
    """
    The package is a copy in site-packages, so both sides would measure that.
    """
    site = tmp_path_factory.mktemp("site-packages")
    (site / "mykernels").mkdir()
    (site / "mykernels" / "__init__.py").write_text("TIME_US = 10.0\n")
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)

    result = slower(repository, with_package(repository))

    assert 2 == result.ret
    result.stdout.fnmatch_lines(["*was not measured: expected its own modules, got mykernels*"])


def test_a_module_left_in_the_working_tree_is_an_error_also_if_imported_late(repository):
    (repository.path / "secret.py").write_text("x = 1\n")
    (repository.path / "test_it.py").write_text(
        f"""
import importlib.util

def test_kernel(kernelperf):
    spec = importlib.util.spec_from_file_location(
        "left", {str(repository.path / "secret.py")!r}
    )
    import sys
    sys.modules["left"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kernelperf(abs, -1)
"""
    )
    repository.commit("imports by an absolute path")

    result = repository.run("HEAD")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*RevisionError: *so both sides would run the same code*"])


def test_started_from_outside_the_repository(repository, tmp_path_factory):
    repository.project.times(10.3)
    folder = tmp_path_factory.mktemp("outside")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "kernelperf", "--kernelperf"),
            *("--kernelperf-against", "HEAD", os.path.relpath(repository.path, folder)),
        ],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )

    assert 1 == done.returncode, done.stdout
    assert "REGRESSED" in done.stdout


# --- building -------------------------------------------------------------------------------------


def test_a_build_command_runs_in_the_checkout(repository):
    repository.project.pytester.makeini("[pytest]\nkernelperf_build = echo built > made.txt")
    (repository.path / "test_it.py").write_text(
        "from pathlib import Path\n"
        "def test_kernel(kernelperf):\n"
        "    assert (Path(__file__).parent / 'made.txt').read_text() == 'built\\n'\n"
        "    kernelperf(abs, -1)\n"
    )
    repository.commit("needs a build")
    (repository.path / "made.txt").write_text("built\n")

    result = repository.run("HEAD")

    result.assert_outcomes(passed=1)
    assert {"test_kernel": "UNCHANGED WITHIN_MARGIN"} == verdicts(repository)


def test_a_build_that_fails_is_quoted(repository, temporary):
    repository.project.pytester.makeini(
        "[pytest]\nkernelperf_build = echo no compiler here; exit 3"
    )

    result = repository.run("HEAD")

    assert 2 == result.ret
    result.stdout.fnmatch_lines(["*could not be built: *status 3:", "*no compiler here*"])
    assert [] == left_in(temporary)
    assert 1 == repository.worktrees()


# --- bad input ------------------------------------------------------------------------------------


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


def test_submodules_are_filled_from_the_working_tree(repository, tmp_path_factory):
    with_submodule(repository, tmp_path_factory.mktemp("sub"))

    repository.run("HEAD").assert_outcomes(passed=1)

    assert {"test_kernel": "UNCHANGED WITHIN_MARGIN"} == verdicts(repository)
    assert 1 == repository.worktrees()


def with_submodule(repository: Repository, origin: Path) -> None:
    """
    Give the project a submodule that its test reads.
    """
    repository.git("init", "-q", folder=origin)
    (origin / "data.txt").write_text("data")
    repository.git("add", "-A", folder=origin)
    repository.git("commit", "-q", "-m", "data", folder=origin)
    repository.git("submodule", "--quiet", "add", str(origin), "sub")
    (repository.path / "test_it.py").write_text(
        "from pathlib import Path\n"
        "def test_kernel(kernelperf):\n"
        "    assert (Path(__file__).parent / 'sub' / 'data.txt').read_text() == 'data'\n"
        "    kernelperf(abs, -1)\n"
    )
    repository.commit("a submodule")


def test_the_merge_base_is_where_a_branch_or_a_detached_head_left_main(repository):
    base = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "-q", "--detach")
    repository.project.times(10.3)
    repository.commit("slower")

    result = repository.run("merge-base")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"kernelperf: compared with {base[:7]} (merge-base)"])


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


# --- interrupted ----------------------------------------------------------------------------------

HANGING = """
import os, time

def test_kernel(kernelperf):
    if os.environ.get("KERNELPERF_PROCESS") == "2":
        open({flag!r}, "w").close()
        time.sleep(60)
    kernelperf(abs, -1)
"""


def started(repository: Repository) -> subprocess.Popen:
    """
    Start a run, and return when the revision's process measures.
    """
    flag = repository.path / "run.js-flag"
    (repository.path / "test_it.py").write_text(HANGING.format(flag=str(flag)))
    repository.commit("hangs")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-p", "kernelperf", "--kernelperf"),
            *("--kernelperf-against", "HEAD"),
        ],
        cwd=repository.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until = time.monotonic() + 60
    while not flag.exists():
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 2), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_an_interrupted_run_leaves_no_worktree(repository, temporary, number, status):
    process = started(repository)
    assert 2 == repository.worktrees()

    process.send_signal(number)
    process.communicate(timeout=60)

    assert status == process.returncode
    assert 1 == repository.worktrees()
    assert [] == left_in(temporary)


def test_the_next_run_removes_what_a_killed_one_left(repository, temporary):
    process = started(repository)
    process.kill()
    process.communicate(timeout=60)
    assert 2 == repository.worktrees()
    repository.project.write()

    repository.run("HEAD~1").assert_outcomes(passed=1)

    assert 1 == repository.worktrees()
    assert [] == left_in(temporary)


def test_json_says_what_was_compared(repository):
    repository.run("main")

    (one,) = json.loads((repository.path / "run.json").read_text())["measurements"]
    assert repository.git("rev-parse", "HEAD") == one["against"]["commit"]
    assert one["against"]["revision"].endswith(" (main)")
    assert 3 == len(one["against"]["processes"])
