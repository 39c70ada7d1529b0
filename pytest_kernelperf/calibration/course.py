"""
The course of a calibration: fresh processes one after the other, until enough or out of time.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from pytest_kernelperf.calibration import processes
from pytest_kernelperf.calibration.folder import Asked, Folder, Manifest, machine_of
from pytest_kernelperf.calibration.order import VARIABLE, Order
from pytest_kernelperf.errors import KernelPerfError
from pytest_kernelperf.gate import Gate
from pytest_kernelperf.model import Recorded, UpdateMode
from pytest_kernelperf.provenance import read_code_state
from pytest_kernelperf.store.runs import Run, read_run
from pytest_kernelperf.units import counted

BUILTIN = Path(__file__).parent / "builtin"
_BUILTIN_TESTS = BUILTIN / "kernels_of_all_kinds.py"

#: Judging what was recorded takes its time too.
_RESERVE_S = 20.0
#: A process may take this much longer than the longest before it.
_SLACK = 1.15
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
            if manifest.machine is None:
                manifest = self._prepare(manifest)
            self._repeat(manifest)

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
            run = self._measured(0, order if sizes else None, pinned)
        except processes.CutOffError as error:
            raise KernelPerfError(
                f"preparing {error}: nothing is recorded; give more --budget-seconds, or fewer "
                "tests or --sizes"
            ) from error
        usable = [_without_targets(each) for each in run.recorded if _is_usable(each)]
        if not usable:
            raise KernelPerfError(self._nothing(0, "no test brought a measurement"))
        Gate(self._folder.baselines).update(usable, UpdateMode())
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
        lost = 0
        while len(numbers := self._folder.numbers()) < self._request.processes:
            number = max(numbers, default=0) + 1
            if not self._has_time():
                self._say(f"out of time: {len(numbers)} of {self._request.processes} processes")
                return
            self._watch_code()
            begin = time.monotonic()
            trouble = self._one(number, manifest)
            lost = lost + 1 if trouble else 0
            if lost == _MOST_LOST:
                raise KernelPerfError(trouble)
            seconds = time.monotonic() - begin
            self._longest_s = max(self._longest_s, seconds)
            self._say(trouble or self._progress(len(numbers) + 1, seconds))

    def _one(self, number: int, manifest: Manifest) -> str:
        """
        Have one process measure; return what went wrong, "" if it counts.
        """
        order = Order(
            str(self._folder.dialled.absolute()),
            record=str(self._folder.part(number, "slowed").absolute()),
            seed=number,
        )
        wanted = order if self._request.asked.sizes else None
        try:
            run = self._measured(number, wanted, _pinned(self._folder))
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

    def _measured(self, number: int, order: Order | None, more: tuple[str, ...]) -> Run:
        """
        Run pytest and return what it recorded.
        """
        record = self._folder.part(number, "unslowed").absolute()
        record.parent.mkdir(parents=True, exist_ok=True)
        arguments = [*_options(), "--kernelperf-record", str(record), *more, *self._tests()]
        environment = {VARIABLE: msgspec.json.encode(order).decode() if order else ""}
        status = processes.run_pytest(arguments, environment, self._log(number), self._left_s())
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

    def _log(self, number: int) -> Path:
        return self._folder.logs / f"process-{number:03}.txt"

    def _nothing(self, number: int, why: str) -> str:
        log = self._log(number)
        return f"process {number} is lost: {why}; the end of {log}:\n{processes.last_lines(log)}"

    def _left_s(self) -> float | None:
        if self._request.budget_s is None:
            return None
        return max(self._request.budget_s - _RESERVE_S - (time.monotonic() - self._begun), 1.0)

    def _has_time(self) -> bool:
        left = self._left_s()
        return left is None or left > max(_SLACK * self._longest_s, 1.0)

    def _progress(self, done: int, seconds: float) -> str:
        total = self._request.processes
        rest_s = (total - done) * seconds
        then = f"; about {_duration(rest_s)} left" if done < total else ""
        return f"process {done} of {total}: {seconds:.1f} s{then}"


def _tested(tests: tuple[str, ...]) -> Path:
    """
    Return the folder of the first test.
    """
    if not tests:
        return BUILTIN
    path = Path(tests[0].partition("::")[0])
    return path if path.is_dir() else path.parent


def _pinned(folder: Folder) -> tuple[str, ...]:
    return ("--kernelperf-baselines", str(folder.baselines.absolute()))


def _options() -> list[str]:
    options = ["-q", "-p", "kernelperf", "-p", "no:cacheprovider", "--maxfail=0", "--kernelperf"]
    options += ["-p", "pytest_kernelperf.calibration.injection"]
    options += ["--kernelperf-processes", "1"]  # the rule is replayed on the records
    return options


def _is_usable(recorded: Recorded) -> bool:
    measurement = recorded.measurement
    kept = any(one.times_us for process in measurement.processes for one in process.rounds)
    return recorded.body_passed and measurement.problem is None and kept


def _without_targets(recorded: Recorded) -> Recorded:
    # A missed target forbids storing, and is no matter of the gate against the baseline.
    return replace(recorded, limits=replace(recorded.limits, targets_us={}))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else counted(round(seconds / 60), "minute")
