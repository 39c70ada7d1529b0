"""
A revision of the tested project, checked out beside it by git; the working tree is only read.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_kernelperf.errors import RevisionError

#: Asks for the commit at which the working branch left the default branch.
MERGE_BASE = "merge-base"
#: Where the default branch may be, best first.
_DEFAULT_BRANCHES = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
_GITLINK = re.compile(r"160000 commit ([0-9a-f]+)\t(.*)")
_FOLDER = "kernelperf-against"
#: What git tells its hooks, one of which may have started this run.
_OF_ONE_REPOSITORY = frozenset(
    {
        *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR"),
        *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE"),
    }
)


@dataclass(frozen=True, slots=True)
class Revision:
    """
    What is compared with.

    Attributes:
        asked: As the user wrote it.
        commit: The full hash.
        repository: The working tree that it belongs to.
    """

    asked: str
    commit: str
    repository: Path

    @property
    def short(self) -> str:
        """
        The first seven digits.
        """
        return self.commit[:7]

    @property
    def label(self) -> str:
        """
        What messages call it.
        """
        return self.short if self.commit.startswith(self.asked) else f"{self.short} ({self.asked})"


@dataclass
class Checkout:
    """
    A revision's files in a temporary folder, until `remove`.
    """

    revision: Revision
    folder: Path = field(default_factory=Path)
    _is_there: bool = field(default=False, init=False)

    def make(self) -> None:
        """
        Check the revision out, with its submodules as far as they are here.

        Raises:
            RevisionError: If git can't, or a submodule's commit is not here.
        """
        remove_abandoned(self.revision.repository)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_owner()}-{os.getpid()}-")) / "tree"
        self._is_there = True
        try:
            # No hook of the user's may take this for a checkout of theirs.
            _git(
                self.revision.repository,
                *("-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--detach"),
                *("--quiet", str(self.folder), self.revision.commit),
            )
            _fill_submodules(self.revision.repository, self.folder, self.revision.commit)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """
        Leave nothing of it behind; a second call does nothing.
        """
        if not self._is_there:
            return
        with _undisturbed():
            self._is_there = False
            _remove(self.revision.repository, self.folder)


def find_revision(asked: str, folder: Path) -> Revision:
    """
    Return the commit that a name means in the repository around a folder.

    Raises:
        RevisionError: If there is no git, no repository or no such commit, or a submodule has
            changes that no commit names.
    """
    repository = Path(_git(folder, "rev-parse", "--show-toplevel"))
    commit = _merge_base(repository) if asked == MERGE_BASE else _commit(repository, asked)
    if not commit:
        raise RevisionError(
            f"there is no revision {asked!r} in {repository}: expected a commit, branch, tag or "
            f"{MERGE_BASE!r}{_if_shallow(repository)}"
        )
    _refuse_dirty_submodules(repository)
    return Revision(asked, commit, repository)


def remove_abandoned(repository: Path) -> None:
    """
    Remove what runs on this machine left that were killed before they could.
    """
    ours = re.compile(rf"{re.escape(_owner())}-(\d+)-")
    for line in _git(repository, "worktree", "list", "--porcelain").splitlines():
        folder = Path(line.removeprefix("worktree "))
        found = ours.match(folder.parent.name) if line.startswith("worktree ") else None
        if found and not _is_running(int(found[1])):
            _remove(repository, folder)


def _remove(repository: Path, folder: Path) -> None:
    shutil.rmtree(folder.parent, ignore_errors=True)
    # Not `worktree prune`: it would forget the user's own worktrees on a disk that is not mounted.
    with contextlib.suppress(RevisionError):
        _git(repository, "worktree", "remove", "--force", "--force", str(folder))


def _commit(repository: Path, name: str) -> str:
    words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return _answer(repository, *words)


def _merge_base(repository: Path) -> str:
    branches = [name for name in _DEFAULT_BRANCHES if _commit(repository, name)]
    if not branches:
        raise RevisionError(
            f"{MERGE_BASE}: {repository} has no default branch: expected one of "
            f"{', '.join(_DEFAULT_BRANCHES)}; fetch it, or name a commit"
        )
    base = _answer(repository, "merge-base", "HEAD", branches[0])
    if not base:
        raise RevisionError(
            f"{MERGE_BASE}: HEAD and {branches[0]} have no common commit here"
            f"{_if_shallow(repository)}"
        )
    return base


def _if_shallow(repository: Path) -> str:
    if _answer(repository, "rev-parse", "--is-shallow-repository") != "true":
        return ""
    return "; this is a shallow clone, which may lack it: git fetch --unshallow"


def _refuse_dirty_submodules(repository: Path) -> None:
    state = _git(repository, "status", "--porcelain=v2", "--ignore-submodules=none", "-uno")
    for line in state.splitlines():
        kind, _, rest = line.partition(" ")
        fields = rest.split(" ", 7)
        # The second is S, then c for another commit, m for changed files, u for new ones.
        if kind == "1" and fields[1][0] == "S" and fields[1][2] == "M":
            raise RevisionError(
                f"submodule {fields[7]} has uncommitted changes, so no commit says what is "
                "measured: commit them there, or put them away (git stash), and run again"
            )


def _fill_submodules(repository: Path, folder: Path, commit: str) -> None:
    """
    Copy each submodule's files from the one in the working tree, without a network.
    """
    for line in _git(repository, "ls-tree", "-r", "-z", commit).split("\0"):
        found = _GITLINK.fullmatch(line)
        if found is None:
            continue
        sub, name = found[1], found[2]
        source = repository / name
        if not (source / ".git").exists() or not _commit(source, sub):
            raise RevisionError(
                f"submodule {name} is not here at {sub[:7]}, which {commit[:7]} uses: run `git "
                f"submodule update --init {name}`, and `git fetch` in it"
            )
        with tempfile.TemporaryDirectory() as scratch:
            # An index of its own: that of the working tree stays as it is.
            own = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
            _git(source, "read-tree", sub, environ=own)
            _git(source, "checkout-index", "-a", "-f", f"--prefix={folder / name}/", environ=own)
        _fill_submodules(source, folder / name, sub)


def plain_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """
    Return an environment without what would make git work on another repository.
    """
    return {key: value for key, value in environ.items() if key not in _OF_ONE_REPOSITORY}


def _answer(folder: Path, *words: str) -> str:
    """
    Return what git answers; "" if it says no.
    """
    try:
        return _git(folder, *words)
    except RevisionError:
        return ""


def _git(folder: Path, *words: str, environ: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            # Asking for the state must not write it.
            env={
                **plain_environ(os.environ),
                "LC_ALL": "C",
                "GIT_OPTIONAL_LOCKS": "0",
                **(environ or {}),
            },
            start_new_session=True,  # Ctrl-C is the run's to handle.
        )
    except OSError as error:
        raise RevisionError(
            f"git can't be started ({error.strerror}): expected it on the PATH, since "
            "--kernelperf-against checks a revision out with it"
        ) from error
    if done.returncode:
        said = done.stderr.strip() or f"exit status {done.returncode}"
        raise RevisionError(f"git {' '.join(words[:2])} failed in {folder}: {said}")
    return done.stdout.strip()


def _owner() -> str:
    # A folder's maker is looked for on this machine alone.
    return f"{_FOLDER}-{re.sub(r'[^A-Za-z0-9]+', '_', socket.gethostname())}"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """
    Let no second Ctrl-C stop the tidying up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        for one in before:
            signal.signal(one, signal.SIG_IGN)
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
