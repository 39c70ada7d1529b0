"""
Recorded runs: everything comes back, and a run that was cut off is good up to there.
"""

from __future__ import annotations

import gzip
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_kernelperf.errors import (
    BaselineFormatError,
    BaselineVersionError,
    BaselineWriteError,
)
from pytest_kernelperf.model import (
    Checks,
    Comparison,
    Discard,
    Interval,
    Limits,
    Problem,
    Ratio,
    Recorded,
    Status,
)
from pytest_kernelperf.store.runs import RunWriter, is_run, read_run

NAMES = ["run.jsonl", "run.json.gz"]


@pytest.fixture
def recorded(make) -> Recorded:
    """
    Return a record in which every field has a value.
    """
    record = make.recorded(Status.REGRESSED, body_passed=False)
    measurement = record.measurement
    process = measurement.processes[0]
    round_ = replace(
        process.rounds[0],
        discarded=(Discard("LOW_CLOCK", 3.9, 1410.5), Discard("LATE", 1 / 3)),
        throttle=("SW_POWER_CAP",),
        foreign_processes=1,
    )
    process = replace(process, rounds=(round_, *process.rounds[1:]))
    limits = Limits((50.0, 99.9), {50.0: 0.1, 99.9: 5.0}, 8.0, {50.0: 1 / 3})
    verdict = replace(
        record.verdicts[0],
        time_us=math.pi,
        interval_us=Interval(1 / 3, 2 / 3),
        change_interval=Interval(-0.1, math.e),
        target_met=False,
    )
    measurement = replace(
        measurement,
        processes=(process,),
        checks=Checks(5, 1e-7, 2, 1),
        notes=("measured without a graph: it synchronises — see docs",),
        problem=Problem("WRONG_OUTPUT", "…"),
    )
    return Recorded(measurement, limits, (verdict,), False)


@pytest.mark.parametrize("name", NAMES)
def test_everything_comes_back_bit_for_bit(tmp_path: Path, recorded: Recorded, name: str) -> None:
    comparison = Comparison(
        "tests/perf/test_x.py::test_x",
        "sdpa",
        (Ratio("flashcore", 1 / 3, 1.25, Interval(1.2, 1.3)),),
        recorded.measurement.case,
        {"flashcore": recorded.measurement},
    )
    writer = RunWriter(tmp_path / name)
    writer.append(recorded)
    writer.append(comparison)
    writer.append(recorded)
    writer.close()
    run = read_run(tmp_path / name)

    assert (recorded, recorded) == run.recorded
    assert (comparison,) == run.comparisons
    assert run.complete
    assert str(tmp_path / name) == run.name


def test_a_name_that_ends_in_gz_is_compressed(tmp_path: Path, recorded: Recorded) -> None:
    for name in NAMES:
        writer = RunWriter(tmp_path / name)
        writer.append(recorded)
        writer.close()

    assert (tmp_path / NAMES[0]).read_bytes() == gzip.decompress((tmp_path / NAMES[1]).read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_what_was_appended_is_there_before_the_run_ends(
    tmp_path: Path, recorded: Recorded, name: str
) -> None:
    """A crash, or the end of a process that hangs, must not cost what was measured before."""
    writer = RunWriter(tmp_path / name)
    writer.append(recorded)
    run = read_run(tmp_path / name)
    writer.close(complete=False)

    assert (recorded,) == run.recorded
    assert not run.complete
    assert not read_run(tmp_path / name).complete


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lost_bytes", [1, 20, 40])
def test_a_cut_off_run_is_good_up_to_there(
    tmp_path: Path, recorded: Recorded, name: str, lost_bytes: int
) -> None:
    path = tmp_path / name
    writer = RunWriter(path)
    for _ in range(3):
        writer.append(recorded)
    writer.close()
    path.write_bytes(path.read_bytes()[:-lost_bytes])
    run = read_run(path)

    assert not run.complete
    assert run.recorded == (recorded,) * len(run.recorded)
    assert 2 <= len(run.recorded) <= 3


def test_a_run_with_a_line_removed_is_not_complete(tmp_path: Path, recorded: Recorded) -> None:
    path = tmp_path / NAMES[0]
    writer = RunWriter(path)
    writer.append(recorded)
    writer.append(recorded)
    writer.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:1], *lines[2:]]))

    assert not read_run(path).complete


@pytest.mark.parametrize("complete", [True, False])
def test_a_footer_says_what_no_record_says_also_of_a_run_that_was_cut_off(
    tmp_path: Path, recorded: Recorded, complete: bool
) -> None:
    writer = RunWriter(tmp_path / "run.jsonl")
    writer.append(recorded)
    excused, nodeids = {"in/test_x.py::test_x": "xfail"}, {"test_x.py::test_x": "in/test_x.py::x"}
    writer.close(complete, ("test_x.py::test_broken",), excused=excused, nodeids=nodeids)
    run = read_run(tmp_path / "run.jsonl")

    assert complete == run.complete
    assert ("test_x.py::test_broken",) == run.failed
    assert (excused, nodeids) == (run.excused, run.nodeids)


def test_a_run_that_was_cut_off_keeps_what_its_tests_were_called(tmp_path: Path) -> None:
    """Else an update would take them for tests of the project around theirs."""
    RunWriter(tmp_path / "run.jsonl").close(False, nodeids={"test_x.py::x": "in/test_x.py::x"})

    assert {"test_x.py::x": "in/test_x.py::x"} == read_run(tmp_path / "run.jsonl").nodeids


def test_a_footer_with_nothing_to_say_has_no_fields_for_it(tmp_path: Path) -> None:
    """So it reads as it did before there were such fields."""
    RunWriter(tmp_path / "run.jsonl").close()

    assert '{"complete":true,"lines":0}' == (tmp_path / "run.jsonl").read_text().splitlines()[-1]


def test_a_test_is_called_as_its_records_say_unless_the_footer_knows_better(
    tmp_path: Path, make
) -> None:
    case = make.case("test_x[8]", file="tests/test_x.py")
    writer = RunWriter(tmp_path / "run.jsonl")
    writer.close(nodeids={"tests/test_x.py::test_x[8]": "sub/tests/test_x.py::test_x[8]"})
    run = read_run(tmp_path / "run.jsonl")

    assert "sub/tests/test_x.py::test_x[8]" == run.nodeid_of(case)
    assert "tests/test_x.py::test_x[9]" == run.nodeid_of(replace(case, test="test_x[9]"))


def test_a_run_names_what_failed_without_a_record(tmp_path: Path, recorded: Recorded) -> None:
    writer = RunWriter(tmp_path / "run.jsonl")
    writer.append(recorded)
    writer.close(failed=("test_x.py::test_broken",))

    assert ("test_x.py::test_broken",) == read_run(tmp_path / "run.jsonl").failed


def test_an_empty_run_is_complete(tmp_path: Path) -> None:
    RunWriter(tmp_path / "run.jsonl").close()
    run = read_run(tmp_path / "run.jsonl")

    assert ((), (), True) == (run.recorded, run.comparisons, run.complete)


def test_closing_twice_is_harmless_and_appending_afterwards_is_not(
    tmp_path: Path, recorded: Recorded
) -> None:
    writer = RunWriter(tmp_path / "run.jsonl")
    writer.close()
    writer.close()

    with pytest.raises(BaselineWriteError, match="is closed"):
        writer.append(recorded)
    assert read_run(tmp_path / "run.jsonl").complete


HEADER = b'{"schema_version":1,"kind":"kernelperf-run"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a recorded run"),
        (b"\x00\xff\x00", "is not a recorded run"),
        (b"[]\n", "is not a recorded run"),
        (b'{"schema_version":1,"kind":"other"}\n', "its kind is 'other'"),
        (b'{"schema_version":1}\n', "is not a recorded run"),
        (HEADER + b"[]\n", "line 2, is damaged"),
        (HEADER + b'{"recorded":{"measurement":3}}\n', r"line 2.*\$\.recorded\.measurement"),
        (HEADER + b'{"recorde\n{"complete":true,"lines":1}\n', "line 2, is damaged"),
        (HEADER + b'{"record":1}\n', "unknown field"),
        (b"\x1f\x8b" + b"no gzip at all", "is damaged"),
    ],
)
def test_a_damaged_run_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)

    with pytest.raises(BaselineFormatError, match=message) as raised:
        read_run(path)
    assert str(path) in str(raised.value)
    assert "record it again" in str(raised.value)


def test_a_newer_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(HEADER.replace(b"1", b"9"))

    with pytest.raises(BaselineVersionError, match=r"schema_version 9.*reads up to 1"):
        read_run(path)


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaselineFormatError, match=re.escape(f"no run {tmp_path / 'x'}")):
        read_run(tmp_path / "x")


def test_a_directory_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(BaselineFormatError, match="is a directory; expected a file: name one"):
        read_run(tmp_path)
    with pytest.raises(BaselineWriteError, match="is a directory; expected a file: name one"):
        RunWriter(tmp_path)


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    """Before anything is measured for it."""
    (tmp_path / "file").touch()

    with pytest.raises(BaselineWriteError, match="can't be written"):
        RunWriter(tmp_path / "file" / "run.jsonl")


def test_a_full_disk_is_named_and_what_was_written_stays(
    tmp_path: Path, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = RunWriter(tmp_path / "run.jsonl")
    writer.append(recorded)

    def full(_data: bytes) -> int:
        raise OSError(28, "No space left on device")

    file, writer._file = writer._file, type("Full", (), {"write": staticmethod(full)})()
    with pytest.raises(BaselineWriteError, match="No space left on device"):
        writer.append(recorded)
    writer._file = file
    writer.close(complete=False)

    assert (recorded,) == read_run(tmp_path / "run.jsonl").recorded


def test_a_time_that_is_not_a_number_is_refused_when_written(tmp_path: Path, make) -> None:
    """JSON has no form for it; found later, the whole run would be unreadable."""
    record = make.recorded(Status.UNCHANGED)
    process = record.measurement.processes[0]
    bad = replace(process, rounds=(replace(process.rounds[0], times_us=(1.0, math.nan)),))
    record = replace(record, measurement=replace(record.measurement, processes=(bad,)))
    writer = RunWriter(tmp_path / "run.jsonl")

    with pytest.raises(BaselineWriteError, match="times_us"):
        writer.append(record)
    writer.close()
    assert read_run(tmp_path / "run.jsonl").complete


def test_runs_are_told_from_baselines(tmp_path: Path, recorded: Recorded) -> None:
    for name in NAMES:
        RunWriter(tmp_path / name).close()
    (tmp_path / "baseline.json").write_text('{\n "schema_version": 1,\n "entries": {}\n}\n')

    assert [True, True, False] == [is_run(tmp_path / n) for n in [*NAMES, "baseline.json"]]


def test_two_compressed_runs_in_one_file_are_refused(tmp_path: Path) -> None:
    """`cat a.gz b.gz`: the first was read, and the second passed over in silence."""
    one = gzip.compress(HEADER + b'{"complete":true,"lines":0}\n')
    (tmp_path / "both.gz").write_bytes(one + one)

    with pytest.raises(BaselineFormatError, match=r"more than one compressed run.*each by itself"):
        read_run(tmp_path / "both.gz")
