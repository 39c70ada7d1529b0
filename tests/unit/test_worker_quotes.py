"""
What is quoted of a worker that failed.
"""

from __future__ import annotations

import pytest

from pytest_kernelperf.workers import gist


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("one\n\nlast\n\n", "last"),
        ("E   ModuleNotFoundError: no x\n=== short summary ===\n", "ModuleNotFoundError: no x"),
        ("ERROR: not found: a.py\n", "ERROR: not found: a.py"),
        ("Fatal Python error: Segmentation fault\n\nThread 1:\n", "Fatal Python error: Segm"),
        ("kernelperf: x did not return within 5 s\nE  later\nFile y", "kernelperf: x did not"),
    ],
)
def test_the_telling_line_is_quoted(text, expected):
    assert gist(text).startswith(expected)
    assert bool(gist(text)) == bool(expected)
