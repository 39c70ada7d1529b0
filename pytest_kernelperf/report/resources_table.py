"""
What the compiler made of kernels, as a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pytest_kernelperf.model import Compiled, Kernel
from pytest_kernelperf.report.layout import Column, Row, draw, drop

_COLUMNS = (
    Column("kernel", folds=True),
    Column("target"),
    Column("registers", right=True),
    Column("spills", right=True),
    Column("shared", right=True),
    Column("warps/SM", right=True),
    Column("tensor core", right=True),
    Column("special", right=True),
    Column("local", right=True),
    Column("global", right=True),
    Column("all", right=True),
    Column("code"),
)
_NARROWING = tuple(map(drop, ("special", "global", "all", "local", "target", "tensor core")))
#: Digits of the machine code's hash that tell two kernels of one table apart.
_SHOWN = 8


def resources_table(compiled: Sequence[Compiled], *, width: int, color: bool) -> str:
    """
    Return a row per kernel, equal ones once; below it their constants, warnings and notes.
    """
    kernels = list({(one.target, one.code_hash): one for one in _kernels(compiled)}.values())
    rows = [_row(one) for one in kernels]
    lines = [draw(_COLUMNS, rows, _NARROWING, width=width, color=color)] if rows else []
    lines += [f"{one.name} {one.code_hash[:_SHOWN]}: {_constants(one)}" for one in kernels]
    lines += [f"{one.name} {one.code_hash[:_SHOWN]}: {w}" for one in kernels for w in one.warnings]
    compilers = dict.fromkeys(one.compiler for one in kernels if one.compiler)
    lines += [f"compiled by {compiler}" for compiler in compilers]
    lines += [f"{one.case.label} [{one.case.l2}]: {note}" for one in compiled for note in one.notes]
    return "\n".join(lines)


def kernels_table(
    target: str, file: str, kernels: Mapping[str, Sequence[Kernel]], *, width: int, color: bool
) -> str:
    """
    Return what is stored of a test file's compiled kernels: a row per test and kernel.

    Args:
        target: Whose folder it is.
        file: The test file, relative to the anchor.
        kernels: By test, as `load_resources` returns them.
        width: Columns of the terminal.
        color: Whether escape codes may be used.
    """
    columns = (Column("test", folds=True), *(each for each in _COLUMNS if each.title != "target"))
    narrowing = tuple(each for each in _NARROWING if each.title != "target")
    rows = []
    for test in sorted(kernels):
        for index, kernel in enumerate(kernels[test]):
            name, _target, *rest = _row(kernel).cells
            rows.append(Row(("" if index else test, name, *rest)))
    return draw(columns, rows, narrowing, title=f"{file} on {target}", width=width, color=color)


def _kernels(compiled: Iterable[Compiled]) -> Iterator[Kernel]:
    for one in compiled:
        yield from one.kernels


def _row(kernel: Kernel) -> Row:
    mix = kernel.instructions
    counts = ("tensor_core", "special_function", "local_memory", "global_memory", "total")
    numbers = (kernel.registers, kernel.spills, kernel.shared_bytes, kernel.warps_per_sm)
    cells = (
        kernel.name,
        kernel.target,
        *(_number(number) for number in numbers),
        *(_number(mix.get(name)) for name in counts),
        kernel.code_hash[:_SHOWN],
    )
    return Row(cells)


def _number(number: int | None) -> str:
    return "-" if number is None else str(number)


def _constants(kernel: Kernel) -> str:
    return ", ".join(f"{name}={value}" for name, value in kernel.constants.items())
