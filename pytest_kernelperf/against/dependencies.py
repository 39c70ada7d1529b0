"""
What a project declares that it needs, and what of it is not installed here.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pytest_kernelperf.store.ini import parse_toml


def lacking(folder: Path) -> dict[str, str]:
    """
    Return what a project needs and this environment does not have, or has in another version.

    Args:
        folder: Its `pyproject.toml` is read, if it has one: `[project] dependencies`. What can't be
            read declares nothing.

    Returns:
        By package, in words: "torch<2 (2.11.0 is installed here)".
    """
    try:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
        declared = parse_toml(text)["project"]["dependencies"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    needed = filter(None, map(_needed, declared if isinstance(declared, list) else ()))
    lacks = [(canonicalize_name(each.name), _lack(each)) for each in needed]
    # Only then by name: a package may stand there twice, and what one line lacks it lacks.
    return {name: lack for name, lack in lacks if lack}


def _needed(text: object) -> Requirement | None:
    try:
        wanted = Requirement(str(text))
    except InvalidRequirement:
        return None
    is_needed = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
    return wanted if is_needed else None


def _lack(wanted: Requirement) -> str:
    """
    Return what is amiss with a requirement; "" if nothing is.
    """
    asked = f"{canonicalize_name(wanted.name)}{wanted.specifier}"
    try:
        installed = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return f"{asked} (not installed here)"
    try:
        # Who installed a pre-release wants it to count.
        is_met = wanted.specifier.contains(Version(installed), prereleases=True)
    except (InvalidVersion, TypeError):
        return ""
    return "" if is_met else f"{asked} ({installed} is installed here)"
