"""
What a project declares that it needs, and what of it is not installed here.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pytest_kernelperf.store.ini import parse_toml


def lacking(folder: Path) -> set[str]:
    """
    Return the packages that a project needs and this environment does not have, in any version.

    Versions are not looked at: a project that runs in spite of its own bounds is its owner's
    business, and one environment can't keep two revisions' pins.

    Args:
        folder: Its `pyproject.toml` is read, if it has one: `[project] dependencies`. What can't be
            read declares nothing.
    """
    try:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
        declared = parse_toml(text)["project"]["dependencies"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    names = map(_needed, declared if isinstance(declared, list) else ())
    return {name for name in names if name and not _is_installed(name)}


def _needed(text: object) -> str:
    """
    Return the name of the package that a requirement asks for; "" if for none here.
    """
    try:
        wanted = Requirement(str(text))
    except InvalidRequirement:
        return ""
    is_needed = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
    return canonicalize_name(wanted.name) if is_needed else ""


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
