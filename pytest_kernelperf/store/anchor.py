"""
Where baselines belong: the anchor folder of a test file, and the folder name of a card.
"""

from __future__ import annotations

import re
from pathlib import Path

#: A folder with one of these is a project's root, as pytest itself sees it.
ANCHOR_FILES = ("pyproject.toml", "pytest.ini", "tox.ini", "setup.cfg")


def find_anchor(test_file: Path) -> Path:
    """
    Return the folder under which a test file's baselines lie.

    It depends on the test file alone, so it is the same wherever pytest was started.

    Args:
        test_file: The test file; it need not exist.

    Returns:
        The nearest folder above it with one of `ANCHOR_FILES`; the test file's own folder if
        there is none.
    """
    return find_folder_anchor(test_file.absolute().parent)


def name_below_anchor(test_file: Path) -> str:
    """
    Return what a test file is called in baselines and records, with forward slashes.
    """
    return test_file.absolute().relative_to(find_anchor(test_file)).as_posix()


def find_folder_anchor(folder: Path) -> Path:
    """
    Return the anchor of the test files that lie in a folder.

    Args:
        folder: Any folder.

    Returns:
        The nearest of it and its parents with one of `ANCHOR_FILES`; else the folder itself.
    """
    start = folder.absolute()
    for candidate in (start, *start.parents):
        if any((candidate / name).is_file() for name in ANCHOR_FILES):
            return candidate
    return start


def slug(device_name: str) -> str:
    """
    Return the folder name for a card's or processor's model name.

    Args:
        device_name: For example "NVIDIA H100 80GB HBM3" or "cpu AMD EPYC 7763".

    Returns:
        Lower case, with one dash for each run of other characters ("nvidia-h100-80gb-hbm3").
    """
    return re.sub(r"[^a-z0-9]+", "-", device_name.lower()).strip("-") or "unknown"
