"""
Moves what a process imports and runs from one checkout of a project to another one.

Two checkouts have the same module names, and what made the first importable (its place on
`sys.path`, an editable install) would make both sides of a comparison run the same code. So every
way that leads into the first is bent into the second, and what was imported is looked at.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: The plugin is the same on both sides, also where it is what the checkouts hold.
_PLUGIN = __name__.partition(".")[0]
#: What the editable installs of setuptools call their tables in the module of the finder.
_TABLES = ("MAPPING", "NAMESPACES")
#: Where a project may keep its packages.
_LAYOUTS = ("", "src", "python", "lib")
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True, slots=True)
class Relocation:
    """
    From one checkout to the other.

    Attributes:
        before: The working tree, without symbolic links.
        after: The other checkout's folder.
        alias: The working tree as the user may spell it, with symbolic links.
    """

    before: str
    after: str
    alias: str = ""

    def path(self, path: str, folder: str = "") -> str:
        """
        Return a path as it is in the other checkout; unchanged if it lies outside of this one.

        What is installed into an environment inside the checkout belongs to both.

        Args:
            path: Absolute, or relative to `folder`.
            folder: Where the process was started.
        """
        real = os.path.realpath(os.path.join(folder, path))
        # What is no path at all, such as a finder's key on `sys.path`, stays as it is.
        is_path = os.path.isabs(path) or os.path.exists(real)
        if not (is_path and self._is_source(real)):
            return path
        return os.path.join(self.after, os.path.relpath(real, self.before)).removesuffix("/.")

    def text(self, text: str) -> str:
        """
        Return a text, such as an argument, with the checkout's absolute path replaced.
        """
        for root in {self.before, self.alias} - {""}:
            text = re.sub(rf"{re.escape(root)}(?=$|[/:=,;'\"\s])", lambda _: self.after, text)
        return text

    def search_path(self, entries: Iterable[str], folder: str) -> tuple[str, ...]:
        """
        Return `sys.path` with its entries in the other checkout.

        A project that moved its packages into another folder since is looked for in all of them.
        """
        moved: dict[str, None] = {}
        for entry in entries:
            place = self.path(entry, folder)
            if place != entry and not os.path.isdir(place):
                moved.update(dict.fromkeys(self.roots()))
            moved[place] = None
        return tuple(moved)

    def environ(self, environ: Mapping[str, str], folder: str) -> dict[str, str]:
        """
        Return an environment whose programs find the other checkout, and build into it.
        """
        moved = dict(environ)
        if moved.get("PYTHONPATH"):
            entries = moved["PYTHONPATH"].split(os.pathsep)
            moved["PYTHONPATH"] = os.pathsep.join(self.search_path(entries, folder))
        for name in ("PYTEST_ADDOPTS", "PWD"):
            if name in moved:
                moved[name] = self.text(moved[name])
        # torch keeps what it compiles for a name, wherever the source lies.
        moved["TORCH_EXTENSIONS_DIR"] = os.path.join(os.path.dirname(self.after), "extensions")
        return moved

    def roots(self) -> list[str]:
        """
        Return the folders of the other checkout that may hold its packages.
        """
        places = [os.path.join(self.after, name).rstrip("/") for name in _LAYOUTS]
        return [place for place in places if os.path.isdir(place)]

    def move_finders(self) -> None:
        """
        Bend this process's editable installs of the one checkout into the other.

        Source:
            setuptools.command.editable_wheel, `_FINDER_TEMPLATE`.
        """
        for finder in sys.meta_path:
            home = sys.modules.get(getattr(finder, "__module__", ""))
            tables = [getattr(home, name, None) for name in _TABLES]
            for table in (one for one in tables if isinstance(one, dict)):
                table.update({name: self._import_place(name, one) for name, one in table.items()})

    def _import_place(self, name: str, place: object) -> object:
        if isinstance(place, list | tuple):
            return [self._import_place(name, one) for one in place]
        if not isinstance(place, str):
            return place
        moved = self.path(place)
        relative = name.replace(".", "/")
        # A mapping's place is a folder, or a module's file without its ending.
        choices = [moved, *(os.path.join(root, relative) for root in self.roots())]
        there = (one for one in choices if os.path.exists(one) or os.path.exists(f"{one}.py"))
        return moved if moved == place else next(there, moved)

    def strays(self) -> list[str]:
        """
        Return what this process imported from anywhere but the other checkout, in words.

        That is every module from inside the first checkout, and every one that the other checkout
        has and that came from an installed copy.
        """
        ours = self._own_names()
        found = []
        for name, module in list(sys.modules.items()):
            top = name.partition(".")[0]
            origin = getattr(module, "__file__", None)
            if top == _PLUGIN or not isinstance(origin, str):
                continue
            real = os.path.realpath(origin)
            is_copy = name in ours and not _is_in(real, self.after)
            if is_copy or self._is_source(real):
                found.append(f"{name} (from {origin})")
        return found

    def _own_names(self) -> set[str]:
        """
        Return the names of the top-level packages and modules that the other checkout holds.
        """
        found = [each for root in self.roots() for each in Path(root).glob("*.py")]
        inits = [each for root in self.roots() for each in Path(root).glob("*/__init__.py")]
        names = {each.stem for each in found} | {each.parent.name for each in inits}
        return names - set(sys.stdlib_module_names) - {_PLUGIN}

    def _is_source(self, real: str) -> bool:
        """
        Return whether a path lies in the first checkout, and not in an environment within it.
        """
        if not _is_in(real, self.before):
            return False
        parts = os.path.relpath(real, self.before).split(os.sep)
        prefixes = {os.path.realpath(one) for one in (sys.prefix, sys.base_prefix)}
        within = [one for one in prefixes if one != self.before and _is_in(one, self.before)]
        return not any(name in parts for name in _INSTALLED) and not any(
            _is_in(real, one) for one in within
        )


def moved_arguments(arguments: Sequence[str], relocation: Relocation, folder: str) -> list[str]:
    """
    Return the tests that are named on a command line, as far as the other checkout has them.

    A test in a file becomes the file: one that is not there would be an error of all.

    Args:
        arguments: Paths and node ids, of the first checkout or relative to `folder`.
        relocation: To the other checkout.
        folder: Where the other pytest runs.
    """
    moved: dict[str, None] = {}
    for argument in arguments:
        path = relocation.path(argument.partition("::")[0], folder)
        if os.path.exists(os.path.join(folder, path)):
            moved[path] = None
    return list(moved)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip(os.sep)}{os.sep}")
