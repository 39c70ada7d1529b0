"""
Reading and writing whole files so that nobody ever sees half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from pytest_kernelperf.errors import BaselineFormatError, BaselineWriteError

#: An update holds the lock for well under a second; who waits this long waits for something stuck.
LOCK_TIMEOUT_S = 60.0

_IS_DIRECTORY = "is a directory; expected a file: name one, or move it away"


def read_bytes(path: Path, kind: str) -> bytes | None:
    """
    Return a file's content, or None if there is no such file.

    Args:
        path: The file.
        kind: What messages call it ("baseline file", "run").

    Raises:
        BaselineFormatError: If it is there and can't be read: a directory, no permission.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except IsADirectoryError as error:
        raise BaselineFormatError(f"{kind} {path} {_IS_DIRECTORY}") from error
    except OSError as error:
        raise BaselineFormatError(
            f"{kind} {path} can't be read: {error.strerror or error}; "
            f"make it a file that this user may read"
        ) from error


def path_for(root: Path, folder: str, file: str) -> Path:
    """
    Return where what is stored of a test file lies.

    Args:
        root: The folder of baselines.
        folder: The card's or target's.
        file: The test file, relative to the anchor, with forward slashes.

    Raises:
        BaselineFormatError: If it is no such path.
    """
    relative = PurePosixPath(file)
    if relative.is_absolute() or ".." in relative.parts or not relative.name:
        raise BaselineFormatError(
            f"test file {file!r} is not a path below the anchor; expected one like "
            f"tests/perf/test_attention.py"
        )
    name = relative.stem if relative.suffix == ".py" else relative.name
    return root / folder / relative.with_name(f"{name}.json")


def json_files(folder: Path) -> Iterator[Path]:
    """
    Yield the files below a folder of baselines that end in `.json`.

    Raises:
        BaselineFormatError: If a folder can't be read.
    """
    for path in listed(folder):
        if path.suffix == ".json":
            yield path  # also a folder of that name: reading it says what is wrong
        elif path.is_dir():
            yield from json_files(path)


def listed(folder: Path) -> list[Path]:
    """
    Return what lies in a folder of baselines.

    Raises:
        BaselineFormatError: If it can't be read.
    """
    # Not `rglob`, which passes over what it may not read: a baseline would silently be missing.
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise BaselineFormatError(
            f"baselines folder {folder} can't be read: {error.strerror or error}; "
            f"let this user read it"
        ) from error


def remove(path: Path, root: Path) -> None:
    """
    Remove a file, and the folders below `root` that are empty then.

    Raises:
        BaselineWriteError: If it is read-only.
    """
    check_writable(path)
    path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == root:
            break
        with contextlib.suppress(OSError):  # not empty: it holds other baselines
            folder.rmdir()


def forget(path: Path) -> None:
    """
    Remove what an earlier run wrote, where a link leads to; a device or a pipe stays.

    Raises:
        BaselineWriteError: If it can't be.
    """
    if _is_special(path):
        return
    try:
        Path(os.path.realpath(path)).unlink(missing_ok=True)
    except OSError as error:
        raise BaselineWriteError(
            f"{path} of an earlier run can't be removed: {error.strerror or error}; "
            f"remove it, or name another file"
        ) from error


def check_writable(path: Path) -> None:
    """
    Refuse a place where `write_bytes` would fail, without writing there.

    Raises:
        BaselineWriteError: If the file, or the folder that is or would be its parent, is read-only.
    """
    if _is_special(path) and os.access(path, os.W_OK):
        return
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise BaselineWriteError(f"{path} {_IS_DIRECTORY}")
    if target.exists() and not _may_write(target):
        raise BaselineWriteError(_read_only(path, "the file is read-only"))
    folder = next((f for f in target.parents if f.exists()), None)
    if folder is None or not folder.is_dir() or not _may_write(folder):
        raise BaselineWriteError(_read_only(path, f"folder {folder} can't be written"))


def write_bytes(path: Path, data: bytes) -> None:
    """
    Replace a file by new content, wholly or not at all, also if the machine stops in between.

    A device or a pipe is written to, never replaced: `/dev/null` stays what it is.

    Raises:
        BaselineWriteError: If it can't be; the old file is untouched and nothing is left over.
    """
    check_writable(path)
    # A link is followed: the file that it names is replaced, not the link.
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        if _is_special(path):
            path.write_bytes(data)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        _write_synced(temporary, data, mode)
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise BaselineWriteError(
            f"{path} can't be written: {error.strerror or error}; the file is as it was; "
            f"make room or permit writing there, and try again"
        ) from error
    finally:
        # Also after an interrupt, which is no OSError and goes on to the caller.
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """
    Hold the right to change a file, against other processes of this user on this machine.

    The lock lies in the temporary folder under a digest of the file's path: only baselines live
    beside baselines.

    Raises:
        BaselineWriteError: If another process holds it for longer than `LOCK_TIMEOUT_S`.
    """
    digest = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir()) / f"kernelperf-locks-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = FileLock(folder / f"{digest}.lock")
        lock.acquire(timeout=LOCK_TIMEOUT_S)
    except (Timeout, OSError) as error:
        raise BaselineWriteError(
            f"{path} can't be locked within {LOCK_TIMEOUT_S:g} s ({error}); "
            f"wait for the other process that updates it, and update again"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _is_special(path: Path) -> bool:
    return path.exists() and (_is_stream(path) or not (path.is_file() or path.is_dir()))


def _is_stream(path: Path) -> bool:
    # Also where it leads to a file: others write to that through the same stream.
    named = os.path.abspath(path)
    folder = os.path.realpath(os.path.dirname(named))
    return named in ("/dev/stdout", "/dev/stderr") or folder.startswith(("/proc/", "/dev/fd"))


def _may_write(path: Path) -> bool:
    # The bits too: to root everything is writable, but a read-only file was made so by someone.
    return os.access(path, os.W_OK) and bool(path.stat().st_mode & 0o222)


def _read_only(path: Path, why: str) -> str:
    return (
        f"{path} can't be written: {why}; nothing was changed; "
        f"permit writing there (chmod u+w) or name another place, and try again"
    )


def _write_synced(path: Path, data: bytes, mode: int | None) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        if mode is not None:
            os.chmod(path, mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # Makes the new name durable too. Not every file system can, and the content is safe without.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
