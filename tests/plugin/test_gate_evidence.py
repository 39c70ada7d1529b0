"""benchmarks/gate_evidence.py from its projects to its table, with times that are made up."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

# The script imports the attention kernels.
pytest.importorskip("torch")

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

PLUGIN = """
from pathlib import Path

from pytest_kernelperf.stash import ROOM, WORKERS
from scripted_room import ScriptedRoom, ScriptedWorkers

TIMES_US = {"test_unchanged.py": 10.0, "test_slower3.py": 10.3, "test_slower10.py": 11.2}


class Room(ScriptedRoom):
    def measurement(self, job):
        return self._measurement(job, TIMES_US[Path(job.case.file).name])


def pytest_configure(config):
    config.stash[ROOM] = Room(Path(__file__).parent)
    config.stash[WORKERS] = ScriptedWorkers(config.stash[ROOM])
    config.pluginmanager.register(config.stash[WORKERS])
"""

TEST = """
import pytest
from flashcore_kernels import attention

@pytest.mark.parametrize("batch", [8, 16, 32])
@pytest.mark.parametrize("seqlen", [128, 256, 512])
def test_attention(kernelperf, seqlen, batch):
    kernelperf(abs, -1)
"""

SLOWED = """
attention, extra_steps = None, {}

def forget_launches():
    pass
"""


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """The script, its slowdowns sized already, in a folder where nothing is really measured."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gate_evidence

    (tmp_path / "made_up_times.py").write_text(PLUGIN)
    monkeypatch.setenv("PYTEST_PLUGINS", "made_up_times")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / f"{gate_evidence.slowed.NAME}.py").write_text(SLOWED)
    shutil.copy(Path(__file__).with_name("scripted_room.py"), tmp_path)
    size = {"steps": 31, "change": 0.03, "low": 0.029, "high": 0.031}
    monkeypatch.setattr(
        gate_evidence.slowed, "size", lambda _folder, wanted: dict.fromkeys(wanted, size)
    )
    monkeypatch.setattr(gate_evidence, "gate_test", lambda: TEST)
    return gate_evidence


def _run(gate, folder):
    projects = list(gate.PROJECTS)
    ended = gate.run_pytest(gate.command(folder, projects, 0), folder)
    return gate.run_of(folder, projects, 0, ended)


def test_one_run_judges_all_three_projects(gate, tmp_path, capsys):
    found = gate.prepared(tmp_path, list(gate.PROJECTS))

    run = _run(gate, tmp_path)

    assert run["problem"] is None
    assert {
        ("unchanged", "UNCHANGED"): 9,
        ("slower3", "REGRESSED"): 3,
        ("slower10", "REGRESSED"): 9,
    } == Counter((row["project"], row["status"]) for row in run["verdicts"])
    gate.show(found | {"runs": [run]})
    said = capsys.readouterr().out
    assert "slower3: of 3 3 REGRESSED\n" in said
    assert "the interval holds no change in 9 of 9\n" in said


def test_a_run_without_one_project_s_baseline_is_not_counted(gate, tmp_path):
    gate.prepared(tmp_path, list(gate.PROJECTS))
    shutil.rmtree(tmp_path / "slower3" / "baselines")

    assert "no baseline: 3 slower3" == _run(gate, tmp_path)["problem"]


def test_a_baseline_keeps_its_entries_under_a_project_s_name(gate, tmp_path):
    recorded = BENCHMARKS.parent / "tests" / "data" / "h100" / "slowed_2b382370" / "baselines"
    shutil.copytree(recorded, tmp_path / "baselines")

    gate.give_baseline(tmp_path, "slower10")

    (before,) = tmp_path.glob("baselines/*/tests/perf/*")
    (after,) = tmp_path.glob("slower10/baselines/*/tests/perf/*")
    assert ("test_attention.json", "test_slower10.json") == (before.name, after.name)
    card = before.parents[2].name
    stored, given = (
        gate.Baselines(path).load(card, f"tests/perf/{name.stem}.py")
        for path, name in (
            (tmp_path / "baselines", before),
            (tmp_path / "slower10" / "baselines", after),
        )
    )
    assert 9 == len(given)
    assert stored == given
