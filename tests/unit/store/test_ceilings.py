"""
The file of measured ceilings: found again by card, and never half read.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_kernelperf.errors import CeilingsError
from pytest_kernelperf.model import Ceilings
from pytest_kernelperf.store.ceilings import default_path, keep_ceilings, read_ceilings

CEILINGS = Ceilings(2712.5, {"float16": 689.0}, 1.5, "2026-09-01", {"torch": "2.11"})


def test_what_was_kept_is_read_back_by_card(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "ceilings.json"
    other = replace(CEILINGS, copy_gbs=2000.0)

    keep_ceilings("GPU-1", CEILINGS, path)
    keep_ceilings("GPU-2", other, path)

    assert CEILINGS == read_ceilings("GPU-1", path)
    assert other == read_ceilings("GPU-2", path)
    assert read_ceilings("GPU-3", path) is None


def test_measured_again_the_new_ones_count(tmp_path: Path) -> None:
    path = tmp_path / "ceilings.json"
    keep_ceilings("GPU-1", replace(CEILINGS, copy_gbs=1.0), path)

    keep_ceilings("GPU-1", CEILINGS, path)

    assert CEILINGS == read_ceilings("GPU-1", path)


def test_without_a_file_no_card_has_ceilings(tmp_path: Path) -> None:
    assert read_ceilings("GPU-1", tmp_path / "none.json") is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema_version": 2}', '{"schema_version": 1, "cards": {"GPU-1": {}}}'],
)
def test_a_file_that_is_not_right_is_named_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ceilings.json"
    path.write_text(text)

    for use in (lambda: read_ceilings("GPU-1", path), lambda: keep_ceilings("G", CEILINGS, path)):
        with pytest.raises(CeilingsError, match=r"ceilings.json.*kernelperf doctor --ceilings"):
            use()
    assert text == path.read_text()


@pytest.mark.parametrize(
    ("cache", "expected"),
    [("{folder}/x", "{folder}/x"), ("x", "{folder}/.cache"), ("", "{folder}/.cache")],
)
def test_the_file_lies_in_the_users_cache_folder(tmp_path, monkeypatch, cache, expected) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", cache.format(folder=tmp_path))

    folder = Path(expected.format(folder=tmp_path))

    assert folder / "kernelperf" / "ceilings.json" == default_path()


def test_a_user_without_a_home_is_served_too(monkeypatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)

    assert Path(tempfile.gettempdir()) in default_path().parents
