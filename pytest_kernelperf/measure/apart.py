"""
Asks probes in a process of their own, so that none can hang or crash the one that asks.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from pytest_kernelperf.model import Answer

#: A killed process that is stuck in the driver does not end; nobody waits for it longer.
_END_S = 5.0


@dataclass(frozen=True)
class Probe:
    """
    One question to a machine.

    Attributes:
        name: What its answer is filed under.
        look: Gets the device's index, returns facts by name; a function of a module.
        limit_s: How long it may take, with the imports that it is the first to need.
    """

    name: str
    look: Callable[[int], Mapping[str, Any]]
    limit_s: float = 60.0


def ask_apart(
    probes: Sequence[Probe], device: int, *, progress: Callable[[str], None]
) -> dict[str, Answer]:
    """
    Ask one probe after the other; one that hangs or crashes costs its own answer only.

    Args:
        probes: In order.
        device: torch's index of the CUDA device.
        progress: Told each probe's name before it is waited for.

    Returns:
        An answer per probe, by name.
    """
    answers: dict[str, Answer] = {}
    while len(answers) < len(probes):
        # A process that lost a probe is given up, and the rest is asked in a new one.
        answers.update(_ask_some(probes[len(answers) :], device, progress))
    return answers


def _ask_some(
    probes: Sequence[Probe], device: int, progress: Callable[[str], None]
) -> dict[str, Answer]:
    # Spawned: a forked process can't use CUDA if this one already has.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer_all, args=(theirs, probes, device), daemon=True)
    child.start()
    theirs.close()
    answers: dict[str, Answer] = {}
    try:
        for probe in probes:
            progress(probe.name)
            answer = _received(ours, probe.limit_s)
            if answer is None:
                child.join(_END_S)
                answers[probe.name] = Answer(failure=_ended(child.exitcode, probe.limit_s))
                break
            answers[probe.name] = answer
    finally:
        child.kill()
        child.join(_END_S)
        ours.close()
    return answers


def _received(ours: Connection, limit_s: float) -> Answer | None:
    try:
        answer = ours.recv() if ours.poll(limit_s) else None
    except (EOFError, OSError):
        return None
    assert answer is None or isinstance(answer, Answer)
    return answer


def _ended(status: int | None, limit_s: float) -> str:
    if status is None:
        return f"no answer within {limit_s:g} s"
    cause = f"signal {-status}" if status < 0 else f"exit status {status}"
    return f"its process ended with {cause}"


def _answer_all(theirs: Connection, probes: Sequence[Probe], device: int) -> None:
    """
    Answer, in the other process, whatever each probe raises.
    """
    _be_silent()
    for probe in probes:
        try:
            answer = Answer(dict(probe.look(device)))
        except Exception as error:
            lines = str(error).strip().splitlines()
            answer = Answer(failure=": ".join([type(error).__name__, *lines[:1]]))
        theirs.send(answer)


def _be_silent() -> None:
    # Libraries warn and drivers complain there, in the middle of what doctor says.
    with contextlib.suppress(OSError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
