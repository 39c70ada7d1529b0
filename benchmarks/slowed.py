"""
Makes a copy of flashcore_kernels whose attention does extra arithmetic: a real slowdown, sized.

Every program walks a chain of dependent multiply-adds before it stores its tile. The chain's length
is a run-time number per shape (carried by `causal_offset`, which a call without a mask does not
read), so that a size can be dialled in without compiling again. The package's own code is patched
as text: if a patched line is gone, this fails instead of measuring an unslowed kernel.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from types import ModuleType

SOURCE = Path(__file__).resolve().parents[1] / "flashcore_kernels"
NAME = "flashcore_slowed"

#: (file, line as it stands, what replaces it); `{steps}` walk on the row's sum and change nothing.
_CHAIN = """    chain = {row_sum}
    for _step in range({steps}):
        chain = chain * 0.999 + 0.001
    {row_sum} = {lang}.where(chain == 12345.678, 1.0, {row_sum})
"""
_SOLO_LINE = "    inverse = 1.0 / gl.where(row_sum == 0.0, 1.0, row_sum)\n"
_PLAIN_LINE = "    acc = acc * (1.0 / tl.where(row_sum == 0.0, 1.0, row_sum))[:, None]\n"
_LAUNCH_LINE = (
    "        *inputs, target, lse, scale=scale, causal=causal, causal_offset=causal_offset\n"
)
_PATCHES = (
    (
        "forward_hopper_solo.py",
        _SOLO_LINE,
        _CHAIN.format(row_sum="row_sum", steps="problem.offset", lang="gl") + _SOLO_LINE,
    ),
    (
        "forward.py",
        _PLAIN_LINE,
        _CHAIN.format(row_sum="row_sum", steps="causal_offset", lang="tl") + _PLAIN_LINE,
    ),
    (
        "attention.py",
        _LAUNCH_LINE,
        "        *inputs, target, lse, scale=scale, causal=causal,\n"
        "        causal_offset=causal_offset if causal else _extra_steps(q),\n",
    ),
)
_TAIL = """

#: (seqlen_q, batch) -> length of the chain; set before the first call of that shape.
extra_steps = {}


def _extra_steps(q):
    return extra_steps.get((q.shape[2], q.shape[0]), 0)


def forget_launches():
    plans.clear()
"""


def make(folder: Path) -> None:
    """
    Write the slowed copy into a folder.

    Args:
        folder: Where `flashcore_slowed/` will stand; replaced if it is there.

    Raises:
        ValueError: If a line to patch is not there exactly once.
    """
    target = folder / NAME
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(SOURCE, target, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in _PATCHES:
        text = (target / file).read_text()
        if text.count(old) != 1:
            raise ValueError(f"{file}: expected once, found {text.count(old)} times: {old!r}")
        (target / file).write_text(text.replace(old, new))
    attention = target / "attention.py"
    attention.write_text(attention.read_text() + _TAIL)
    init = target / "__init__.py"
    init.write_text(init.read_text() + "\nfrom .attention import extra_steps, forget_launches\n")
    op = target / "op.py"
    # Two packages can't register one name.
    op.write_text(
        op.read_text()
        .replace("flashcore::", "flashcore_slowed::")
        .replace('"flashcore"', f'"{NAME}"')
    )


def load(folder: Path) -> ModuleType:
    """
    Import the slowed copy from a folder that `make` wrote.
    """
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(NAME)
