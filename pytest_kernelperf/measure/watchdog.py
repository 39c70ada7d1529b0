"""
Ends a process whose measured callable never returns, after saying where it hangs.

Two guards, because one is not enough. A daemon thread names the test, prints all stacks, lets the
caller save what it has, says what that is, and exits with status 70. It needs the interpreter lock;
where a callable holds that for ever (a runaway regular expression, an extension in a loop),
`faulthandler`'s own C thread prints the stacks ten seconds later and exits with status 1.

Python has one such C timer, and pytest's `faulthandler_timeout` uses it too. While a watch is on
it is ours; when the last watch ends, pytest's is armed again from the start, if `install` was told
of it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

#: EX_SOFTWARE of sysexits.h: told apart from pytest's own 0-5 and from signals.
EXIT_STATUS = 70
#: What the thread has for its report before the C timer ends the process.
BACKSTOP_S = 10.0
#: And then for saving what the run has.
SAVING_S = 60.0


@dataclass
class _State:
    """
    What the process knows about its watches; one per process, as the C timer is.
    """

    stderr_fd: int | None = None
    faulthandler_timeout_s: float = 0.0
    ends: tuple[float, ...] = ()  # Of the watches that are on, outermost first; time.monotonic.


_STATE = _State()


def install(stderr_fd: int | None = None, faulthandler_timeout_s: float = 0.0) -> None:
    """
    Remember where reports go, while nothing captures the process's standard error.

    Args:
        stderr_fd: Open file descriptor to report to; None = a duplicate of descriptor 2 as it is.
        faulthandler_timeout_s: pytest's setting of that name, armed again after each watch.
    """
    if stderr_fd is not None:
        _STATE.stderr_fd = stderr_fd
    elif _STATE.stderr_fd is None:
        with contextlib.suppress(OSError):  # No standard error at all: reports go nowhere.
            _STATE.stderr_fd = os.dup(2)
    _STATE.faulthandler_timeout_s = faulthandler_timeout_s


@contextlib.contextmanager
def watch(seconds: float, label: str, on_hang: Callable[[], str]) -> Iterator[None]:
    """
    End the process if the body takes longer than this.

    Args:
        seconds: Time the body may take.
        label: What hangs then: the test's id.
        on_hang: Saves what the run has and returns what to say of it; called in the watching
            thread. It has `SAVING_S`.
    """
    install(faulthandler_timeout_s=_STATE.faulthandler_timeout_s)
    body = _Body()
    watcher = threading.Thread(
        target=_wait, args=(body, seconds, label, on_hang), name="kernelperf-watchdog", daemon=True
    )
    outer = _STATE.ends
    _STATE.ends = (*outer, time.monotonic() + seconds)
    _arm()
    watcher.start()
    try:
        yield
    finally:
        if body.has_ended_late():
            # The run is being kept and the process ended: two threads must not do that.
            watcher.join()
        _STATE.ends = outer
        _arm()


class _Body:
    """
    What is watched: it ends in time, or is given up; never both.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._is_given_up = False

    def has_ended_late(self) -> bool:
        """
        Take note of its end; return whether it was given up before.
        """
        with self._lock:
            self._ended.set()
            return self._is_given_up

    def is_given_up_after(self, seconds: float) -> bool:
        """
        Wait for its end, that long at most, and give it up then.
        """
        self._ended.wait(seconds)
        with self._lock:
            self._is_given_up = not self._ended.is_set()
            return self._is_given_up


def _arm() -> None:
    """
    Set the C timer for the innermost watch, or back to pytest's.
    """
    faulthandler.cancel_dump_traceback_later()
    fd = _STATE.stderr_fd
    if fd is None:
        return
    if _STATE.ends:
        left = max(0.0, _STATE.ends[-1] - time.monotonic())
        faulthandler.dump_traceback_later(left + BACKSTOP_S, exit=True, file=fd)
    elif _STATE.faulthandler_timeout_s > 0:
        faulthandler.dump_traceback_later(_STATE.faulthandler_timeout_s, file=fd)


def _wait(body: _Body, seconds: float, label: str, on_hang: Callable[[], str]) -> None:
    if not body.is_given_up_after(seconds):
        return
    try:
        _report(seconds, label)
        _say(on_hang())
    except BaseException:
        _say(f"kernelperf: not all that the run has could be kept:\n{traceback.format_exc()}")
    finally:
        # Not sys.exit: the main thread never gets to see it.
        os._exit(EXIT_STATUS)


def _report(seconds: float, label: str) -> None:
    fd = _STATE.stderr_fd
    if fd is None:
        return
    text = (
        f"\nkernelperf: {label} did not return within {seconds:g} s; ending the process with "
        f"status {EXIT_STATUS}. Expected the callable to return: see below where it waits, or "
        "raise kernelperf_hang_timeout. What earlier tests brought is being kept.\n"
    )
    _say(text)
    with contextlib.suppress(OSError):
        faulthandler.dump_traceback(file=fd, all_threads=True)
    faulthandler.dump_traceback_later(SAVING_S, exit=True, file=fd)


def _say(text: str) -> None:
    if _STATE.stderr_fd is None:
        return
    with contextlib.suppress(OSError), open(_STATE.stderr_fd, "wb", closefd=False) as stream:
        stream.write(text.encode())
