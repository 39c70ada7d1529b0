"""
Which entries a name on the command line means, which have lost their test, and giving new names.

Names are pytest's node ids, relative to the anchor: a folder, a file, `file::test` with or without
parameters, or an entry's whole key.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.model import Entry
from pytest_kernelperf.store.baselines import Baselines, Stored
from pytest_kernelperf.store.entries import timer_of


def selects(name: str, stored: Stored) -> bool:
    """
    Return whether a name means an entry, as pytest would select its test.
    """
    return _rest(name, stored) is not None


def all_entries(baselines: Baselines) -> tuple[Stored, ...]:
    """
    Return the entries of all cards.
    """
    return tuple(stored for slug in baselines.slugs() for stored in baselines.entries(slug))


def lost_tests(entries: Iterable[Stored], anchor: Path) -> Iterator[tuple[Stored, str]]:
    """
    Yield the entries whose test is no longer there, each with what is missing.

    Found by reading the source, not by running it: a test whose name may come from elsewhere (a
    star import, a base class, a file that is not Python) counts as there, and so do parameters.

    Args:
        entries: What to look at.
        anchor: The folder that their test files are relative to.
    """
    modules: dict[str, ast.Module | None] = {}
    for stored in entries:
        path = anchor / stored.file
        if not path.is_file():
            yield stored, f"{stored.file} is gone"
            continue
        if stored.file not in modules:
            modules[stored.file] = _parsed(path)
        module, names = modules[stored.file], _function_path(stored.key)
        if module is not None and not _defines(module.body, names):
            yield stored, f"{stored.file} has no {'::'.join(names)}"


def remove(baselines: Baselines, entries: Iterable[Stored]) -> None:
    """
    Remove entries, file by file; files that hold no other are removed too.
    """
    for (slug, file), keys in _keys_by_file(entries).items():
        baselines.write(slug, file, dict.fromkeys(keys))


def rename(baselines: Baselines, old: str, new: str) -> tuple[tuple[Stored, Stored], ...]:
    """
    Give the entries that a name means a new name, on all cards.

    Args:
        baselines: Where they are stored.
        old: A folder, file, test or key.
        new: The same kind of name.

    Returns:
        Each entry before and after.

    Raises:
        OptionsError: If nothing has the old name, or something else has the new one.
    """
    everything = all_entries(baselines)
    moves = tuple((s, _renamed(s, old, new)) for s in everything if selects(old, s))
    if not moves:
        raise OptionsError(
            f"nothing in {baselines.root} is called {old!r}; expected a folder, a test file, "
            f"file::test or a key that `kernelperf show` lists"
        )
    leaving = {_place(before) for before, _ in moves}
    taken = {_place(stored) for stored in everything} - leaving
    arriving = [_place(after) for _, after in moves]
    clash = next((p for p in arriving if p in taken or arriving.count(p) > 1), None)
    if clash is not None:
        raise OptionsError(
            f"{clash[1]}::{clash[2]} ({clash[0]}) has a baseline already; remove one of the two "
            f"with kernelperf prune --tests first"
        )
    _move(baselines, moves)
    return moves


def _move(baselines: Baselines, moves: Iterable[tuple[Stored, Stored]]) -> None:
    changes: dict[tuple[str, str], dict[str, Entry | None]] = {}
    for before, after in moves:
        gone = changes.setdefault((before.slug, before.file), {})
        gone.setdefault(before.key, None)
        changes.setdefault((after.slug, after.file), {})[after.key] = after.entry
    # Files that gain are written before files that lose: an interrupt leaves two copies, not none.
    ordered = sorted(changes.items(), key=lambda item: all(e is None for e in item[1].values()))
    for (slug, file), entries in ordered:
        baselines.write(slug, file, entries)


def _renamed(stored: Stored, old: str, new: str) -> Stored:
    full = new.rstrip("/") + (_rest(old, stored) or "")
    file, _, key = full.partition("::")
    if ("::" in old) is not ("::" in new) or not _is_key(key):
        raise OptionsError(
            f"renaming {old!r} to {new!r} would give {full!r}; expected both names to be of one "
            f"kind: two folders, two files, two tests or two keys"
        )
    if not file.endswith(".py"):
        raise OptionsError(f"{file!r} is not a test file; expected a path that ends in .py")
    return Stored(stored.slug, file, key, stored.entry)


def _is_key(key: str) -> bool:
    try:
        timer_of(key)
    except ValueError:
        return False
    return True


def _rest(name: str, stored: Stored) -> str | None:
    full = f"{stored.file}::{stored.key}"
    name = name.rstrip("/")
    if full == name:
        return ""
    ends = ("::", "[", " ") if "::" in name else ("::", "/")
    return full[len(name) :] if full.startswith(tuple(name + end for end in ends)) else None


def _place(stored: Stored) -> tuple[str, str, str]:
    return stored.slug, stored.file, stored.key


def _keys_by_file(entries: Iterable[Stored]) -> dict[tuple[str, str], list[str]]:
    keys: dict[tuple[str, str], list[str]] = {}
    for stored in entries:
        keys.setdefault((stored.slug, stored.file), []).append(stored.key)
    return keys


def _function_path(key: str) -> list[str]:
    # "Class::test_x[8-fp16] name | device cold paced": parameters and names come after.
    return key.rpartition(" | ")[0].partition("[")[0].split(" ")[0].split("::")


def _parsed(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return None


def _defines(body: Iterable[ast.AST], names: list[str]) -> bool:
    first, *rest = names
    for node in _statements(body):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            return True
        if first not in _bound(node):
            continue
        if not isinstance(node, ast.ClassDef) or not rest or node.bases:
            return True
        if _defines(node.body, rest):
            return True
    return False


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.With, ast.For)):
            yield from _statements(ast.iter_child_nodes(node))
        if isinstance(node, ast.ExceptHandler):
            yield from _statements(node.body)


def _bound(node: ast.AST) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {target.id for target in targets if isinstance(target, ast.Name)}
    return set()
