"""
Tells whether the project's imported files are those that another process of the run imported.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path


def read_sources(root: Path) -> dict[str, str]:
    """
    Return each imported Python file of the project to a digest of its text.

    Args:
        root: What lies below it is the project's, except installed packages.
    """
    found: dict[str, str] = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(".py") and _is_below(Path(file), root):
            try:
                found[file] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
            except OSError:  # It is gone: generated, imported and removed.
                continue
    return found


def edited(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """
    Return the name of a file that both have imported, with another text; "" if there is none.
    """
    changed = (file for file, digest in now.items() if before.get(file, digest) != digest)
    return next((Path(file).name for file in changed), "")


def _is_below(path: Path, root: Path) -> bool:
    return path.is_relative_to(root) and "site-packages" not in path.parts
