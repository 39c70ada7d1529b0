"""
`kernelperf judge`: which baselines it judges by, and what is wrong with them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_kernelperf.store.runs import RunWriter, read_run


def test_named_baselines_without_a_single_one_are_refused(kernelperf, baseline, record) -> None:
    result = kernelperf("judge", record("new"), "--baselines", baseline.parent)

    assert 2 == result.exit_code
    assert "holds no baseline; expected the folder that holds <card>/" in result.output


@pytest.mark.parametrize("up", [1, 2, 4])
def test_a_folder_above_or_below_the_named_baselines_is_refused(
    kernelperf, project, baseline, record, up
) -> None:
    result = kernelperf("judge", record("new"), "--baselines", baseline.parents[up])

    assert 2 == result.exit_code
    assert "holds no baseline; expected the folder that holds <card>/" in result.output
    assert f"name {project / 'baselines'}, or begin" in result.output


def test_no_folder_of_baselines_is_said(kernelperf, project, record) -> None:
    result = kernelperf("judge", record("new"))

    assert f"kernelperf: there is no folder {project / 'baselines'}" in result.output


def test_what_had_a_baseline_when_recorded_and_has_none_here_fails(
    kernelperf, baseline, compared, tmp_path
) -> None:
    """In the wrong folder all would pass for want of a baseline."""
    baseline.parents[3].rename(tmp_path / "elsewhere")

    lost = kernelperf("judge", compared, "--json", tmp_path / "judged.json")
    found = kernelperf("judge", compared, "--baselines", tmp_path / "elsewhere")

    document = json.loads((tmp_path / "judged.json").read_text())
    assert [1, 1] == [lost.exit_code, found.exit_code]
    assert document["exit_failed"]
    assert ["tests/perf/test_attention.py::test_attention[8]"] == document["failed_tests"]
    assert "test_attention[8] had a baseline when recorded and has none here" in lost.output
    assert "NO_BASELINE" in lost.output
    assert "REGRESSED" in found.output


def test_the_ini_file_of_the_folder_names_the_baselines(
    kernelperf, project, baseline, compared
) -> None:
    baseline.parents[3].rename(project / "kept")
    (project / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nkernelperf_baselines = "kept"\n'
    )

    judged, shown = kernelperf("judge", compared), kernelperf("show")

    assert 1 == judged.exit_code
    assert "REGRESSED" in judged.output
    assert "test_attention[8]" in shown.output


def test_strict_in_the_ini_file_holds_here_too(kernelperf, project, record) -> None:
    (project / "pytest.ini").write_text("[pytest]\nkernelperf_strict = true\n")

    assert 1 == kernelperf("judge", record("new")).exit_code


def named_below(folder: str, run: Path) -> Path:
    """
    Return a copy of a run whose tests pytest called by longer names, from a folder further up.
    """
    path = run.with_name("named.jsonl")
    writer = RunWriter(path)
    for each in read_run(run).recorded:
        writer.append(each)
    name = "tests/perf/test_attention.py::test_attention[8]"
    writer.close(nodeids={name: f"{folder}/{name}"})
    return path


def test_a_project_inside_the_one_around_has_its_own_baselines(
    kernelperf, project, baseline, compared
) -> None:
    inner = project / "packages" / "kernels"
    inner.mkdir(parents=True)
    baseline.parents[3].rename(inner / "baselines")

    result = kernelperf("judge", named_below("packages/kernels", compared))

    assert 1 == result.exit_code
    assert "REGRESSED" in result.output


def test_started_inside_the_inner_project_its_baselines_are_found_too(kernelperf, compared) -> None:
    result = kernelperf("judge", named_below("project", compared))

    assert 1 == result.exit_code
    assert "REGRESSED" in result.output


def test_other_baselines_can_be_named(kernelperf, project, baseline, record, tmp_path) -> None:
    (project / "baselines").rename(tmp_path / "kept")
    run = record("slow", 3.6, processes=3)

    assert 0 == kernelperf("judge", run).exit_code
    assert 1 == kernelperf("judge", run, "--baselines", tmp_path / "kept").exit_code


def test_baselines_are_found_from_a_folder_inside(
    kernelperf, project, baseline, record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / "tests")

    assert 1 == kernelperf("judge", record("slow", 3.6, processes=3)).exit_code


def test_baselines_that_are_named_and_not_there_are_exit_status_2(
    kernelperf, baseline, record
) -> None:
    """A slip in the folder's name would pass everything for want of a baseline."""
    result = kernelperf("judge", record("new"), "--baselines", "baslines")

    assert 2 == result.exit_code
    assert "'baslines' does not exist" in result.output


@pytest.mark.parametrize("content", ["", "[]", '{"schema_version": 99}', "\x00"])
def test_an_unreadable_baseline_is_exit_status_2_and_stays(
    kernelperf, baseline, record, content: str
) -> None:
    baseline.write_text(content)
    result = kernelperf("judge", record("new"))

    assert 2 == result.exit_code
    assert str(baseline) in result.output
    assert content == baseline.read_text()


def test_a_bad_file_of_another_card_is_found_too(kernelperf, project, baseline, record) -> None:
    bad = project / "baselines" / "nvidia-h200" / "test_x.json"
    bad.parent.mkdir()
    bad.write_text("[]")
    result = kernelperf("judge", record("new"))

    assert 2 == result.exit_code
    assert str(bad) in result.output


def test_a_card_without_baselines_has_none(kernelperf, baseline, record, make) -> None:
    environment = make.environment(name="NVIDIA A100-SXM4-80GB")
    process = replace(make.process("new"), environment=environment)
    result = kernelperf("judge", record("a100", measurement=make.measurement((process,))))

    assert 0 == result.exit_code
    assert "NO_BASELINE" in result.output
    assert "nvidia-h100-80gb-hbm3" in result.output
