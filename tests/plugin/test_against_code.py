"""
`--kernelperf-against`: whose code each side imports, and what is built for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from git_project import RECORD, Repository, left_in, verdicts, with_submodule

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


def test_submodules_are_filled_from_the_working_tree(repository, tmp_path_factory):
    with_submodule(repository, tmp_path_factory.mktemp("sub"))

    repository.run("HEAD").assert_outcomes(passed=1)

    assert {"test_kernel": "UNCHANGED WITHIN_MARGIN"} == verdicts(repository)
    assert 1 == repository.worktrees()
