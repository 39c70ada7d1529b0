"""
`kernelperf compare A B`: two states side by side.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pytest_kernelperf.model import Problem, Status
from pytest_kernelperf.store.runs import RunWriter


@pytest.fixture
def five(tmp_path, make):
    """
    Return a function that writes a run of five processes of the attention test.
    """

    def write(name, level_us=3.2):
        path = tmp_path / f"{name}.jsonl"
        writer = RunWriter(path)
        for index in range(5):
            writer.append(make.recorded(name=f"{name}{index}", level_us=level_us))
        writer.close(True)
        return path

    return write


def test_equal_runs_pass(kernelperf, five) -> None:
    result = kernelperf("compare", five("a"), five("b"))

    assert 0 == result.exit_code
    assert "UNCHANGED" in result.output
    assert "kernelperf: 1 judged" == result.output.splitlines()[-1]


@pytest.mark.parametrize("level_us", [3.2, 3.7])
def test_records_of_too_few_processes_are_told_how_to_record_more(
    kernelperf, make, tmp_path, level_us
) -> None:
    """
    No update completes a record.
    """
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, level in zip(paths, (3.2, level_us), strict=True):
        writer = RunWriter(path)
        writer.append(make.recorded(name=path.stem, level_us=level))
        writer.close(True)

    result = kernelperf("compare", *paths)

    assert "--kernelperf-processes 3)" in result.output.replace("\n", " ").replace("  ", " ")


def test_a_slower_second_run_fails_with_its_change_and_interval(kernelperf, five) -> None:
    result = kernelperf("compare", five("a"), five("b", 3.36))

    assert 1 == result.exit_code
    assert "REGRESSED" in result.output
    assert re.search(r"\+5\.\d\d % \(\+", result.output)
    assert "  Why: " in result.output


def test_one_process_that_measured_five_times_is_one(kernelperf, five) -> None:
    """All ids of a process begin alike."""
    result = kernelperf("compare", five("a"), five("b" * 31, 3.36))

    assert 0 == result.exit_code
    assert "ONE_PROCESS" in result.output


def test_the_order_matters(kernelperf, five) -> None:
    result = kernelperf("compare", five("a", 3.36), five("b"))

    assert 0 == result.exit_code
    assert "IMPROVED" in result.output


def test_a_run_is_compared_with_baselines_and_they_with_it(kernelperf, baseline, five) -> None:
    slower = five("b", 3.36)
    root = baseline.parents[3]
    forward = kernelperf("compare", root, slower)
    back = kernelperf("compare", slower, baseline)

    assert [1, 0] == [forward.exit_code, back.exit_code]
    assert "REGRESSED" in forward.output
    assert "IMPROVED" in back.output


def test_a_target_is_not_looked_at(kernelperf, tmp_path, make, five) -> None:
    path = tmp_path / "b.jsonl"
    writer = RunWriter(path)
    recorded = make.recorded(name="b")
    writer.append(replace(recorded, limits=replace(recorded.limits, targets_us={50.0: 0.1})))
    writer.close(True)

    assert 0 == kernelperf("compare", five("a"), path).exit_code


def test_what_one_side_has_alone_is_named(kernelperf, five, tmp_path, make) -> None:
    path = tmp_path / "b.jsonl"
    writer = RunWriter(path)
    for index, test in enumerate(["test_attention[8]", "test_new"]):
        recorded = make.recorded(name=f"b{index}")
        case = replace(recorded.measurement.case, test=test)
        writer.append(replace(recorded, measurement=replace(recorded.measurement, case=case)))
    writer.close(True)

    result = kernelperf("compare", five("a"), path)

    assert 0 == result.exit_code
    assert f"kernelperf: only in {path}: " in result.output
    assert "test_new" in result.output


def test_runs_of_different_card_models_are_refused(kernelperf, five, tmp_path, make) -> None:
    recorded = make.recorded(name="b")
    (process,) = recorded.measurement.processes
    gpu = replace(process.environment.gpu, name="NVIDIA Other")
    moved = replace(process, environment=replace(process.environment, gpu=gpu))
    path = tmp_path / "b.jsonl"
    writer = RunWriter(path)
    writer.append(replace(recorded, measurement=replace(recorded.measurement, processes=(moved,))))
    writer.close(True)

    result = kernelperf("compare", five("a"), path)

    assert 2 == result.exit_code
    assert "different card models" in result.output
    assert "nvidia-other" in result.output


def test_runs_that_share_no_case_are_refused(kernelperf, five, tmp_path, make) -> None:
    recorded = make.recorded(name="b")
    case = replace(recorded.measurement.case, timer="launch")
    path = tmp_path / "b.jsonl"
    writer = RunWriter(path)
    writer.append(replace(recorded, measurement=replace(recorded.measurement, case=case)))
    writer.close(True)

    result = kernelperf("compare", five("a"), path)

    assert 2 == result.exit_code
    assert "share no case" in result.output


def test_what_is_not_there_or_empty_is_refused(kernelperf, five, tmp_path) -> None:
    empty, text, folder = tmp_path / "empty.jsonl", tmp_path / "notes.txt", tmp_path / "folder"
    RunWriter(empty).close(True)
    text.touch()
    folder.mkdir()

    for wrong, message in (
        (tmp_path / "none", f"there is no {tmp_path / 'none'}"),
        (empty, f"{empty} holds no measurement"),
        (text, f"{text} is neither a recorded run nor"),
        (folder, f"{folder} holds no measurement"),
    ):
        for sides in ((five("a"), wrong), (wrong, five("a"))):
            result = kernelperf("compare", *sides)
            assert 2 == result.exit_code
            assert message in result.output


def test_an_invalid_measurement_is_left_out_and_said(kernelperf, five, tmp_path, make) -> None:
    path = tmp_path / "b.jsonl"
    writer = RunWriter(path)
    good, bad = make.recorded(name="b"), make.recorded(name="c")
    writer.append(good)
    problem = Problem("WRONG_OUTPUT", "why")
    writer.append(replace(bad, measurement=replace(bad.measurement, problem=problem)))
    writer.close(True)

    result = kernelperf("compare", five("a"), path)

    assert 0 == result.exit_code
    assert "is left out: its measurement was INVALID" in result.output
    assert Status.UNCHANGED.value in result.output
