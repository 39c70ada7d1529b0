"""
Ways into one checkout, bent into another.
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest

from pytest_kernelperf.against.other_side import relocated
from pytest_kernelperf.processes.relocation import Relocation, moved_arguments
from pytest_kernelperf.processes.workers import Launch


@pytest.fixture
def relocation(tmp_path: Path) -> Relocation:
    """
    Two checkouts of a project with a src layout and tests; the first is reached by a link too.
    """
    for name in ("before", "after"):
        (tmp_path / name / "src" / "pkg").mkdir(parents=True)
        (tmp_path / name / "src" / "pkg" / "__init__.py").touch()
        (tmp_path / name / "tests").mkdir()
        (tmp_path / name / "tests" / "test_a.py").touch()
    (tmp_path / "link").symlink_to(tmp_path / "before")
    return Relocation(
        str(tmp_path / "before"), str(tmp_path / "after"), alias=str(tmp_path / "link")
    )


def test_what_lies_in_the_checkout_moves_and_nothing_else(relocation, tmp_path):
    before, after = relocation.before, relocation.after

    assert f"{after}/src" == relocation.path(f"{before}/src")
    assert f"{after}/src" == relocation.path(f"{relocation.alias}/src")
    assert after == relocation.path("", before)
    assert f"{after}/src" == relocation.path("src", before)
    assert f"{before}side" == relocation.path(f"{before}side")
    assert "__editable__.finder.__path_hook__" == relocation.path(
        "__editable__.finder.__path_hook__", before
    )


def test_an_environment_inside_the_checkout_stays(relocation, monkeypatch):
    installed = f"{relocation.before}/.venv/lib/python3.11/site-packages"
    monkeypatch.setattr(sys, "prefix", f"{relocation.before}/.venv")

    assert installed == relocation.path(installed)
    assert f"{relocation.before}/.venv/x" == relocation.path(f"{relocation.before}/.venv/x")


def test_a_checkout_inside_an_environment_moves_all_the_same(relocation, monkeypatch, tmp_path):
    """
    `pip install -e git+...` puts it there.
    """
    monkeypatch.setattr(sys, "prefix", str(tmp_path))

    assert f"{relocation.after}/src" == relocation.path(f"{relocation.before}/src")


def test_a_folder_that_is_not_there_any_more_is_looked_for_in_the_usual_places(relocation):
    entries = relocation.search_path([f"{relocation.before}/packages"], "/")

    assert (relocation.after, f"{relocation.after}/src") == entries[:2]


def test_paths_inside_arguments_move_whole(relocation):
    before, after = relocation.before, relocation.after

    assert f"--rootdir={after}" == relocation.text(f"--rootdir={before}")
    assert f"{after}/t.py::a" == relocation.text(f"{relocation.alias}/t.py::a")
    assert f"{before}side" == relocation.text(f"{before}side")


def test_named_tests_become_the_files_that_are_there(relocation):
    folder = relocation.after

    moved = moved_arguments(
        ["tests/test_a.py::x[1]", "tests/test_a.py::y", "tests/new.py"], relocation, folder
    )

    assert [f"{folder}/tests/test_a.py"] == [os.path.join(folder, one) for one in moved]


def test_a_launch_from_inside_and_from_outside_runs_the_same_tests(relocation, tmp_path):
    inside = Launch(("tests", "-k", "tests"), (), relocation.before, ("",), {})
    outside = Launch(("before/tests", "-q"), (), str(tmp_path), ("",), {"GIT_DIR": "x"})

    one = relocated(inside, relocation, relocation.before)
    other = relocated(outside, relocation, relocation.before)

    assert ("tests", "-k", "tests", f"--rootdir={relocation.after}") == one.args
    assert (relocation.after, (relocation.after,)) == (one.folder, one.path)
    assert f"{relocation.after}/tests" == other.args[0]
    assert (str(tmp_path), ("",)) == (other.folder, other.path)
    assert "GIT_DIR" not in other.environ


def test_editable_installs_are_bent(relocation, monkeypatch):
    module = types.ModuleType("__editable___pkg_finder")
    module.MAPPING = {"pkg": f"{relocation.before}/src/pkg", "other": "/elsewhere/other"}
    module.NAMESPACES = {"space": [f"{relocation.before}/src"]}
    finder = type("_EditableFinder", (), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])

    relocation.move_finders()

    assert {
        "pkg": f"{relocation.after}/src/pkg",
        "other": "/elsewhere/other",
    } == module.MAPPING
    assert {"space": [f"{relocation.after}/src"]} == module.NAMESPACES


@pytest.mark.parametrize(
    ("name", "place", "is_stray"),
    [
        ("left", "before/src/left.py", True),
        ("pkg", "after/src/pkg/__init__.py", False),
        ("pkg", "site/site-packages/pkg/__init__.py", True),
        ("pytest_kernelperf.x", "before/pytest_kernelperf/x.py", False),
        ("numpy9", "before/.venv/lib/site-packages/numpy9.py", False),
        ("elsewhere", "site/elsewhere.py", False),
    ],
)
def test_modules_from_the_wrong_place_are_found(
    relocation, monkeypatch, tmp_path, name, place, is_stray
):
    module = types.ModuleType(name)
    module.__file__ = str(tmp_path / place)
    monkeypatch.setitem(sys.modules, name, module)

    found = relocation.strays()

    assert ([f"{name} (from {module.__file__})"] if is_stray else []) == found
