"""
The course of a calibration: fresh processes measure one after the other, until enough or too late.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from pytest_kernelperf.calibration import processes
from pytest_kernelperf.calibration.folder import Asked, Folder, Manifest, machine_of
from pytest_kernelperf.calibration.order import VARIABLE, Order
from pytest_kernelperf.errors import KernelPerfError
from pytest_kernelperf.gate import Gate
from pytest_kernelperf.model import Recorded, UpdateMode
from pytest_kernelperf.processes.workers import AT_ONCE
from pytest_kernelperf.provenance import read_code_state
from pytest_kernelperf.store.runs import Run, read_run
from pytest_kernelperf.units import counted

BUILTIN = Path(__file__).parent / "builtin"
_BUILTIN_TESTS = BUILTIN / "kernels_of_all_kinds.py"

#: Judging what was recorded takes its time too.
_RESERVE_S = 20.0
#: A process may take this much longer than the longest before it.
_SLACK = 1.15
#: A process that takes so much longer than any before it hangs.
_HANG_FACTOR, _HANG_S = 5.0, 60.0
#: After so many lost processes in a row something is wrong that more of them won't mend.
_MOST_LOST = 2
#: pytest's exit status where tests ran: all passed, or some failed.
_RAN = (0, 1)


@dataclass(frozen=True, slots=True)
class Request:
    """
    What the user asked for.

    Attributes:
        asked: What the folder is about.
        processes: How many fresh processes to have in all.
        budget_s: Longest time to spend; None for as long as it takes.
        plans_of: Folder of a calibration whose plans are used; None: the plans of the tests'
            baselines, or new ones.
    """

    asked: Asked
    processes: int
    budget_s: float | None = None
    plans_of: Path | None = None


@dataclass(frozen=True, slots=True)
class _Started:
    """
    A process that was started, and its number.
    """

    number: int
    process: processes.FreshPytest


class Course:
    """
    Runs the processes of one calibration.

    Args:
        folder: Where their records are kept; what is there already is not measured again.
        request: What is wanted.
        say: Gets a line of progress.
    """

    def __init__(self, folder: Folder, request: Request, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._request = request
        self._say = say
        self._begun = time.monotonic()
        self._start_s = 0.0
        self._longest_s = 0.0
        self._code = ""

    def run(self) -> None:
        """
        Measure what is missing.

        Raises:
            KernelPerfError: If nothing can be measured as asked. KeyboardInterrupt passes through;
                what was recorded before is kept.
        """
        manifest = self._with_code(self._folder.begin(self._request.asked))
        self._folder.clear()
        with processes.terminate_as_interrupt():
            try:
                if manifest.machine is None:
                    manifest = self._prepare(manifest)
                self._repeat(manifest)
            finally:
                self._folder.clear()

    def _prepare(self, manifest: Manifest) -> Manifest:
        """
        Plan and size in a process of its own, which is no candidate.
        """
        sizes = self._request.asked.sizes
        self._say("preparing: " + ("plans, and slowdowns of known size" if sizes else "plans"))
        shutil.rmtree(self._folder.baselines, ignore_errors=True)
        order = Order(str(self._folder.dialled.absolute()), sizes)
        plans = self._request.plans_of
        pinned = _pinned(Folder(plans)) if plans else ()
        try:
            with self._started({0: order}, pinned) as (process,):
                run = self._measured(process)
        except processes.CutOffError as error:
            raise _too_short(f"preparing {error}") from error
        usable = [_unjudged(each) for each in run.recorded if _is_usable(each)]
        if not usable:
            raise KernelPerfError(self._nothing(0, "no test brought a measurement"))
        kept = Gate(self._folder.baselines).update(usable, UpdateMode())
        if refused := [each for each in kept.changes if each.action == "refused"]:
            raise KernelPerfError(f"{refused[0].case.key}: no plan to pin: {refused[0].sentence}")
        self._folder.clear()
        return self._folder.check_machine(manifest, machine_of(usable[0].measurement))

    def _with_code(self, manifest: Manifest) -> Manifest:
        """
        Note the state of the code that the folder is begun with.
        """
        if manifest.machine is None:
            manifest = msgspec.structs.replace(
                manifest, code=read_code_state(_tested(self._request.asked.tests))
            )
            self._folder.write_manifest(manifest)
        self._code = manifest.code
        return manifest

    def _watch_code(self) -> None:
        """
        Say once if the code is not what was measured before: what changed would be a false alarm.
        """
        code = read_code_state(_tested(self._request.asked.tests))
        if self._code and code != self._code:
            self._say(
                f"warning: {self._folder.path} was measured at {self._code}, and the code is at "
                f"{code or 'no known revision'} now: a change of the tested code counts as a false "
                "alarm, or hides one; go back to it, or begin anew with another --out"
            )
        self._code = code

    def _repeat(self, manifest: Manifest) -> None:
        begun, before, lost = time.monotonic(), len(self._folder.numbers()), 0
        while orders := self._next_orders():
            if not self._has_time(self._start_s + self._longest_s):
                break
            with self._started(orders, _pinned(self._folder)) as started:
                family = [each.process.pid for each in started]
                for process in started:
                    if not self._has_time(self._longest_s):
                        break
                    self._watch_code()
                    since = time.monotonic()
                    trouble = self._one(process, manifest, family)
                    lost = lost + 1 if trouble else 0
                    if lost == _MOST_LOST:
                        raise KernelPerfError(trouble)
                    now = time.monotonic()
                    self._longest_s = max(self._longest_s, now - since)
                    self._say(trouble or self._progress(now - since, before, now - begun))
        done, wanted = len(self._folder.numbers()), self._request.processes
        if not done:
            raise _too_short("no process came to its end in time")
        if done < wanted:
            self._say(f"out of time: {done} of {wanted} processes")

    def _next_orders(self) -> dict[int, Order]:
        """
        Return the orders of the processes that start next, by number; none if all are recorded.
        """
        numbers = self._folder.numbers()
        first = max(numbers, default=0) + 1
        count = min(self._request.processes - len(numbers), AT_ONCE)
        return {number: self._order(number) for number in range(first, first + count)}

    def _order(self, number: int) -> Order:
        slowed = self._folder.part(number, "slowed").absolute()
        record = str(slowed) if self._request.asked.sizes else ""
        return Order(str(self._folder.dialled.absolute()), record=record, seed=number)

    def _one(self, process: _Started, manifest: Manifest, family: Sequence[int]) -> str:
        """
        Have one process measure; return what went wrong, "" if it counts.
        """
        number = process.number
        try:
            run = self._measured(process, family)
        except processes.CutOffError as error:
            return f"process {number} is lost: it {error}"
        except KernelPerfError as error:
            return str(error)
        usable = [each for each in run.recorded if _is_usable(each)]
        if not usable:
            return self._nothing(number, "no test brought a measurement")
        self._folder.check_machine(manifest, machine_of(usable[0].measurement))
        self._folder.keep(number)
        return ""

    @contextlib.contextmanager
    def _started(
        self, orders: Mapping[int, Order], more: tuple[str, ...]
    ) -> Iterator[tuple[_Started, ...]]:
        """
        Start processes together, and have them ready; end all that still run when left.
        """
        since = time.monotonic()
        started: list[_Started] = []
        try:
            for number, order in orders.items():
                started.append(_Started(number, self._start(number, order, more)))
            for each in started:
                each.process.await_ready(self._limit_s())
            self._start_s = max(self._start_s, time.monotonic() - since)
            yield tuple(started)
        finally:
            for each in started:
                each.process.end()

    def _start(self, number: int, order: Order, more: tuple[str, ...]) -> processes.FreshPytest:
        record = self._record(number)
        record.parent.mkdir(parents=True, exist_ok=True)
        arguments = [*_options(), f"--kernelperf-record={record}", *more, *self._tests()]

        def environment(turn: int) -> dict[str, str]:
            return {
                VARIABLE: msgspec.json.encode(msgspec.structs.replace(order, turn=turn)).decode()
            }

        return processes.FreshPytest(arguments, environment, self._log(number))

    def _measured(self, started: _Started, family: Sequence[int] = ()) -> Run:
        """
        Let a process measure, and return what it recorded.
        """
        number, record = started.number, self._record(started.number)
        status = started.process.run(self._limit_s(), (os.getpid(), *family))
        run = read_run(record) if record.exists() else None
        if status not in _RAN or run is None or not run.complete:
            raise KernelPerfError(self._nothing(number, f"pytest ended with status {status}"))
        return run

    def _tests(self) -> list[str]:
        tests = self._request.asked.tests
        if tests:
            return list(tests)
        return [
            *("--rootdir", str(BUILTIN), "-c", str(BUILTIN / "pytest.ini")),
            *("--import-mode", "importlib", str(_BUILTIN_TESTS)),
        ]

    def _record(self, number: int) -> Path:
        return self._folder.part(number, "unslowed").absolute()

    def _log(self, number: int) -> Path:
        return self._folder.logs / f"process-{number:03}.txt"

    def _nothing(self, number: int, why: str) -> str:
        log = self._log(number)
        return f"process {number} is lost: {why}; the end of {log}:\n{processes.last_lines(log)}"

    def _left_s(self) -> float | None:
        if self._request.budget_s is None:
            return None
        return max(self._request.budget_s - _RESERVE_S - (time.monotonic() - self._begun), 1.0)

    def _limit_s(self) -> float | None:
        """
        Return how long a process may take now: what is left, and not for ever if others ended.
        """
        limits = [self._left_s()]
        if self._longest_s:
            limits.append(_HANG_S + _HANG_FACTOR * (self._start_s + self._longest_s))
        return min((each for each in limits if each is not None), default=None)

    def _has_time(self, seconds: float) -> bool:
        left = self._left_s()
        return left is None or left > max(_SLACK * seconds, 1.0)

    def _progress(self, seconds: float, before: int, elapsed_s: float) -> str:
        done, total = len(self._folder.numbers()), self._request.processes
        rest_s = (total - done) * elapsed_s / (done - before)
        then = f"; about {_duration(rest_s)} left" if done < total else ""
        return f"process {done} of {total}: {seconds:.1f} s{then}"


def _too_short(why: str) -> KernelPerfError:
    return KernelPerfError(
        f"{why}: nothing is recorded; give more --budget-seconds, or fewer tests or --sizes"
    )


def _tested(tests: tuple[str, ...]) -> Path:
    """
    Return the folder of the first test.
    """
    if not tests:
        return BUILTIN
    path = Path(tests[0].partition("::")[0])
    return path if path.is_dir() else path.parent


def _pinned(folder: Folder) -> tuple[str, ...]:
    return (f"--kernelperf-baselines={folder.baselines.absolute()}",)


def _options() -> list[str]:
    options = ["-q", "-p", "kernelperf", "-p", "no:cacheprovider", "--maxfail=0", "--kernelperf"]
    options += ["-p", "pytest_kernelperf.calibration.injection"]
    options += ["--kernelperf-processes", "1"]  # the rule is replayed on the records
    return options


def _is_usable(recorded: Recorded) -> bool:
    return recorded.body_passed and recorded.measurement.is_usable


def _unjudged(recorded: Recorded) -> Recorded:
    # A missed target forbids storing, and so does a baseline that was there when it was judged: the
    # one that lent the plan, which is another folder's.
    return replace(recorded, limits=replace(recorded.limits, targets_us={}), verdicts=())


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else counted(round(seconds / 60), "minute")
