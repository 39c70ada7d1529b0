"""
Runs one fresh pytest process: bounded in time, ended with all that it started, silent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

#: A process that was asked to end gets so long before it is killed.
_GRACE_S = 5.0
_LAST_LINES = 15


class CutOffError(Exception):
    """
    A process did not end in its time, and was ended.
    """


def run_pytest(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path, seconds: float | None
) -> int:
    """
    Run pytest in a fresh process and return its exit status.

    Args:
        arguments: pytest's.
        environment: Variables to set besides this process's own.
        log: Gets everything that it writes.
        seconds: How long it may take; None for ever.

    Raises:
        CutOffError: If it took longer. KeyboardInterrupt passes through. Either way the process and
            its children are gone then.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            # Ctrl-C is for us: we end it, and its children with it.
            start_new_session=True,
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise CutOffError(f"took longer than {seconds:.0f} s") from error
        finally:
            _end(process)


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """
    Let SIGTERM and a closed terminal do what Ctrl-C does: end the process, keep what is recorded.

    Under nohup, which ignores the terminal's end, that stays so.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    handled = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    try:
        for number in handled:
            signal.signal(number, interrupt)
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])


def last_lines(log: Path) -> str:
    """
    Return the end of what a process wrote, indented.
    """
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LAST_LINES:])


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        _signal_group(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    # What it started and left behind is in its group still.
    _signal_group(process.pid, signal.SIGKILL)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
