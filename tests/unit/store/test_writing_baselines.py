"""
Writing baseline files: wholly or not at all, by one process at a time, where it is allowed.
"""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from baseline_file import FILE, SLUG, keys

from pytest_kernelperf.errors import BaselineWriteError
from pytest_kernelperf.model import Entry
from pytest_kernelperf.store import files
from pytest_kernelperf.store.baselines import Baselines


def test_a_read_only_file_is_named_and_stays(baselines: Baselines, stored: Path, make) -> None:
    before = stored.read_bytes()
    stored.chmod(0o444)

    for act in (
        lambda: baselines.check_writable(SLUG, FILE),
        lambda: baselines.write(SLUG, FILE, {keys()[1]: make.entry()}),
        lambda: baselines.write(SLUG, FILE, {keys()[0]: None}),
    ):
        with pytest.raises(BaselineWriteError, match=r"the file is read-only.*chmod"):
            act()
    assert before == stored.read_bytes()


def test_a_read_only_folder_is_named(baselines: Baselines, stored: Path, make) -> None:
    stored.parent.chmod(0o555)
    try:
        for act in (
            lambda: baselines.check_writable(SLUG, FILE),
            lambda: baselines.write(SLUG, FILE, {keys()[1]: make.entry()}),
        ):
            with pytest.raises(BaselineWriteError, match=r"folder .* can't be written"):
                act()
    finally:
        stored.parent.chmod(0o755)


@pytest.mark.parametrize("function", ["fsync", "replace", "open"])
def test_no_disk_space_leaves_the_old_file_and_nothing_else(
    baselines: Baselines, stored: Path, make, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    before = stored.read_bytes()

    def full(*_arguments: object, **_keywords: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "os", _Patched(function, full))
        with pytest.raises(BaselineWriteError, match=r"No space left on device.*as it was"):
            baselines.write(SLUG, FILE, {keys()[1]: make.entry()})
    assert before == stored.read_bytes()
    assert [stored] == list(stored.parent.iterdir())
    assert [keys()[0]] == list(baselines.load(SLUG, FILE))


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_an_interrupt_while_writing_leaves_the_old_file_and_nothing_else(
    baselines: Baselines, stored: Path, make, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    before = stored.read_bytes()

    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "os", _Patched(function, interrupted))
        with pytest.raises(KeyboardInterrupt):
            baselines.write(SLUG, FILE, {keys()[1]: make.entry()})
    assert before == stored.read_bytes()
    assert [stored] == list(stored.parent.iterdir())

    baselines.write(SLUG, FILE, {keys()[1]: make.entry()})
    assert keys()[:2] == sorted(baselines.load(SLUG, FILE))


class _Patched:
    """
    The `os` module with one function replaced, for one module only.
    """

    def __init__(self, name: str, function: object) -> None:
        self._replaced = {name: function}

    def __getattr__(self, name: str) -> object:
        return self._replaced.get(name) or getattr(os, name)


def test_a_link_is_followed(baselines: Baselines, stored: Path, make, tmp_path: Path) -> None:
    """Baselines may be linked in from elsewhere; the link must stay one."""
    target = tmp_path / "elsewhere.json"
    stored.rename(target)
    stored.symlink_to(target)
    baselines.write(SLUG, FILE, {keys()[1]: make.entry()})

    assert stored.is_symlink()
    assert keys()[:2] == sorted(Baselines(baselines.root).load(SLUG, FILE))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_device_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    """As root a rename over /dev/null would succeed."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write_bytes(pipe, b"told")
        assert b"told" == os.read(reader, 10)
    finally:
        os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="needs /dev/fd")
def test_a_stream_that_leads_to_a_file_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    """As in `--json /dev/stdout > file`: what else is told would go to the file that was there."""
    path = tmp_path / "out"
    with path.open("wb") as stream:
        before = path.stat().st_ino
        files.write_bytes(Path(f"/dev/fd/{stream.fileno()}"), b"told")

    assert b"told" == path.read_bytes()
    assert before == path.stat().st_ino


def test_the_files_mode_is_kept(baselines: Baselines, stored: Path, make) -> None:
    stored.chmod(0o640)
    baselines.write(SLUG, FILE, {keys()[1]: make.entry()})

    assert 0o640 == stat.S_IMODE(stored.stat().st_mode)


def test_only_baselines_lie_in_the_folder(baselines: Baselines, stored: Path) -> None:
    assert [stored] == [path for path in baselines.root.rglob("*") if path.is_file()]


def test_a_lock_that_is_held_is_named(
    baselines: Baselines, stored: Path, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_TIMEOUT_S", 0.1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        gate = pool.apply(_hold, (str(stored),))
        with pytest.raises(BaselineWriteError, match=r"can't be locked within 0.1 s"):
            baselines.write(SLUG, FILE, {keys()[1]: make.entry()})
        assert gate


_held = []


def _hold(path: str) -> bool:
    lock = files.locked(Path(path))
    lock.__enter__()
    _held.append(lock)
    return True


def test_two_processes_that_update_one_file_lose_nothing(baselines: Baselines, make) -> None:
    """Each stores its own entries one by one, while the other does the same."""
    entry = make.entry("a")
    mine, theirs = keys()[:5], [f"test_other[{n}] | device cold paced" for n in range(5)]
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write_all, args=(baselines.root, names, entry))
        for names in (mine, theirs)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert [0, 0] == [writer.exitcode for writer in writers]
    assert sorted(mine + theirs) == sorted(baselines.load(SLUG, FILE))


def _write_all(root: Path, names: list[str], entry: Entry) -> None:
    for name in names:
        Baselines(root).write(SLUG, FILE, {name: entry})
