"""
Who recorded a run, and at which revision of the tested project.
"""

from __future__ import annotations

from pathlib import Path

# A baseline updated a minute ago does not change what is measured.
_CODE = (":/", ":(exclude,glob,top)**/baselines/**")


def read_provenance(folder: Path) -> tuple[str, str]:
    """
    Return the git revision ("+dirty" appended if changed) and the git user's name; "" if unknown.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit and _git(folder, "status", "--porcelain", "--untracked-files=no", "--", *_CODE):
        commit += "+dirty"
    return commit, _git(folder, "config", "user.name")


def read_code_state(folder: Path) -> str:
    """
    Return the git revision, and what tells one uncommitted change from another; "" if unknown.

    Files that git does not follow are not looked at.
    """
    import hashlib

    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "diff", "HEAD", "--", *_CODE) if commit else ""
    if not changes:
        return commit
    return f"{commit}+{hashlib.sha256(changes.encode()).hexdigest()[:8]}"


def _git(folder: Path, *words: str) -> str:
    import subprocess

    # Asking for the state must not write it.
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
