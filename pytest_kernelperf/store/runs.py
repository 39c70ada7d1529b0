"""
Recorded runs: JSON lines that hold everything a run measured, so that it can be judged anywhere.

The first line is a header, the last a footer; a run without its footer was cut off and is good up
to there. Numbers are written so that they come back bit for bit. docs/baseline-format.md describes
the file.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import msgspec

from pytest_kernelperf.errors import BaselineFormatError, BaselineWriteError
from pytest_kernelperf.model import Case, Comparison, Independence, Recorded, Verdict
from pytest_kernelperf.store.document import check_version
from pytest_kernelperf.store.files import check_writable, read_bytes

# Versions of the run file; see document.py for what a new number asks for.
#   1  first version
RUN_SCHEMA_VERSION = 1

RUN_KIND = "kernelperf-run"
CURE = "expected a file written by pytest --kernelperf-record; record it again"


@dataclass(frozen=True, slots=True)
class Run:
    """
    One recorded run.

    Attributes:
        name: The file it came from.
        recorded: Measurements in the order measured.
        comparisons: What `kernelperf.compare` measured.
        complete: False if the run was cut off before its end.
        failed: Tests that failed without a record that says so: what raised before it could be
            measured, what did not measure at all.
        independences: What `kernelperf.data_independence` measured.
        excused: Tests that pytest did not fail whatever their records say, and why not: "xfail",
            "skip" or "rerun".
        nodeids: `file::test` of a record to what pytest calls the test, where that differs.
    """

    name: str
    recorded: tuple[Recorded, ...]
    comparisons: tuple[Comparison, ...] = ()
    complete: bool = True
    failed: tuple[str, ...] = ()
    independences: tuple[Independence, ...] = ()
    excused: Mapping[str, str] = field(default_factory=dict)
    nodeids: Mapping[str, str] = field(default_factory=dict)

    def nodeid_of(self, case: Case) -> str:
        """
        Return what pytest called the test of a case.
        """
        place = f"{case.file}::{case.test}"
        return self.nodeids.get(place, place)

    @property
    def tabled(self) -> tuple[Verdict, ...]:
        """
        The verdicts but those of compared callables and inputs, which have tables of their own.
        """
        return (
            *(verdict for record in self.recorded for verdict in record.verdicts),
            *(each.failure for each in self.comparisons if each.failure),
            *(each.failure for each in self.independences if each.failure),
        )

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """
        All verdicts.
        """
        ratios = (ratio for each in self.comparisons for ratio in each.ratios)
        return (
            *self.tabled,
            *(ratio.verdict for ratio in ratios if ratio.verdict),
            *(verdict for each in self.independences for verdict in each.verdicts),
        )


class _Header(msgspec.Struct):
    schema_version: int
    kind: str


class _Line(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    recorded: Recorded | None = None
    comparison: Comparison | None = None
    independence: Independence | None = None
    complete: bool | None = None
    lines: int | None = None
    failed: tuple[str, ...] = ()
    excused: dict[str, str] = {}
    nodeids: dict[str, str] = {}


class RunWriter:
    """
    Writes a run line by line; what was appended survives a crash of the process.

    Args:
        path: The file, replaced if it exists; a name that ends in `.gz` is compressed.

    Raises:
        BaselineWriteError: If the file can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = 0
        self._file: IO[bytes] | None = None
        check_writable(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _opened(path)
        except OSError as error:
            raise self._failed(error) from error
        self._write(msgspec.json.encode({"schema_version": RUN_SCHEMA_VERSION, "kind": RUN_KIND}))

    def append(self, record: Recorded | Comparison | Independence) -> None:
        """
        Write one record and hand it to the operating system.

        Raises:
            BaselineWriteError: If it can't be written; what was written before stays readable.
        """
        data = msgspec.json.encode(_line_of(record))
        try:
            # Not a number has no JSON form: better found here than by who reads the run.
            msgspec.json.decode(data, type=_Line)
        except msgspec.ValidationError as error:
            raise BaselineWriteError(
                f"run {self.path} can't hold this record: {error} (a time that is not a number?); "
                f"nothing was written for it"
            ) from error
        self._write(data)
        self._lines += 1

    def close(
        self,
        complete: bool = True,
        failed: tuple[str, ...] = (),
        *,
        excused: Mapping[str, str] | None = None,
        nodeids: Mapping[str, str] | None = None,
    ) -> None:
        """
        End the run; a second call does nothing.

        Args:
            complete: False: the run was cut off; the footer says so, or is left out if it has
                nothing else to say.
            failed: As in `Run.failed`; goes into the footer.
            excused: As in `Run.excused`, likewise.
            nodeids: As in `Run.nodeids`, likewise.
        """
        if self._file is None:
            return
        footer = _Line(
            complete=complete,
            lines=self._lines,
            failed=failed,
            excused=dict(excused or {}),
            nodeids=dict(nodeids or {}),
        )
        try:
            if complete or footer.failed or footer.excused or footer.nodeids:
                self._write(msgspec.json.encode(footer))
        finally:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError as error:
                raise self._failed(error) from error

    def _write(self, line: bytes) -> None:
        if self._file is None:
            raise BaselineWriteError(f"run {self.path} is closed; open a new RunWriter")
        try:
            self._file.write(line + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> BaselineWriteError:
        return BaselineWriteError(
            f"run {self.path} can't be written: {error.strerror or error}; "
            "make room, or write it elsewhere"
        )


def read_run(path: Path) -> Run:
    """
    Read a recorded run, as far as it goes.

    Raises:
        BaselineFormatError: If there is no such file, or it is damaged anywhere but at its end.
        BaselineVersionError: If a newer program wrote it.
    """
    data = read_bytes(path, "run")
    if data is None:
        raise BaselineFormatError(f"there is no run {path}; {CURE}")
    name = str(path)
    text, whole = _unpacked(data, name) if data[:2] == b"\x1f\x8b" else (data, True)
    *lines, rest = text.split(b"\n")
    # What follows the last line end is a line that was being written when the run was cut off.
    _check_header(lines[0] if lines else rest, name)
    decoded = [_line(line, number, name) for number, line in enumerate(lines[1:], start=2)]
    return _run(decoded, name, whole=whole and not rest)


def is_run(path: Path) -> bool:
    """
    Return whether a file looks like a recorded run rather than a baseline file.
    """
    data = read_bytes(path, "file") or b""
    if data[:2] == b"\x1f\x8b":
        return True
    return f'"{RUN_KIND}"'.encode() in data.partition(b"\n")[0]


def _opened(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.GzipFile(path, "wb"))
    return path.open("wb")


def _unpacked(data: bytes, name: str) -> tuple[bytes, bool]:
    # A compressed run that was cut off lacks the end that `gzip` insists on.
    stream = zlib.decompressobj(wbits=31)
    try:
        text = stream.decompress(data)
    except zlib.error as error:
        raise BaselineFormatError(f"{name} is damaged: {error}; {CURE}") from error
    if stream.unused_data:
        # `cat a.gz b.gz` makes one file for gunzip; the second run would go unjudged.
        raise BaselineFormatError(
            f"{name} holds more than one compressed run; expected one: name each by itself"
        )
    return text, stream.eof


def _check_header(line: bytes, name: str) -> None:
    try:
        header = msgspec.json.decode(line, type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BaselineFormatError(f"{name} is not a recorded run: {error}; {CURE}") from error
    if header.kind != RUN_KIND:
        raise BaselineFormatError(
            f"{name} is not a recorded run: its kind is {header.kind!r}, not {RUN_KIND!r}; {CURE}"
        )
    check_version(header.schema_version, RUN_SCHEMA_VERSION, name)


def _line_of(record: Recorded | Comparison | Independence) -> _Line:
    if isinstance(record, Recorded):
        return _Line(recorded=record)
    if isinstance(record, Comparison):
        return _Line(comparison=record)
    return _Line(independence=record)


def _line(line: bytes, number: int, name: str) -> _Line:
    try:
        return msgspec.json.decode(line, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BaselineFormatError(f"{name}, line {number}, is damaged: {error}; {CURE}") from error


def _run(lines: Iterable[_Line], name: str, *, whole: bool) -> Run:
    recorded: list[Recorded] = []
    comparisons: list[Comparison] = []
    independences: list[Independence] = []
    footer = _Line()
    for line in lines:
        if line.recorded is not None:
            recorded.append(line.recorded)
        if line.comparison is not None:
            comparisons.append(line.comparison)
        if line.independence is not None:
            independences.append(line.independence)
        if line.complete is not None:
            footer = line
    count = len(recorded) + len(comparisons) + len(independences)
    return Run(
        name,
        tuple(recorded),
        tuple(comparisons),
        complete=whole and footer.complete is True and footer.lines == count,
        failed=footer.failed,
        independences=tuple(independences),
        excused=footer.excused,
        nodeids=footer.nodeids,
    )
