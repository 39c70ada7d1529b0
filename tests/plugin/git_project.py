"""
A project under git for each test of `--kernelperf-against`, and what there is to ask of it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

RECORD = ("--kernelperf-record", "run.jsonl", "--kernelperf-json", "run.json")
CONFTEST = """
from pathlib import Path

from pytest_kernelperf.stash import ROOM
from scripted_room import ScriptedRoom

def pytest_configure(config):
    config.stash[ROOM] = ScriptedRoom(Path(__file__).parent)
"""


class Repository:
    """
    A project under git whose kernels are as fast as its files say, at each commit.
    """

    def __init__(self, project) -> None:
        self.project = project
        self.path = project.path
        source = Path(__file__).with_name("scripted_room.py").read_text()
        (self.path / "scripted_room.py").write_text(source)
        (self.path / "conftest.py").write_text(CONFTEST)
        (self.path / ".gitignore").write_text("__pycache__/\n.pytest_cache/\nrun.js*\nown cache\n")
        project.write()
        project.times(10.0)
        self.git("init", "-q", "-b", "main")
        self.commit("first")

    def git(self, *words: str, folder: Path | None = None) -> str:
        """
        Run git in the project.
        """
        who = ("-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "protocol.file.allow=always")
        return subprocess.run(
            ["git", *who, *words],
            cwd=folder or self.path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def commit(self, message: str) -> str:
        """
        Commit all files; return the hash.
        """
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def run(self, revision: str, *args: str) -> pytest.RunResult:
        """
        Measure against a revision.
        """
        return self.project.run("--kernelperf", "--kernelperf-against", revision, *RECORD, *args)

    def state(self) -> tuple[str, str, str]:
        """
        Return what a run must leave alone.
        """
        index = (self.path / ".git" / "index").read_bytes().hex()
        return (
            self.git("--no-optional-locks", "status", "--porcelain"),
            self.git("rev-parse", "HEAD"),
            index,
        )

    def worktrees(self) -> int:
        """
        Return how many worktrees git knows, the first one included.
        """
        return self.git("worktree", "list", "--porcelain").count("worktree ")


def left_in(folder: Path) -> list[str]:
    """
    Return what runs left in a folder of temporary files.
    """
    return [each.name for each in folder.iterdir() if each.name.startswith("kernelperf")]


def verdicts(repository: Repository) -> dict[str, str]:
    """
    Return each test's status and reason.
    """
    document = repository.project.read_json()
    return {
        one["test"]: f"{each['status']} {each['reason']}"
        for one in document["measurements"]
        for each in one["verdicts"]
    }


def with_submodule(repository: Repository, origin: Path) -> None:
    """
    Give the project a submodule that its test reads.
    """
    repository.git("init", "-q", folder=origin)
    (origin / "data.txt").write_text("data")
    repository.git("add", "-A", folder=origin)
    repository.git("commit", "-q", "-m", "data", folder=origin)
    repository.git("submodule", "--quiet", "add", str(origin), "sub")
    (repository.path / "test_it.py").write_text(
        "from pathlib import Path\n"
        "def test_kernel(kernelperf):\n"
        "    assert (Path(__file__).parent / 'sub' / 'data.txt').read_text() == 'data'\n"
        "    kernelperf(abs, -1)\n"
    )
    repository.commit("a submodule")
