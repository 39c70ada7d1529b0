"""
Which ini file speaks for a folder, and what it says.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.store.ini import find_ini

SECTIONS = {
    "pytest.ini": "[pytest]\nkernelperf_baselines = {}\n",
    "tox.ini": "[pytest]\nkernelperf_baselines = {}\n",
    "setup.cfg": "[tool:pytest]\nkernelperf_baselines = {}\n",
    "pytest.toml": '[pytest]\nkernelperf_baselines = "{}"\n',
    "pyproject.toml": '[tool.pytest.ini_options]\nkernelperf_baselines = "{}"\n',
}


@pytest.mark.parametrize("name", SECTIONS)
def test_the_nearest_file_names_the_folder_beside_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "setup.cfg").write_text(SECTIONS["setup.cfg"].format("far"))
    (tmp_path / "project" / "below").mkdir(parents=True)
    (tmp_path / "project" / name).write_text(SECTIONS[name].format("kept"))

    assert tmp_path / "project" / "kept" == find_ini(tmp_path / "project" / "below").baselines


def test_the_table_of_pytest_9_is_read(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.pytest]\nkernelperf_strict = true\n")

    assert find_ini(tmp_path).strict


@pytest.mark.parametrize(
    ("word", "strict"), [("true", True), ("1", True), ("y", True), ("t", True), ("false", False)]
)
def test_strict_is_a_word_as_pytest_takes_it(tmp_path: Path, word: str, strict: bool) -> None:
    (tmp_path / "tox.ini").write_text(f"[pytest]\nkernelperf_strict = {word}\n")

    assert strict == find_ini(tmp_path).strict


def test_a_file_without_a_section_of_pytest_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    (tmp_path / "tox.ini").write_text(SECTIONS["tox.ini"].format("kept"))

    assert tmp_path / "kept" == find_ini(tmp_path / "below").baselines


def test_an_empty_ini_file_of_pytests_own_ends_the_search(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "pytest.ini").touch()
    (tmp_path / "tox.ini").write_text(SECTIONS["tox.ini"].format("kept"))

    assert find_ini(tmp_path / "below").baselines is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[tool"),
        ("pyproject.toml", "[tool]\npytest = 3"),
        ("tox.ini", "nonsense"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(OptionsError, match=name):
        find_ini(tmp_path)
