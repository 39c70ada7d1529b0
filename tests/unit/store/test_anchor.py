"""
Where baselines belong.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_kernelperf.store.anchor import ANCHOR_FILES, find_anchor, slug


@pytest.mark.parametrize("name", ANCHOR_FILES)
def test_the_anchor_is_the_nearest_folder_with_a_project_file(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "project" / "tests" / "perf"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "project" / name).touch()

    assert tmp_path / "project" == find_anchor(inner / "test_x.py")


def test_without_a_project_file_the_anchor_is_the_test_files_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked for with names that no folder above the temporary one has."""
    monkeypatch.setattr("pytest_kernelperf.store.anchor.ANCHOR_FILES", ("no-such-file.toml",))

    assert tmp_path == find_anchor(tmp_path / "test_x.py")


def test_a_folder_called_like_a_project_file_is_no_anchor(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "inner" / "tox.ini").mkdir(parents=True)

    assert tmp_path == find_anchor(tmp_path / "inner" / "test_x.py")


def test_the_anchor_does_not_depend_on_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "tests").mkdir(parents=True)
    (tmp_path / "a" / "setup.cfg").touch()
    monkeypatch.chdir(tmp_path / "a" / "tests")

    assert tmp_path / "a" == find_anchor(Path("test_x.py"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"),
        ("cpu AMD EPYC 7763 64-Core Processor", "cpu-amd-epyc-7763-64-core-processor"),
        ("cpu Intel(R) Xeon(R) @ 2.00GHz ", "cpu-intel-r-xeon-r-2-00ghz"),
        ("../..", "unknown"),
        ("", "unknown"),
    ],
)
def test_slugs_are_lower_case_words_with_dashes(name: str, expected: str) -> None:
    assert expected == slug(name)
