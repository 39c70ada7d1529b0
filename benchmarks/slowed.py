"""
Makes a copy of flashcore_kernels whose attention does extra arithmetic: a real slowdown, sized.

    python benchmarks/slowed.py FOLDER '{"512x32 +3 %": [512, 32, 0.0275, 0.0325]}'

writes the copy and, in FOLDER/sizes.json, the chain's length for each wanted slowdown.

Every program walks a chain of dependent multiply-adds before it stores its tile. The chain's length
is a run-time number per shape (carried by `causal_offset`, which a call without a mask does not
read), so that a size can be dialled in without compiling again. The package's own code is patched
as text: if a patched line is gone, this fails instead of measuring an unslowed kernel.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "flashcore_kernels"
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


@dataclass(frozen=True)
class Wanted:
    """
    A slowdown of one shape, as a relative change that `compare` must confirm.
    """

    seqlen: int
    batch: int
    low: float
    high: float


@dataclass(frozen=True)
class Found:
    """
    A length of the chain, with the change that `compare` measured and its interval.
    """

    steps: int
    change: float
    low: float
    high: float


def size(folder: Path, wanted: Mapping[str, Wanted]) -> dict[str, dict[str, float]]:
    """
    Write the slowed copy and size what is wanted, in a process that leaves the card free after.

    What FOLDER/sizes.json has already is kept.

    Returns:
        Name to the fields of `Found`.
    """
    asked = json.dumps({name: list(asdict(one).values()) for name, one in wanted.items()})
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    subprocess.run(
        [sys.executable, __file__, str(folder), asked],
        env=os.environ | {"PYTHONPATH": path.rstrip(os.pathsep)},
        timeout=300,
        check=True,
    )
    found: dict[str, dict[str, float]] = json.loads((folder / "sizes.json").read_text())
    return {name: found[name] for name in wanted}


def dial(measure: Callable[[int], Found], low: float, high: float) -> Found:
    """
    Find a length whose slowdown lies between two bounds, by secants over what was measured.

    Args:
        measure: Measures a length. Only odd ones are asked for: Triton compiles multiples of 16
            and 1 anew, with other machine code.
        low: Least relative change.
        high: Largest.

    Returns:
        The first that lies there; after eight attempts the nearest.
    """
    aim = (low + high) / 2
    points = [(0.0, 0.0)]
    # 100 steps cost about 7 % at 512x32 and 10 % at 128x8 on an H100.
    steps = _odd(1200 * aim)
    tried: list[Found] = []
    for _attempt in range(8):
        tried.append(found := measure(steps))
        if low <= found.change <= high:
            return found
        points.append((float(steps), found.change))
        steps = _odd(_next_steps(points, aim))
    return min(tried, key=lambda one: abs(one.change - aim))


def _next_steps(points: list[tuple[float, float]], aim: float) -> float:
    below = max((one for one in points if one[1] < aim), key=lambda one: one[1])
    above = min((one for one in points if one[1] >= aim), key=lambda one: one[1], default=None)
    if above is None:
        return below[0] * min(4.0, max(1.3, aim / max(below[1], 0.004))) + 2
    share = (aim - below[1]) / max(above[1] - below[1], 1e-9)
    return below[0] + share * (above[0] - below[0])


def _odd(steps: float) -> int:
    return max(3, 2 * round((steps - 1) / 2) + 1)


def _compared(module: ModuleType, seqlen: int, batch: int, steps: int) -> Found:
    """
    Measure slowed against unslowed, interleaved.
    """
    import torch

    from flashcore_kernels import attention
    from pytest_kernelperf import analysis, measure
    from pytest_kernelperf.model import Case

    module.extra_steps[(seqlen, batch)] = steps
    module.forget_launches()
    generator = torch.Generator(device="cuda").manual_seed(42)
    shape = (batch, 8, seqlen, 64)
    inputs = tuple(torch.randn(shape, device="cuda", generator=generator).half() for _ in range(3))
    subjects = {
        "attention": measure.Subject(attention, inputs),
        "slowed": measure.Subject(module.attention, inputs),
    }
    case = Case("evidence", f"{seqlen}x{batch}", "", "device", "cold", "paced")
    _, measured = measure.measure_interleaved(subjects, measure.Job(case, rounds=5, samples=10))
    result = analysis.compare("size", measured, "attention")
    if result.problem is not None:
        raise SystemExit(f"{seqlen}x{batch} with {steps} steps: {result.problem.message}")
    ratio = next(one for one in result.ratios if one.name == "slowed")
    interval = ratio.speedup_interval
    return Found(steps, 1 / ratio.speedup - 1, 1 / interval.high - 1, 1 / interval.low - 1)


def main(folder: Path, wanted: Mapping[str, list[Any]]) -> None:
    """
    Write the copy; size what is not in FOLDER/sizes.json yet.
    """
    make(folder)
    module = load(folder)
    path = folder / "sizes.json"
    sizes = json.loads(path.read_text()) if path.exists() else {}
    for name in [each for each in wanted if each not in sizes]:
        one = Wanted(*wanted[name])
        found = dial(partial(_compared, module, one.seqlen, one.batch), one.low, one.high)
        sizes[name] = asdict(found)
        print(f"{name}: {found.steps} steps, {found.change:+.2%}", flush=True)
        path.write_text(json.dumps(sizes, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
