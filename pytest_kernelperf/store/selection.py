"""
Which entries a name on the command line means, which have lost their test, and giving new names.

Names are pytest's node ids, relative to the anchor: a folder, a file, `file::test` with or without
parameters, or an entry's whole key.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.model import Entry
from pytest_kernelperf.store.baselines import Baselines, Stored
from pytest_kernelperf.store.entries import timer_of
from pytest_kernelperf.store.resources import Kernels, StoredKernels, store_resources

#: Times on a card, or kernels for a target.
AnyStored = Stored | StoredKernels
#: One of them, and whether it is to be there afterwards.
_Change = tuple[AnyStored, bool]


def selects(name: str, stored: AnyStored) -> bool:
    """
    Return whether a name means an entry, as pytest would select its test.
    """
    return _rest(name, stored) is not None


def nearest(name: str, entries: Iterable[AnyStored]) -> str:
    """
    Return what to write for a name that no entry has: the one that was meant, if there is one.
    """
    import difflib  # only for people who mistyped

    full = sorted({f"{one.file}::{one.key}".rpartition(" | ")[0] for one in entries})
    meant = [one for one in full if one.endswith(f"::{name}")]
    near = meant or difflib.get_close_matches(name, full, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return (
        "expected a folder, a test file or a test, such as tests/test_it.py::test_it[64], relative "
        "to the folder that the baselines lie in"
    )


def all_entries(baselines: Baselines) -> tuple[AnyStored, ...]:
    """
    Return the entries of all cards, then the kernels of all targets.
    """
    return (
        *(stored for slug in baselines.slugs() for stored in baselines.entries(slug)),
        *(stored for target in baselines.targets() for stored in baselines.kernels(target)),
    )


def lost_tests(entries: Iterable[AnyStored], anchor: Path) -> Iterator[tuple[AnyStored, str]]:
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


def remove(baselines: Baselines, entries: Iterable[AnyStored]) -> None:
    """
    Remove entries, file by file; files that hold no other are removed too.
    """
    by_file: dict[tuple[str, str], list[_Change]] = {}
    for stored in entries:
        by_file.setdefault((stored.slug, stored.file), []).append((stored, False))
    for changes in by_file.values():
        _write(baselines, changes)


def rename(baselines: Baselines, old: str, new: str) -> tuple[tuple[AnyStored, AnyStored], ...]:
    """
    Give the entries that a name means a new name, on all cards and for all targets.

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
        cure = nearest(old, everything)
        raise OptionsError(f"nothing in {baselines.root} is called {old!r}: {cure}")
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


def _move(baselines: Baselines, moves: Iterable[tuple[AnyStored, AnyStored]]) -> None:
    changes: dict[tuple[str, str], dict[str, _Change]] = {}
    for before, after in moves:
        gone = changes.setdefault((before.slug, before.file), {})
        gone.setdefault(before.key, (before, False))
        changes.setdefault((after.slug, after.file), {})[after.key] = (after, True)
    # Files that gain are written before files that lose: an interrupt leaves two copies, not none.
    by_file = [list(each.values()) for each in changes.values()]
    for each in sorted(by_file, key=lambda each: not any(stays for _, stays in each)):
        _write(baselines, each)


def _write(baselines: Baselines, changes: Sequence[_Change]) -> None:
    """
    Store or remove entries, at least one, which one file holds.
    """
    times: dict[str, Entry | None] = {}
    kernels: dict[str, Kernels | None] = {}
    for stored, stays in changes:
        if isinstance(stored, StoredKernels):
            kernels[stored.name] = stored.kernels if stays else None
        else:
            times[stored.key] = stored.entry if stays else None
    slug, file = changes[0][0].slug, changes[0][0].file
    if times:
        baselines.write(slug, file, times)
    if kernels:
        store_resources(baselines.root, slug, file, kernels)


def _renamed(stored: AnyStored, old: str, new: str) -> AnyStored:
    full = new.rstrip("/") + (_rest(old, stored) or "")
    file, _, key = full.partition("::")
    if ("::" in old) is not ("::" in new) or not _is_key(key, stored):
        raise OptionsError(
            f"renaming {old!r} to {new!r} would give {full!r}; expected both names to be of one "
            f"kind: two folders, two files, two tests or two keys"
        )
    if not file.endswith(".py"):
        raise OptionsError(f"{file!r} is not a test file; expected a path that ends in .py")
    if isinstance(stored, StoredKernels):
        return replace(stored, file=file, name=key.removesuffix(stored.mode))
    return replace(stored, file=file, key=key)


def _is_key(key: str, like: AnyStored) -> bool:
    if isinstance(like, StoredKernels):
        return key.endswith(like.mode)
    try:
        timer_of(key)
    except ValueError:
        return False
    return True


def _rest(name: str, stored: AnyStored) -> str | None:
    full = f"{stored.file}::{stored.key}"
    name = name.rstrip("/")
    if full == name:
        return ""
    ends = ("::", "[", " ") if "::" in name else ("::", "/")
    return full[len(name) :] if full.startswith(tuple(name + end for end in ends)) else None


def _place(stored: AnyStored) -> tuple[str, str, str]:
    return stored.slug, stored.file, stored.key


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
