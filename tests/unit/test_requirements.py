"""
What a project declares and this environment lacks.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from pytest_kernelperf.requirements import unmet


def declare(folder: Path, *requirements: str) -> Path:
    (folder / "pyproject.toml").write_text(f"[project]\ndependencies = {list(requirements)!r}\n")
    return folder


@pytest.mark.parametrize(
    "text",
    [
        "pytest",
        "pytest>=8",
        "packageof1999; python_version < '3'",
        "packageof1999; extra == 'docs'",
        "packageof1999 @ https://example.invalid/p.whl",
        "not a requirement",
    ],
)
def test_what_is_installed_or_not_needed_is_met(tmp_path: Path, text: str) -> None:
    assert {} == unmet(declare(tmp_path, text))


def test_what_is_missing_or_of_another_version_is_unmet(tmp_path: Path) -> None:
    folder = declare(tmp_path, "packageof1999>=2", "pytest", "pytest<8")

    assert {"packageof1999>=2": "", "pytest<8": metadata.version("pytest")} == unmet(folder)


@pytest.mark.parametrize("text", ["", "[project", "project = 3", "[tool.x]"])
def test_a_file_that_declares_nothing_needs_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)

    assert {} == unmet(tmp_path)


def test_no_file_needs_nothing(tmp_path: Path) -> None:
    assert {} == unmet(tmp_path)
