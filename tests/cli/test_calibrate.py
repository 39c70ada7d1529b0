"""
`kernelperf calibrate`, end to end: fresh processes of a project whose kernels' times are scripted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from pytest_kernelperf.analysis.replay import scaled
from pytest_kernelperf.calibration.folder import Folder
from pytest_kernelperf.store.runs import RunWriter, read_run

SCRIPTED_ROOM = Path(__file__).parents[1] / "plugin" / "scripted_room.py"

CONFTEST = """
from pathlib import Path

from pytest_kernelperf.stash import ROOM
from scripted_room import ScriptedRoom

def pytest_configure(config):
    config.stash[ROOM] = ScriptedRoom(Path(__file__).parent)
"""

TEST = """
import time
from pathlib import Path

from pytest_kernelperf import kernel_perf

@kernel_perf
def test_kernel(kernelperf):
    assert kernelperf(abs, -1) == 1
    while Path("wait").exists():
        Path("waiting").touch()
        time.sleep(0.05)
"""


#: A calibration without slowdowns, as most tests here run it.
PLAIN = ("test_it.py", "--processes", 8, "--skip-injections", "--out", "out")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """
    Return a project with one test; 40 % slower where it is slowed by 40 %.
    """
    return make_project(tmp_path)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Return a project that was calibrated; tests work on copies.
    """
    folder = make_project(tmp_path_factory.mktemp("calibrated"))
    done = calibrate(folder, *PLAIN)
    assert 0 == done.returncode, done.stdout + done.stderr
    return folder


def make_project(folder: Path) -> Path:
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "scripted_room.py").write_text(SCRIPTED_ROOM.read_text())
    (folder / "test_it.py").write_text(TEST)
    times = {"": 10.0, "as it is": 10.0, "slowed": 14.0, "+40%": 14.0}
    (folder / "script.json").write_text(json.dumps({"times_us": times, "device": "cpu"}))
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pytest_kernelperf", "calibrate", *map(str, arguments)]


def calibrate(project: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    return subprocess.run(
        command(*arguments),
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_plans_of_another_calibration_are_taken(calibrated, tmp_path):
    folder = Path(shutil.copytree(calibrated, tmp_path / "copy"))

    done = calibrate(folder, *PLAIN[:-1], "another", "--plans-of", "out")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "process 8 of 8" in done.stdout
    plans = [
        {each.measurement.plan for run, _ in Folder(folder / name).runs() for each in run.recorded}
        for name in ("out", "another")
    ]
    assert plans[0] == plans[1]


def test_unchanged_and_slowed_code_is_judged_by_fresh_processes(project):
    done = calibrate(project, "test_it.py", "--processes", 8, "--sizes", 40, "--out", "out")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "false alarms: 0 of 8 unchanged candidates REGRESSED" in done.stdout
    assert "+40 % found: 8 of 8" in done.stdout
    assert "process 8 of 8" in done.stdout
    kept = json.loads((project / "baselines" / "cpu-scripted-cpu.calibration.json").read_text())
    assert kept == json.loads((project / "out" / "calibration.json").read_text())
    summary = json.loads((project / "out" / "summary.json").read_text())
    assert {"hits": 8, "trials": 8} == {n: summary["found"]["0.4"][n] for n in ("hits", "trials")}
    (case,) = kept["proof"]["cases"]
    assert {"UNCHANGED": 8} == case["statuses"]
    assert 8 == len({p.id for run, _ in Folder(project / "out").runs() for p in processes(run)})

    judged = subprocess.run(
        [*command()[:-1], "judge", "out/process-001.run.gz"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "false alarms at most 1 in 3 (0 of 8); +40 % found in 8 of 8" in judged.stdout


def processes(run):
    return [each for recorded in run.recorded for each in recorded.measurement.processes]


def test_a_calibration_that_was_cut_off_goes_on_where_it_was(project):
    """
    The second process hangs in its test until SIGTERM comes; nothing of it is kept.
    """
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    running = subprocess.Popen(
        command(*PLAIN), cwd=project, env=environment, stdout=subprocess.PIPE, text=True
    )
    folder = Folder(project / "out")
    wait_for(lambda: folder.numbers() == [1], running)
    (project / "wait").touch()
    wait_for((project / "waiting").exists, running)
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=60)

    assert 130 == running.returncode
    recorded = folder.numbers()
    assert f"interrupted: {len(recorded)} of 8 processes are recorded in out" in said
    assert [] == list((folder.path / "part").iterdir())
    before = {n: folder.unslowed(n).read_bytes() for n in recorded}
    (project / "wait").unlink()

    done = calibrate(project, *PLAIN)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert list(range(1, 9)) == folder.numbers()
    assert before == {n: folder.unslowed(n).read_bytes() for n in recorded}
    assert "preparing" not in done.stdout


def wait_for(happened, running) -> None:
    for _ in range(3000):
        if happened():
            return
        assert running.poll() is None, running.stdout.read()
        time.sleep(0.02)
    raise AssertionError("it never happened")


def test_the_same_folder_on_another_card_is_refused(calibrated, tmp_path):
    project = Path(shutil.copytree(calibrated, tmp_path / "copy"))
    folder = Folder(project / "out")
    manifest = folder.read_manifest()
    other = msgspec.structs.replace(manifest.machine, card="GPU-2")
    folder.write_manifest(msgspec.structs.replace(manifest, machine=other))

    done = calibrate(project, *PLAIN, "--processes", 9)

    assert 2 == done.returncode
    assert "another card: GPU-2 there, Scripted CPU now" in done.stderr
    assert 8 == len(folder.numbers())


def test_several_folders_are_taken_together(calibrated, tmp_path):
    done = calibrate(tmp_path, "--summarise", calibrated / "out", calibrated / "out")

    assert 0 == done.returncode, done.stderr
    assert "0 of 16 unchanged candidates REGRESSED" in done.stdout


def test_false_alarms_are_the_exit_status(calibrated, tmp_path):
    """
    Eight more processes in the folder, all slow: the first of them meets a baseline of fast ones.
    """
    project = Path(shutil.copytree(calibrated, tmp_path / "copy"))
    folder = Folder(project / "out")
    for number in range(1, 9):
        writer = RunWriter(folder.unslowed(number + 8))
        for one in read_run(folder.unslowed(number)).recorded:
            writer.append(replace(one, measurement=scaled(one.measurement, 1.5)))
        writer.close()

    done = calibrate(project, *PLAIN, "--processes", 16)

    assert 1 == done.returncode, done.stdout + done.stderr
    assert "false alarms: 0 of" not in done.stdout


def test_a_calibration_that_proves_more_is_replaced_only_if_asked(calibrated, tmp_path):
    project = Path(shutil.copytree(calibrated, tmp_path / "copy"))
    name = "cpu-scripted-cpu.calibration.json"
    kept = project / "baselines" / name
    more = kept.read_text().replace('"processes": 8', '"processes": 20')
    kept.write_text(more)

    done = calibrate(project, *PLAIN)

    assert 0 == done.returncode, done.stderr
    assert f"{name} stays as it was: it also proves 20 processes of a case, not 8" in done.stdout
    assert more == kept.read_text()
    assert "run the same command with --replace" in done.stdout

    done = calibrate(project, *PLAIN, "--replace")

    assert 0 == done.returncode, done.stderr
    assert kept.read_text() == (project / "out" / "calibration.json").read_text()


def test_changed_code_is_said_where_a_calibration_goes_on_and_in_its_result(project):
    def git(*words):
        who = ("-c", "user.name=x", "-c", "user.email=x@y")
        subprocess.run(["git", *who, *words], cwd=project, check=True, capture_output=True)

    git("init")
    git("add", "test_it.py")
    git("commit", "-m", "x")
    done = calibrate(project, *PLAIN)
    assert 0 == done.returncode, done.stderr
    assert "warning" not in done.stdout
    (project / "test_it.py").write_text(TEST + "# changed\n")

    done = calibrate(project, *PLAIN, "--processes", 10)

    assert 1 == done.stdout.count("a change of the tested code counts as a false alarm")
    assert "one state of the code: recorded at " in done.stdout


def test_a_spent_budget_keeps_what_there_is(calibrated, tmp_path):
    project = Path(shutil.copytree(calibrated, tmp_path / "copy"))

    done = calibrate(project, *PLAIN, "--processes", 50, "--budget-seconds", 1)

    assert 0 == done.returncode
    assert "out of time: 8 of 50 processes" in done.stdout
    assert "0 of 8 unchanged candidates REGRESSED" in done.stdout


@pytest.mark.parametrize("prepares_in_time", [True, False])
def test_a_budget_too_short_to_begin_is_told(project, prepares_in_time):
    if not prepares_in_time:
        (project / "wait").touch()

    done = calibrate(project, *PLAIN, "--budget-seconds", 1)

    assert 2 == done.returncode
    assert "nothing is recorded; give more --budget-seconds" in done.stderr


def test_tests_that_can_not_be_collected_are_told_with_pytests_words(project):
    (project / "test_it.py").write_text("import nonsense_that_is_not_there\n")

    done = calibrate(project, "test_it.py", "--processes", 8, "--out", "out")

    assert 2 == done.returncode
    assert "pytest ended with status" in done.stderr
    assert "nonsense_that_is_not_there" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sizes", "0"), "expected percents between 0 and 100"),
        (("--sizes", "1,x"), "expected percents between 0 and 100"),
        (("--sizes", "1", "--skip-injections"), "expected one of them, got both"),
        (("--processes", "7"), "7 is not in the range"),
        (("--summarise",), "needs the folders of earlier calibrations"),
        (("--summarise", "nowhere"), "nowhere holds no calibration"),
    ],
)
def test_wrong_usage_is_told(project, arguments, message):
    done = calibrate(project, *arguments)

    assert 2 == done.returncode
    assert message in done.stderr
    assert not (project / "kernelperf-calibration").exists()
