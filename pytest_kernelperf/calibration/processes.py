"""
Fresh pytest processes: bounded in time, ended with all that they started, silent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import Pipe
from pathlib import Path
from types import FrameType

#: A process that was asked to end gets so long before it is killed.
_GRACE_S = 5.0
_LAST_LINES = 15


class CutOffError(Exception):
    """
    A process did not end in its time, and was ended.
    """


class FreshPytest:
    """
    One fresh pytest process, which collects and then waits for its turn.

    Args:
        arguments: pytest's.
        environment: Variables to set besides this process's own, by the descriptor of the
            connection at whose other end the process awaits its turn (turn.py).
        log: Gets everything that it writes.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Callable[[int], Mapping[str, str]], log: Path
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._connection, theirs = Pipe()
        with theirs, log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment(theirs.fileno())},
                pass_fds=(theirs.fileno(),),
                # Ctrl-C is for us: we end it, and its children with it.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """
        Its number.
        """
        return self._process.pid

    def await_ready(self, seconds: float | None) -> None:
        """
        Wait until it has collected, or has ended before that, or so many seconds are over.
        """
        self._connection.poll(seconds)

    def run(self, seconds: float | None, family: Sequence[int]) -> int:
        """
        Give it its turn, wait for its end and that of all that it started; return its exit status.

        Args:
            seconds: How long it may take; None for ever.
            family: Processes that may be on the card and only wait.

        Raises:
            CutOffError: If it took longer.
        """
        with contextlib.suppress(OSError):  # It ended before; its status tells.
            self._connection.send(tuple(family))
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise CutOffError(f"took longer than {seconds:.0f} s") from error
        finally:
            self.end()

    def end(self) -> None:
        """
        End it and all that it started, unless that was done.
        """
        if self._connection.closed:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                break
            _signal_group(self.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        # What it started and left behind is in its group still.
        _signal_group(self.pid, signal.SIGKILL)
        self._connection.close()


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


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
