"""
What a project declares and this environment lacks.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from pytest_kernelperf.against.dependencies import lacking


def declare(folder: Path, *requirements: str) -> Path:
    (folder / "pyproject.toml").write_text(f"[project]\ndependencies = {list(requirements)!r}\n")
    return folder


@pytest.mark.parametrize(
    "text",
    [
        "pytest",
        "PyTest>=8",
        "packageof1999; python_version < '3'",
        "packageof1999; extra == 'docs'",
        "not a requirement",
    ],
)
def test_what_is_installed_or_not_needed_is_not_lacking(tmp_path: Path, text: str) -> None:
    assert {} == lacking(declare(tmp_path, text))


def test_what_is_not_installed_is_lacking_by_its_usual_name(tmp_path: Path) -> None:
    folder = declare(
        tmp_path, "Package_of.1999>=2", "pytest", "other1999 @ https://example.invalid/p"
    )

    assert {
        "package-of-1999": "package-of-1999>=2 (not installed here)",
        "other1999": "other1999 (not installed here)",
    } == lacking(folder)


def test_a_package_that_is_declared_twice_is_held_to_both(tmp_path: Path) -> None:
    assert ["pytest"] == list(lacking(declare(tmp_path, "pytest<2", "pytest>=2")))


@pytest.mark.parametrize(
    ("installed", "asked", "is_lacking"),
    [
        ("2.11.0+cu130", "==2.11.0", False),
        ("2.12.0.dev1", ">=2.11", False),
        ("of our own", "<2", False),
        ("2.11.0", "<2", True),
    ],
)
def test_another_version_is_lacking(monkeypatch, tmp_path, installed, asked, is_lacking) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: installed)
    expected = {"torch": f"torch{asked} ({installed} is installed here)"} if is_lacking else {}

    assert expected == lacking(declare(tmp_path, f"Torch {asked}"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[project",
        "project = 3",
        "[tool.x]",
        "[project]\ndependencies = 1",
        "[project]\ndependencies = 'torch'",
    ],
)
def test_a_file_that_declares_nothing_needs_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)

    assert {} == lacking(tmp_path)


def test_no_file_needs_nothing(tmp_path: Path) -> None:
    assert {} == lacking(tmp_path)


def test_what_is_optional_need_not_be_installed(tmp_path: Path) -> None:
    """
    Which extras and groups the tests need is declared nowhere.
    """
    declare(tmp_path, "pytest")
    with (tmp_path / "pyproject.toml").open("a") as file:
        file.write("optional-dependencies.docs = ['packageof1999']\n")
        file.write("[dependency-groups]\ntest = ['packageof1999', 'pytest<2']\n")

    assert {} == lacking(tmp_path)
