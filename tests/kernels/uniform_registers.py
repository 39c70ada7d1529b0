"""
Find instructions of a compiled kernel that read a uniform register nothing has written.

ptxas 12.8 (Triton 3.6) can lose the copy of a wgmma descriptor that two matrix products share: the
kernel then multiplies from a garbage address in shared memory, and dies of an illegal access or
computes nonsense. In the machine code this shows as a read that some path reaches unwritten.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_LABEL = re.compile(r"^(\.L_x_\d+):")
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(.*?)\s*;")
_PARTS = re.compile(r"(?:(@!?U?P\w+)\s+)?(\S+)\s*(.*)")
_UNIFORM = re.compile(r"(g?desc\[)?\bUR(\d+)\b")


def reads_unwritten(sass: str) -> list[tuple[str, list[int]]]:
    """
    Return the instructions that may read unwritten uniform registers.

    Args:
        sass: What `nvdisasm -c` prints for one kernel.

    Returns:
        (instruction, numbers of the registers) in program order; empty if all is well.
    """
    code, labels = _parse(sass)
    access = [_access(instruction) for instruction in code]
    written: list[set[int] | None] = [None] * len(code)  # on every path that leads here
    written[0] = set()
    work = [0]
    while work:
        i = work.pop()
        after = (written[i] or set()) | access[i][1]
        for j in _successors(i, code, labels):
            before = written[j]
            known = after if before is None else before & after
            if known != before:
                written[j] = set(known)
                work.append(j)
    return [
        (code[i], sorted(access[i][0] - known))
        for i, known in enumerate(written)
        if known is not None and access[i][0] - known
    ]


def disassemble(cubin: Path) -> str:
    """Return the machine code of a compiled kernel as text."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    run = subprocess.run([str(tool), "-c", str(cubin)], capture_output=True, text=True, check=True)
    return run.stdout


def _parse(sass: str) -> tuple[list[str], dict[str, int]]:
    """Return the instructions, and the index of the one that each label stands before."""
    code: list[str] = []
    labels: dict[str, int] = {}
    for line in sass.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(code)
        elif instruction := _INSTRUCTION.match(line):
            code.append(instruction[1])
    return code, labels


def _access(instruction: str) -> tuple[set[int], set[int]]:
    """Return the uniform registers that an instruction reads, and those that it writes."""
    parts = _PARTS.fullmatch(instruction)
    assert parts is not None, instruction
    name, operands = parts[2], parts[3].split(",")
    computes = name.startswith(("U", "R2UR", "S2UR"))
    # Of a wgmma's four registers the first two describe A, unless A is in registers itself.
    unused = 2 if re.match(r" *R\d+, *R\d+, *gdesc", parts[3]) else 0
    reads: set[int] = set()
    writes: set[int] = set()
    for position, operand in enumerate(operands):
        for descriptor, number in _UNIFORM.findall(operand):
            first = int(number)
            result = computes and position == 0
            if descriptor == "gdesc[":
                reads.update(range(first + unused, first + 4))
            elif descriptor or (computes and ".64" in name):
                (writes if result else reads).update((first, first + 1))
            else:
                wide = result and ".WIDE" in name
                (writes if result else reads).update(range(first, first + 1 + wide))
    return reads, writes


def _successors(i: int, code: list[str], labels: dict[str, int]) -> list[int]:
    """Return where control may go after an instruction."""
    parts = _PARTS.fullmatch(code[i])
    assert parts is not None, code[i]
    predicate, name, operands = parts.groups()
    following = [i + 1] if i + 1 < len(code) else []
    if name == "EXIT":
        return following if predicate else []
    target = re.search(r"`\((\.L_x_\d+)\)", operands)
    if name.startswith("BRA") and target:
        # BRA may also carry a second condition, as in `BRA UP0, ...`.
        conditional = predicate or operands.lstrip().startswith(("U", "P", "!"))
        return [labels[target[1]], *(following if conditional else [])]
    return following
