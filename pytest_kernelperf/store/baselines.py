"""
The folder of baselines: `<root>/<slug>/<test path>.json`, one file per card model and test file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_kernelperf.errors import BaselineFormatError
from pytest_kernelperf.model import Case, Entry, Process, Round
from pytest_kernelperf.store import files
from pytest_kernelperf.store.anchor import slug as slug_of
from pytest_kernelperf.store.document import SCHEMA_VERSION, Document, decode, encode
from pytest_kernelperf.store.entries import entry_from, put_entry, timer_of
from pytest_kernelperf.store.resources import StoredKernels, is_target, load_resources

#: More names than this in a hint help nobody.
MAX_HINTS = 3

Changes = Mapping[str, Entry | None]


@dataclass(frozen=True, slots=True)
class Stored:
    """
    One entry and where it is stored.
    """

    slug: str
    file: str
    key: str
    entry: Entry

    @property
    def timer(self) -> str:
        """
        The timer that measured it.
        """
        return timer_of(self.key)

    @property
    def regime(self) -> str:
        """
        As `Case.regime`.
        """
        pace = self.key.rpartition(" ")[2]
        return pace if pace == "sustained" else self.timer


class Baselines:
    """
    Reads and changes the baseline files under one root.

    Files are read once and kept; a change reads the file again under a lock, so that what another
    process stored in the meantime stays.

    Args:
        root: The `baselines` folder; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[Path, dict[str, Entry]] = {}

    def path(self, slug: str, file: str) -> Path:
        """
        Return where a card's entries of a test file are stored.

        Args:
            slug: The card's folder.
            file: The test file, relative to the anchor, with forward slashes.
        """
        return files.path_for(self.root, slug, file)

    def load(self, slug: str, file: str) -> dict[str, Entry]:
        """
        Return a test file's entries by key; empty if none are stored.

        Raises:
            BaselineFormatError: If the file can't be read; it is left as it is.
        """
        return dict(self._load(self.path(slug, file)))

    def slugs(self) -> list[str]:
        """
        Return the card models that have baselines.
        """
        return [name for name in self._folders() if not is_target(name)]

    def targets(self) -> list[str]:
        """
        Return the targets for which compiled kernels are stored.
        """
        return list(filter(is_target, self._folders()))

    def files(self, slug: str) -> list[str]:
        """
        Return the test files for which a card model, or a target, has baselines.
        """
        folder = self.root / slug
        found = files.json_files(folder) if folder.is_dir() else ()
        return sorted(path.relative_to(folder).with_suffix(".py").as_posix() for path in found)

    def entries(self, slug: str) -> tuple[Stored, ...]:
        """
        Return all entries of one card model, sorted by file and key.
        """
        return tuple(
            Stored(slug, file, key, entry)
            for file in self.files(slug)
            for key, entry in sorted(self.load(slug, file).items())
        )

    def kernels(self, target: str) -> tuple[StoredKernels, ...]:
        """
        Return the compiled kernels of one target, sorted by file and test.
        """
        return tuple(
            StoredKernels(target, file, name, kernels)
            for file in self.files(target)
            for name, kernels in sorted(load_resources(self.root, target, file).items())
        )

    def elsewhere(self, slug: str, case: Case) -> list[str]:
        """
        Return what has a baseline where a case has none: other cards first, then similar cases.
        """
        cards = [
            other
            for other in self.slugs()
            if other != slug and case.key in self._load(self.path(other, case.file))
        ]
        function = case.test.partition("[")[0]
        similar = [
            key
            for key in sorted(self.load(slug, case.file))
            if key != case.key and key.startswith((f"{function}[", f"{function} "))
        ]
        return [*cards[:MAX_HINTS], *similar[:MAX_HINTS]]

    def check_all(self) -> None:
        """
        Read every file, of times and of kernels, so that a bad one is found before measuring.

        Raises:
            BaselineFormatError: For the first file that can't be read.
        """
        for slug in self.slugs():
            for file in self.files(slug):
                self.load(slug, file)
        for target in self.targets():
            self.kernels(target)

    def check_not_empty(self) -> None:
        """
        Refuse a folder that was named and holds nothing: a slip would pass everything.

        The folder above the right one, and one below it, hold files of baselines too. What tells
        them apart is that the card which a file was measured on gives its folder its name.

        Raises:
            BaselineFormatError: If no file lies where baselines lie, or none can be read.
        """
        self._check_root()
        bad: BaselineFormatError | None = None
        likely: Path | None = None
        for path in files.json_files(self.root):
            place = path.relative_to(self.root).parts[:-1]
            if place and is_target(place[0]):
                return
            try:
                cards = _cards(self._load(path).values())
            except BaselineFormatError as error:
                bad = bad or (error if place else None)  # beside the cards lies what is no baseline
                continue
            if place and place[0] in cards:
                return
            likely = likely or _root_for(path.absolute(), cards)
        if bad is not None and likely is None:
            raise bad
        raise BaselineFormatError(
            f"baselines folder {self.root} holds no baseline; expected the folder that holds "
            f"<card>/<test path>.json; name {likely or 'that one'}, "
            "or begin this one with an update"
        )

    def check_writable(self, slug: str, file: str) -> None:
        """
        Refuse a place where `write` would fail, before anything is measured for it.

        Raises:
            BaselineWriteError: If the file or its folder is read-only.
        """
        files.check_writable(self.path(slug, file))

    def write(self, slug: str, file: str, changes: Changes) -> Path:
        """
        Add, replace or (None) remove entries; all others of the file stay as they are.

        Returns:
            The file that holds them.

        Raises:
            BaselineFormatError: If the file can't be read; it is left as it is.
            BaselineWriteError: If it can't be written; it is left as it is.
        """
        return self.update(slug, file, lambda _entries: changes)

    def update(
        self, slug: str, file: str, decide: Callable[[Mapping[str, Entry]], Changes]
    ) -> Path:
        """
        Like `write`, with changes that depend on what is stored at that moment.

        Args:
            slug: The card's folder.
            file: The test file.
            decide: Called under the lock with the entries on disk; returns the changes.
        """
        path = self.path(slug, file)
        with files.locked(path):
            document = self._document(path)
            entries = self._entries(document, path)
            changes = decide(entries)
            if changes:
                self._store(path, document, changes)
                # What is kept must be what a later read gives, so it is forgotten, not patched.
                self._read.pop(path, None)
        return path

    def _load(self, path: Path) -> dict[str, Entry]:
        if path not in self._read:
            self._check_root()
            self._read[path] = self._entries(self._document(path), path)
        return self._read[path]

    def _folders(self) -> list[str]:
        self._check_root()
        if not self.root.exists():
            return []
        return sorted(folder.name for folder in files.listed(self.root) if folder.is_dir())

    def _check_root(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise BaselineFormatError(
                f"baselines {self.root} is a file; expected a folder; name the folder that holds "
                f"<card>/<test path>.json"
            )

    def _store(self, path: Path, document: Document, changes: Changes) -> None:
        for key, entry in changes.items():
            if entry is None:
                document.entries.pop(key, None)
            else:
                put_entry(document, key, entry, _round_percentile)
        if document.entries:
            files.write_bytes(path, encode(document))
        else:
            files.remove(path, self.root)

    @staticmethod
    def _document(path: Path) -> Document:
        data = files.read_bytes(path, "baseline file")
        if data is None:
            return Document(SCHEMA_VERSION, {}, {})
        return decode(data, str(path))

    @staticmethod
    def _entries(document: Document, path: Path) -> dict[str, Entry]:
        return {key: entry_from(document, key, str(path)) for key in document.entries}


def _cards(entries: Iterable[Entry]) -> set[str]:
    """
    Return the folder names of the cards that entries were measured on.
    """
    return {
        slug_of(process.environment.device_name)
        for entry in entries
        for process in entry.reference.processes
    }


def _root_for(path: Path, cards: Collection[str]) -> Path | None:
    return next((folder.parent for folder in path.parents if folder.name in cards), None)


def _round_percentile(round_: Round, percentile: float) -> float:
    from pytest_kernelperf.analysis import percentile_us
    from pytest_kernelperf.model import Environment

    alone = Process("", "", Environment(None, ""), (round_,))
    return percentile_us([alone], percentile)
