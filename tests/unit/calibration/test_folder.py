"""
A calibration's folder: going on, and refusing what does not belong there.
"""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import pytest

from pytest_kernelperf.analysis import percentile_us
from pytest_kernelperf.calibration.folder import Asked, Folder, Machine, compact, machine_of
from pytest_kernelperf.errors import KernelPerfError
from pytest_kernelperf.store.runs import RunWriter, read_run

ASKED = Asked("0.1.0", ("tests/perf",), (0.02,))
MACHINE = Machine("NVIDIA H100", "GPU-1", {"torch": "2.11", "driver": "580"})


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path / "out")


def write_part(folder: Folder, number: int, name: str, *recorded) -> None:
    writer = RunWriter(folder.part(number, name))
    for each in recorded:
        writer.append(each)
    writer.close()


def test_the_same_calibration_goes_on(folder):
    begun = folder.check_machine(folder.begin(ASKED), MACHINE)

    assert begun == folder.begin(ASKED)
    assert MACHINE == folder.begin(ASKED).machine


@pytest.mark.parametrize(
    ("what", "other"),
    [("program", "0.2.0"), ("tests", ()), ("sizes", (0.01, 0.02))],
)
def test_another_calibration_in_the_folder_is_refused(folder, what, other):
    folder.begin(ASKED)

    with pytest.raises(KernelPerfError, match=f"with other {what}: .* name another folder"):
        folder.begin(msgspec.structs.replace(ASKED, **{what: other}))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"card": "GPU-2"}, "another card: GPU-1 there, GPU-2 now"),
        ({"device_name": "A100"}, "another device name: NVIDIA H100 there, A100 now"),
        (
            {"versions": {"torch": "2.12", "driver": "580"}},
            "version of torch: 2.11 there, 2.12 now",
        ),
        ({"versions": {"torch": "2.11"}}, "version of driver: 580 there, none now"),
    ],
)
def test_another_machine_is_refused_by_name(folder, changes, named):
    manifest = folder.check_machine(folder.begin(ASKED), MACHINE)

    with pytest.raises(KernelPerfError, match=named):
        folder.check_machine(manifest, msgspec.structs.replace(MACHINE, **changes))


def test_two_calibrations_can_not_record_in_one_folder(folder):
    with (
        folder.held(),
        pytest.raises(KernelPerfError, match=r"another calibration records in .*--out"),
        Folder(folder.path).held(),
    ):
        raise AssertionError

    with Folder(folder.path).held():
        pass


def test_a_manifest_from_the_future_is_refused(folder):
    manifest = folder.begin(ASKED)
    folder.write_manifest(msgspec.structs.replace(manifest, schema_version=99))

    with pytest.raises(KernelPerfError, match="schema version 99"):
        folder.begin(ASKED)


def test_a_damaged_manifest_is_refused(folder):
    folder.begin(ASKED)
    (folder.path / "manifest.json").write_text("{")

    with pytest.raises(KernelPerfError, match=r"manifest\.json can't be read"):
        folder.begin(ASKED)


def test_a_process_counts_once_it_came_to_its_end(folder, make):
    folder.begin(ASKED)
    write_part(folder, 1, "unslowed", make.recorded())
    write_part(folder, 1, "slowed", make.recorded())
    assert [] == folder.numbers()

    folder.keep(1)
    write_part(folder, 2, "unslowed", make.recorded())
    folder.clear()

    assert [1] == folder.numbers()
    assert [] == list((folder.path / "part").iterdir())
    ((unslowed, slowed),) = folder.runs()
    assert unslowed.complete
    assert slowed.complete


def test_a_process_without_slowed_measurements_has_no_record_of_them(folder, make):
    folder.begin(ASKED)
    write_part(folder, 1, "unslowed", make.recorded())
    folder.keep(1)

    ((_, slowed),) = folder.runs()

    assert slowed is None


def test_records_are_kept_small_and_true(folder, make):
    recorded = make.recorded(level_us=math.pi)
    write_part(folder, 1, "unslowed", *[recorded] * 3)
    before = folder.part(1, "unslowed").stat().st_size
    whole = read_run(folder.part(1, "unslowed")).recorded[0].measurement

    folder.keep(1)

    assert folder.unslowed(1).stat().st_size < 0.7 * before
    kept = read_run(folder.unslowed(1)).recorded[0].measurement
    assert percentile_us(whole.processes, 50) == pytest.approx(
        percentile_us(kept.processes, 50), rel=1e-6
    )


def test_what_a_record_says_of_its_tests_is_kept(folder, make):
    said = {"excused": {"b/test_x.py::test_b": "skip"}, "nodeids": {"test_x.py::b": "b/test_x.py"}}
    writer = RunWriter(folder.part(1, "unslowed"))
    writer.append(make.recorded())
    writer.close(failed=("test_x.py::test_a",), **said)

    folder.keep(1)

    kept = read_run(folder.unslowed(1))
    assert ("test_x.py::test_a",) == kept.failed
    assert said == {"excused": kept.excused, "nodeids": kept.nodeids}


def test_compacting_keeps_everything_but_digits_and_verdicts(make):
    recorded = make.recorded()
    short = compact(recorded)

    assert () == short.verdicts
    assert recorded.limits == short.limits
    assert short == compact(short)
    assert replace(recorded.measurement, processes=()) == replace(short.measurement, processes=())


def test_the_machine_is_that_of_the_record(make):
    machine = machine_of(make.measurement())

    assert ("NVIDIA H100 80GB HBM3", "GPU-1") == (machine.device_name, machine.card)
    assert "2.11.0" == machine.versions["torch"]
