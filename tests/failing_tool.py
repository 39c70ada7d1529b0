"""
A disassembler that Triton finds and that reads nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

SCRIPT = """#!/bin/sh
[ "$1" = --version ] && echo "release 12.8, V12.8.55" && exit 0
echo "no such format" >&2
exit 1
"""


def failing_tool(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Have Triton's processes take it for nvdisasm.
    """
    tool = folder / "nvdisasm"
    tool.write_text(SCRIPT)
    tool.chmod(0o755)
    monkeypatch.setenv("TRITON_NVDISASM_PATH", str(tool))
