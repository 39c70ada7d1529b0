"""
A project folder, and the command called in it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_kernelperf.cli import main
from pytest_kernelperf.gate import Gate
from pytest_kernelperf.model import Recorded, UpdateMode
from pytest_kernelperf.store.runs import RunWriter, read_run

Kernelperf = Callable[..., Result]


@pytest.fixture
def project(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    Return the current folder: a project with a test file and no baselines.
    """
    folder = tmp_path / "project"
    test_file = folder / "tests" / "perf" / "test_attention.py"
    test_file.parent.mkdir(parents=True)
    test_file.write_text("def test_attention(kernelperf, n): ...\n")
    (folder / "pyproject.toml").touch()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def kernelperf(project: Path) -> Kernelperf:
    """
    Return a function that runs the command in the project folder.
    """

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(
            main, [str(argument) for argument in arguments], catch_exceptions=False
        )

    return run


@pytest.fixture
def record(tmp_path: Path, make) -> Callable[..., Path]:
    """
    Return a function that writes a run of one process of the attention test.
    """

    def write(
        name: str, level_us: float = 3.2, *, complete: bool = True, **changes: object
    ) -> Path:
        path = tmp_path / f"{name}.jsonl"
        writer = RunWriter(path)
        writer.append(make.recorded(name=name, level_us=level_us, **changes))
        writer.close(complete)
        return path

    return write


@pytest.fixture
def baseline(project: Path, make) -> Path:
    """
    Return the file of a complete baseline of the attention test at 3.2 us.
    """
    recorded: list[Recorded] = [make.recorded(name=name) for name in "abcde"]
    report = Gate(project / "baselines").update(recorded, UpdateMode())
    return Path(report.written[0])


@pytest.fixture
def compared(baseline: Path, record: Callable[..., Path], tmp_path: Path) -> Path:
    """
    Return a slow run with the verdicts that it got live.
    """
    run = read_run(record("slow", 3.6, processes=3))
    gate = Gate(baseline.parents[3])
    path = tmp_path / "compared.jsonl"
    writer = RunWriter(path)
    for each in run.recorded:
        writer.append(gate.judge_again(each))
    writer.close()
    return path
