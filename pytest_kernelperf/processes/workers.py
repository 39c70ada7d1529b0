"""
The fresh processes of a measuring run, as the run sees them: started, asked, ended.

Each runs the same pytest as this process, collects once, and then measures the tests that it is
asked for, one at a time. What it prints goes to a file of its own; its last words are quoted where
it fails. It lives as long as the connection to it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import IO, Any

import pytest

from pytest_kernelperf.command_line import joined
from pytest_kernelperf.measure.neighbours import begin_turn, end_turns
from pytest_kernelperf.processes.escalation import Answer, Request
from pytest_kernelperf.processes.relocation import Relocation

#: Processes that start together: while they import, they share the cores.
AT_ONCE = max(1, min(6, (os.cpu_count() or 1) // 2))

#: A worker's number, for a conftest that must keep the processes of a run apart.
NUMBER = "KERNELPERF_PROCESS"
#: Answers are awaited in steps, to show progress and to see that a worker died.
_STEP_S = 0.25
#: Given to an idle worker to tear its session down.
_FAREWELL_S = 10.0
#: How much of a worker's output is looked at for its last words.
_TAIL_BYTES = 20_000
#: pytest's own refusal, below a usage that fills the screen; compilers write such lines too.
_REFUSED = re.compile(r"(?:pytest(?:\.main\(\))?|__main__\.py|\S+ -m pytest): error: (.*)")
#: Where pytest was, not what went wrong: what it collected; a file, its tests' marks, a share.
_PROGRESS = re.compile(r"collected \d+ items?\b.*|\S+\.py(?: +[.FEsxX]*)?(?: *\[ *\d+%\])?")
#: What starts the line that says why a process failed, best first.
_TELLING = ("kernelperf: ", "E  ", "ERROR", "Fatal Python error")

#: Where this very plugin lies, which a path of another checkout may not lead to.
_HOME = str(Path(__file__).resolve().parents[2])
#: Not pytest's own: no plugin may take a worker for another kind of run.
_BOOT = (
    "import sys; sys.path[:] = [{home!r}, *{path!r}]\n"
    "import pytest_kernelperf\n"
    "del sys.path[0]\n"
    "from pytest_kernelperf.worker import main\n"
    "sys.exit(main({fd}))\n"
)


@dataclass(frozen=True, slots=True)
class Launch:
    """
    How this pytest was started, so that another can be started alike.

    Attributes:
        args: pytest's arguments.
        plugins: Names of plugins that were given to `pytest.main`.
        folder: Where it was started.
        path: `sys.path` before any test was collected.
        environ: The environment before any test changed it.
        relocation: Set if it runs in another checkout of the project: all of the above does.
        sources: The project's files that the run itself imported, with digests of their texts.
    """

    args: tuple[str, ...]
    plugins: tuple[str, ...]
    folder: str
    path: tuple[str, ...]
    environ: Mapping[str, str]
    relocation: Relocation | None = None
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Collected:
    """
    What a worker found before it was asked anything.

    Attributes:
        measured: Node ids of the tests that would measure.
        unmeasured: Those of the other tests.
        errors: Node id of what could not be collected to the reason.
        strays: What a relocated worker imported from elsewhere.
    """

    measured: tuple[str, ...]
    errors: Mapping[str, str]
    strays: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()


def launch_of(config: pytest.Config, arguments: Sequence[str] | None) -> Launch:
    """
    Return how this pytest was started.

    Args:
        config: Its configuration.
        arguments: Those of the run, where a worker of pytest-xdist does not know them itself.
    """
    given = config.invocation_params
    return Launch(
        args=tuple(joined(map(str, given.args if arguments is None else arguments))),
        plugins=tuple(one for one in given.plugins or () if isinstance(one, str)),
        folder=str(given.dir),
        path=tuple(sys.path),
        # What pytest-cov leaves there would make a worker write the run's coverage file.
        environ={k: v for k, v in os.environ.items() if not k.startswith("COV_CORE_")},
    )


class WorkerLostError(Exception):
    """
    A worker can't be asked any more; the text says why.
    """


class Pool:
    """
    The workers of one run, by number.

    Args:
        launch_of: How each is started, by its number.
        limit_s: Longest wait for a start, and for each case of an answer; 0 = for ever.
    """

    def __init__(self, launch_of: Callable[[int], Launch], limit_s: float) -> None:
        self._launch_of = launch_of
        self._limit_s = limit_s
        self._collected: dict[int, Collected] = {}
        self._alive: dict[int, _Worker] = {}
        self._failed_to_start: dict[int, str] = {}

    def start(self, numbers: Sequence[int], waiting: Callable[[], None]) -> None:
        """
        Start these workers, as far as they do not run, a few at once; return when all are ready.

        One that can't start is not tried again: it would fail for every test, after seconds each.
        """
        known = {*self._alive, *self._failed_to_start}
        new = [number for number in numbers if number not in known]
        try:
            for first in range(0, len(new), AT_ONCE):
                self._start_together(new[first : first + AT_ONCE], waiting)
        except BaseException:  # An interrupt.
            for number in {*new} & {*self._alive}:
                self._end(number)
            raise
        self._take_turn()

    def collected(self, number: int) -> Collected | str:
        """
        Return what a started worker found, or why it could not start.
        """
        return self._collected.get(number) or self._failed_to_start[number]

    def measure(self, number: int, request: Request, waiting: Callable[[], None]) -> Answer:
        """
        Have one worker measure one test; nothing else measures meanwhile.
        """
        worker = self._alive.get(number)
        if worker is None:
            failure = self._failed_to_start.get(number, "it was ended")
            return Answer(failure=failure, is_lost=True)
        try:
            worker.send((request, self._family()))
            # Who has no plans yet has a case at least.
            cases = max(len(request.plans), 1)
            answer = worker.receive(self._limit_s * (1 + cases), waiting)
        except WorkerLostError as lost:
            self._end(number)
            failure = f"worker {number} was lost in {request.nodeid}, {lost}"
            return Answer(failure=failure, is_lost=True)
        except BaseException:  # An interrupt: an answer that comes later is to no question.
            self._end(number)
            raise
        finally:
            self._take_turn()
        assert isinstance(answer, Answer)
        return answer

    def retire(self, number: int) -> None:
        """
        End one worker that has done its part: it may tear its session down.
        """
        worker = self._alive.get(number)
        if worker is not None:
            worker.dismiss()
            worker.wait(_FAREWELL_S)
            self._end(number)
            self._take_turn()

    def stop(self) -> None:
        """
        End all workers: idle ones may tear their sessions down.
        """
        for worker in self._alive.values():
            worker.dismiss()
        until = time.monotonic() + _FAREWELL_S
        try:
            for worker in self._alive.values():
                worker.wait(until - time.monotonic())
        except KeyboardInterrupt:  # Another one: the run ends anyway, and now at once.
            pass
        self.abandon()

    def abandon(self) -> None:
        """
        End all workers at once.
        """
        if self._alive:
            for number in list(self._alive):
                self._end(number)
            self._take_turn()

    def _take_turn(self) -> None:
        # Idle contexts on the card that are the run's own are not foreign, while there are any.
        if self._alive:
            begin_turn(self._family())
        else:
            end_turns()

    def _start_together(self, numbers: Sequence[int], waiting: Callable[[], None]) -> None:
        for number in numbers:
            self._begin(number)
        for number in {*numbers} & {*self._alive}:
            self._await_start(number, waiting)

    def _begin(self, number: int) -> None:
        try:
            self._alive[number] = _Worker(number, self._launch_of(number))
        except OSError as error:
            self._failed_to_start[number] = f"worker {number} could not be started: {error}"

    def _await_start(self, number: int, waiting: Callable[[], None]) -> None:
        try:
            self._collected[number] = self._alive[number].receive(self._limit_s, waiting)
        except WorkerLostError as lost:
            self._failed_to_start[number] = f"worker {number} could not start pytest, {lost}"
            self._end(number)

    def _end(self, number: int) -> None:
        self._alive.pop(number).kill()

    def _family(self) -> tuple[int, ...]:
        return (os.getpid(), *(worker.pid for worker in self._alive.values()))


class _Worker:
    """
    One process with its connection and the file of its output.
    """

    def __init__(self, number: int, launch: Launch) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 closed by `kill`
        self._connection, theirs = Pipe()
        code = _BOOT.format(home=_HOME, path=list(launch.path), fd=theirs.fileno())
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *_interpreter_flags(), "-c", code],
                cwd=launch.folder,
                env={**launch.environ, NUMBER: str(number)},
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                # A group of its own: Ctrl-C is the run's to handle, and what the worker started
                # ends with it.
                start_new_session=True,
            )
        self.send(launch)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: object) -> None:
        """
        Send a message; that nobody reads it shows when the answer is missing.
        """
        with contextlib.suppress(OSError):
            self._connection.send(message)

    def receive(self, limit_s: float, waiting: Callable[[], None]) -> Any:
        """
        Wait for a message.

        Raises:
            WorkerLostError: If it can't come any more, or takes longer than the limit.
        """
        until = time.monotonic() + limit_s if limit_s else float("inf")
        try:
            while not self._connection.poll(_STEP_S):
                waiting()
                if self._process.poll() is not None and not self._connection.poll():
                    break
                if time.monotonic() > until:
                    raise WorkerLostError(f"no answer within {limit_s:g} s{self._quote()}")
            else:
                return self._connection.recv()
        except (EOFError, OSError):
            pass
        raise WorkerLostError(f"{self._end_in_words()}{self._quote()}")

    def dismiss(self) -> None:
        """
        Let it end by itself.
        """
        self.send(None)

    def wait(self, seconds: float) -> None:
        """
        Wait a while for its end.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(seconds, 0.0))

    def kill(self) -> None:
        """
        End it and all that it started.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()
        self._log.close()

    def _end_in_words(self) -> str:
        # A closed connection is seen before the end of the process.
        self.wait(_FAREWELL_S)
        status = self._process.poll()
        if status is None:
            return "it closed its connection"
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exit status {status}"

    def _quote(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(size - _TAIL_BYTES, 0))
        words = gist(self._log.read().decode(errors="replace"))
        return f": {words}" if words else ""


def _interpreter_flags() -> list[str]:
    """
    Return the flags that this interpreter was started with: -O and -X dev change wall times.
    """
    # Private, but what multiprocessing starts its processes with; without it there are no flags.
    flags: Callable[[], list[str]] = getattr(subprocess, "_args_from_interpreter_flags", list)
    return flags()


def gist(text: str) -> str:
    """
    Return the line of a process's output, or of a test's failure, that says what went wrong.
    """
    lines = list(filter(None, map(str.strip, text.splitlines())))
    refused = [found[1] for line in lines if (found := _REFUSED.match(line))]
    if refused:
        return refused[-1]
    for start in _TELLING:
        telling = [line for line in lines if line.startswith(start)]
        if telling:
            return telling[-1].removeprefix("E  ").strip()
    # What pytest wrote before its progress is its header.
    last = itertools.takewhile(lambda line: not _PROGRESS.fullmatch(line), reversed(lines))
    return next(last, "")
