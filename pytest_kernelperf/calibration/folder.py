"""
A calibration's folder: what was asked, what each process recorded, so that it can go on later.

    manifest.json            what was asked, and the card and versions that measured
    baselines/               the plan that every process pins
    slowdowns.json           the dialled slowdowns
    process-001.run.gz       one process, unslowed
    process-001.slowed.run.gz
    logs/                    what pytest said
    lock                     held while processes are recorded here
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from pytest_kernelperf.calibration.order import Diallings, read_diallings
from pytest_kernelperf.errors import KernelPerfError
from pytest_kernelperf.model import Measurement, Recorded, Round
from pytest_kernelperf.store.files import read_bytes, write_bytes
from pytest_kernelperf.store.runs import Run, RunWriter, read_run

#: 1: the first.
SCHEMA_VERSION = 1
_NUMBER = re.compile(r"process-(\d+)\.run\.gz")


class Asked(msgspec.Struct, frozen=True):
    """
    What one calibration is about; a folder holds one.

    Attributes:
        program: Version of pytest_kernelperf.
        tests: As given; empty for the built-in set.
        sizes: Injected slowdowns, as fractions.
    """

    program: str
    tests: tuple[str, ...] = ()
    sizes: tuple[float, ...] = ()


class Machine(msgspec.Struct, frozen=True):
    """
    What measured.
    """

    device_name: str
    card: str
    versions: dict[str, str]


class Manifest(msgspec.Struct, frozen=True):
    """
    What stands in manifest.json.

    Attributes:
        machine: Of the first record; None before it.
        code: State of the tested code when the folder was begun; "" if unknown.
    """

    schema_version: int
    asked: Asked
    machine: Machine | None = None
    code: str = ""


class Folder:
    """
    One calibration's folder.

    Args:
        path: It need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.baselines = path / "baselines"
        self.dialled = path / "slowdowns.json"
        self.logs = path / "logs"

    def begin(self, asked: Asked) -> Manifest:
        """
        Begin the folder, or go on with one that was begun with the same.

        Raises:
            KernelPerfError: If it holds another calibration.
        """
        manifest = self.read_manifest()
        if manifest is None:
            manifest = Manifest(SCHEMA_VERSION, asked)
            self.write_manifest(manifest)
        for what in ("program", "tests", "sizes"):
            there, now = getattr(manifest.asked, what), getattr(asked, what)
            if there != now:
                raise KernelPerfError(
                    f"{self.path} holds a calibration with other {what}: {_text(there)} there, "
                    f"{_text(now)} now; expected the same to go on with it; ask for the same, or "
                    "name another folder with --out"
                )
        return manifest

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """
        Hold the folder against other calibrations, which would remove what is being recorded.

        Raises:
            KernelPerfError: If another one records there.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / "lock")
            lock.acquire(timeout=0)
        except (Timeout, OSError) as error:
            raise KernelPerfError(
                f"another calibration records in {self.path} ({error}); wait for its end, or name "
                "another folder with --out"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def read_manifest(self) -> Manifest | None:
        """
        Return the manifest, or None where the folder was not begun.

        Raises:
            KernelPerfError: If it can't be read, or is newer than this program.
        """
        path = self.path / "manifest.json"
        data = read_bytes(path, "manifest")
        if data is None:
            return None
        try:
            manifest = msgspec.json.decode(data, type=Manifest)
        except msgspec.MsgspecError as error:
            raise KernelPerfError(
                f"{path} can't be read: {error}; expected what `kernelperf calibrate` wrote; "
                "name another folder with --out"
            ) from error
        if manifest.schema_version > SCHEMA_VERSION:
            raise KernelPerfError(
                f"{path} has schema version {manifest.schema_version}; this program reads up to "
                f"{SCHEMA_VERSION}: update pytest-kernelperf, or name another folder with --out"
            )
        return manifest

    def write_manifest(self, manifest: Manifest) -> None:
        """
        Replace the manifest.
        """
        write_bytes(self.path / "manifest.json", msgspec.json.encode(manifest))

    def check_machine(self, manifest: Manifest, machine: Machine) -> Manifest:
        """
        Note the machine of the first record, and hold every later one to it.

        Raises:
            KernelPerfError: If it is another card, or other versions.
        """
        if manifest.machine is None:
            manifest = msgspec.structs.replace(manifest, machine=machine)
            self.write_manifest(manifest)
        there = manifest.machine
        assert there is not None
        for what, before, now in _differences(there, machine):
            raise KernelPerfError(
                f"{self.path} was measured with another {what}: {before} there, {now} now; one "
                "folder holds one card and one set of versions; name another with --out (several "
                "are taken together with --summarise)"
            )
        return manifest

    def numbers(self) -> list[int]:
        """
        Return the numbers of the processes that are recorded, ascending.
        """
        names = (_NUMBER.fullmatch(path.name) for path in self.path.glob("process-*.run.gz"))
        return sorted(int(match[1]) for match in names if match)

    def unslowed(self, number: int) -> Path:
        """
        Return the record of one process.
        """
        return self.path / f"process-{number:03}.run.gz"

    def slowed(self, number: int) -> Path:
        """
        Return the record of one process's slowed measurements.
        """
        return self.path / f"process-{number:03}.slowed.run.gz"

    def part(self, number: int, name: str) -> Path:
        """
        Return where a process records before it has come to its end.
        """
        return self.path / "part" / f"{number:03}.{name}.gz"

    def keep(self, number: int) -> Run:
        """
        Take a finished process's records; the unslowed one last, which makes it count.

        Raises:
            KernelPerfError: If they can't be read or written.
        """
        run = read_run(self.part(number, "unslowed"))
        slowed = self.part(number, "slowed")
        if slowed.exists():
            _write_compact(read_run(slowed), self.part(number, "compact"))
            self.part(number, "compact").replace(self.slowed(number))
        _write_compact(run, self.part(number, "compact"))
        self.part(number, "compact").replace(self.unslowed(number))
        self.clear(number)
        return run

    def clear(self, number: int | None = None) -> None:
        """
        Remove what one process, or every one, left that did not come to its end.
        """
        for path in (self.path / "part").glob("*" if number is None else f"{number:03}.*"):
            path.unlink(missing_ok=True)

    def runs(self) -> Iterator[tuple[Run, Run | None]]:
        """
        Yield each process's record and that of its slowed measurements.
        """
        for number in self.numbers():
            slowed = self.slowed(number)
            yield read_run(self.unslowed(number)), read_run(slowed) if slowed.exists() else None

    def diallings(self) -> Diallings:
        """
        Return the dialled slowdowns by case.
        """
        return read_diallings(self.dialled)


def machine_of(measurement: Measurement) -> Machine:
    """
    Return what measured.
    """
    environment = measurement.processes[0].environment
    return Machine(environment.device_name, environment.card, dict(environment.versions))


def compact(recorded: Recorded) -> Recorded:
    """
    Return a record with fewer digits and without what its own run said: a third of the size.

    Times keep seven digits, which moves a percentile by less than a ten-thousandth of a percent.
    """

    def short(one: Round) -> Round:
        return replace(
            one,
            times_us=tuple(float(f"{time:.7g}") for time in one.times_us),
            clock_mhz=tuple(round(clock, 1) for clock in one.clock_mhz),
            slack_us=tuple(round(slack, 1) for slack in one.slack_us),
            first_us=tuple(float(f"{time:.7g}") for time in one.first_us),
        )

    processes = tuple(
        replace(each, rounds=tuple(map(short, each.rounds)))
        for each in recorded.measurement.processes
    )
    return replace(
        recorded, measurement=replace(recorded.measurement, processes=processes), verdicts=()
    )


def _write_compact(run: Run, path: Path) -> None:
    writer = RunWriter(path)
    for recorded in run.recorded:
        writer.append(compact(recorded))
    writer.close(failed=run.failed, excused=run.excused, nodeids=run.nodeids)


def _differences(there: Machine, now: Machine) -> Iterator[tuple[str, str, str]]:
    for what in ("device_name", "card"):
        before, after = getattr(there, what), getattr(now, what)
        if before != after:
            yield what.replace("_", " "), before, after
    for name in sorted({*there.versions, *now.versions}):
        before, after = there.versions.get(name, "none"), now.versions.get(name, "none")
        if before != after:
            yield f"version of {name}", before, after


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value) or "none"
    return str(value)
