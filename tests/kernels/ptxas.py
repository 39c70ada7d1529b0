"""What ptxas says of a kernel, which Triton asks for and does not pass on."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from triton.backends.nvidia.compiler import get_ptxas


def words(ptx: str, capability: int = 90) -> str:
    """
    Assemble once more, for what is printed meanwhile.

    Args:
        ptx: A kernel.
        capability: Of the card, 90 for a Hopper.
    """
    tool = get_ptxas(capability)  # Triton's own choice: Triton 3.9 has a newer one from sm_90 on.
    arch = f"sm_{capability}a" if capability >= 90 else f"sm_{capability}"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx)
        command = [tool.path, "-v", f"-arch={arch}", str(source), "-o", os.devnull]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def assembled(ptx: str, capability: int = 90) -> dict[str, Any]:
    """
    Return registers per thread, bytes on the stack and spilled, and warnings of serial products.

    Args:
        ptx: A kernel.
        capability: Of the card, 90 for a Hopper.
    """
    log = words(ptx, capability)
    return {
        "registers": int(re.findall(r"Used (\d+) registers", log)[0]),
        "stack_bytes": max(int(n) for n in re.findall(r"(\d+) bytes stack", log)),
        "spill_bytes": max(int(n) for n in re.findall(r"(\d+) bytes spill", log)),
        "warnings": re.findall(r"C75\d\d", log),  # C7510 and its kin
    }
