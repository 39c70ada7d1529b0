"""
Finds the ini file that pytest would read in a folder, for commands that run without pytest.
"""

from __future__ import annotations

import configparser
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_kernelperf.errors import OptionsError

# Python 3.10 has none of its own; pytest brings this one there.
_TOML = "tomllib" if sys.version_info >= (3, 11) else "tomli"
#: Files in the order in which pytest looks for them, and where each keeps pytest's keys.
_SECTIONS = {
    "pytest.toml": ("pytest",),
    ".pytest.toml": ("pytest",),
    "pytest.ini": ("pytest",),
    ".pytest.ini": ("pytest",),
    "pyproject.toml": ("tool", "pytest"),
    "tox.ini": ("pytest",),
    "setup.cfg": ("tool:pytest",),
}
#: These are pytest's even where they say nothing.
_ALWAYS = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini")
_PREFIX = "kernelperf_"


@dataclass(frozen=True, slots=True)
class Ini:
    """
    What an ini file says about kernelperf.

    Attributes:
        folder: Where the file lies; paths in it are relative to this.
        values: The keys without "kernelperf_".
    """

    folder: Path
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def baselines(self) -> Path | None:
        """
        The folder of baselines that it names.
        """
        named = self.values.get("baselines", "")
        return self.folder / named if named else None

    @property
    def strict(self) -> bool:
        """
        Whether what could not be judged fails.
        """
        return self.values.get("strict", "").lower() in ("1", "y", "yes", "t", "true", "on")


def find_ini(folder: Path) -> Ini:
    """
    Read the nearest ini file of a folder and its parents.

    Returns:
        An empty one of the folder itself if there is none.

    Raises:
        OptionsError: If that file can't be read.
    """
    start = folder.absolute()
    for candidate in (start, *start.parents):
        for name, section in _SECTIONS.items():
            path = candidate / name
            if path.is_file():
                keys = _keys(path, section)
                if keys is not None or name in _ALWAYS:
                    return Ini(candidate, _own(keys or {}))
    return Ini(start)


def _keys(path: Path, section: tuple[str, ...]) -> Mapping[str, Any] | None:
    """
    Return what stands in the section of pytest; None if there is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".toml":
            parser = configparser.ConfigParser(interpolation=None)
            parser.read_string(text)
            return dict(parser[section[0]]) if section[0] in parser else None
        table: Any = parse_toml(text)
    except (OSError, ValueError, configparser.Error) as error:
        raise OptionsError(f"{path} can't be read: {error}") from error
    for name in section:
        table = table.get(name)
        if table is None:
            return None
        if not isinstance(table, dict):
            raise OptionsError(f"{path} can't be read: {name} is no table")
    # `[tool.pytest.ini_options]`, or `[tool.pytest]` itself from pytest 9 on.
    return {**table, **table.get("ini_options", {})}


def _own(keys: Mapping[str, Any]) -> dict[str, str]:
    return {
        key.removeprefix(_PREFIX): str(value)
        for key, value in keys.items()
        if key.startswith(_PREFIX)
    }


def parse_toml(text: str) -> dict[str, Any]:
    """
    Return what a TOML document holds.

    Raises:
        ValueError: If it is none.
    """
    document: dict[str, Any] = importlib.import_module(_TOML).loads(text)
    return document
