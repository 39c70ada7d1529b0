"""
What a project declares that it needs, and what of it is not installed here.
"""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

# Python 3.10 has none of its own; pytest brings this one there.
_TOML = "tomllib" if sys.version_info >= (3, 11) else "tomli"


def unmet(folder: Path) -> dict[str, str]:
    """
    Return the requirements of a project that this environment does not meet, with what is there.

    Args:
        folder: Its `pyproject.toml` is read, if it has one: `[project] dependencies`. What can't be
            read declares nothing.

    Returns:
        By requirement, as written: the installed version, or "" where there is none.
    """
    try:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
        document: dict[str, Any] = importlib.import_module(_TOML).loads(text)
    except (OSError, ValueError):
        return {}
    project = document.get("project", {})
    declared = project.get("dependencies", []) if isinstance(project, dict) else []
    found = ((text, _installed(text)) for text in declared if isinstance(text, str))
    return {text: version for text, version in found if version is not None}


def _installed(text: str) -> str | None:
    """
    Return the version that does not do; None where it does, or is not needed here.
    """
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        return None
    # A requirement by address names no version that could be compared.
    if wanted.url or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
        return None
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return ""
    return None if wanted.specifier.contains(version, prereleases=True) else version
