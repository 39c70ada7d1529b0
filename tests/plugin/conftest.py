"""
A project of its own for each plugin test, whose kernels are as fast as the test says.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from git_project import Repository

from pytest_kernelperf.cli import main
from pytest_kernelperf.store.runs import Run, read_run

# Loaded once, here: pytester forgets what a run inside this process has imported, but numpy and
# torch can't be imported twice, and two copies of our records are never equal.
for _name in (
    *("numpy", "scipy.stats", "torch", "msgspec"),
    *("rich.box", "rich.console", "rich.style", "rich.table", "rich.text"),
    *("pytest_kernelperf.gate", "pytest_kernelperf.report", "pytest_kernelperf.session"),
    "pytest_kernelperf.measure.host_clock",
):
    # A machine without torch runs the tests that do not need it.
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(_name)

CONFTEST = """
    from pathlib import Path

    from pytest_kernelperf.stash import ROOM, WORKERS
    from scripted_room import ScriptedRoom, ScriptedWorkers

    def pytest_configure(config):
        room = ScriptedRoom(Path({folder!r}))
        config.stash[ROOM] = room
        if {with_scripted_workers}:
            config.stash[WORKERS] = ScriptedWorkers(room)
            config.pluginmanager.register(config.stash[WORKERS])
"""

ONE_TEST = """
    from pytest_kernelperf import kernel_perf

    @kernel_perf
    def test_kernel(kernelperf):
        assert kernelperf(abs, -1) == 1
"""

TWO_TESTS = """
    from pytest_kernelperf import kernel_perf

    @kernel_perf
    def test_a(kernelperf):
        assert kernelperf(abs, -1) == 1

    @kernel_perf
    def test_b(kernelperf):
        assert kernelperf(abs, -1) == 1
"""


class Project:
    """
    A folder with tests, and what there is to ask of it after a run.
    """

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        pytester.makeini("[pytest]")

    def script(self, **keys: object) -> None:
        """
        Say what the scripted room measures from now on; see `ScriptedRoom`.
        """
        (self.path / "script.json").write_text(json.dumps(keys))

    def times(self, time_us: float = 10.0, **by_name: float) -> None:
        """
        Say how long each test's kernel takes from now on, microseconds.
        """
        self.script(times_us={"": time_us, **by_name})

    def write(self, source: str = ONE_TEST, name: str = "test_it") -> None:
        """
        Write a test file.
        """
        self.pytester.makepyfile(**{name: source})

    def write_two(self, more: str = "") -> None:
        """
        Write a test file with `test_a` and `test_b`.
        """
        self.write(TWO_TESTS + more)

    def run(self, *args: str) -> pytest.RunResult:
        """
        Run pytest on the project, in this process.
        """
        # An interrupt is the inner run's own affair.
        return self.pytester.runpytest_inprocess("-p", "kernelperf", *args, no_reraise_ctrlc=True)

    def run_apart(self, *args: str) -> pytest.RunResult:
        """
        Run pytest on the project in a process of its own.
        """
        return self.pytester.runpytest_subprocess("-p", "kernelperf", *args, timeout=120)

    def kernelperf(self, *args: str) -> Result:
        """
        Call the command `kernelperf` in the project's folder.
        """
        return CliRunner().invoke(main, args)

    def judge(self, *args: str) -> Result:
        """
        Have the recorded run judged, with the document in `judged.json`.
        """
        return self.kernelperf("judge", "run.jsonl", "--json", "judged.json", *args)

    def baseline_files(self) -> list[str]:
        """
        Return what lies under `baselines`, relative to it.
        """
        root = self.path / "baselines"
        return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())

    def baseline_text(self) -> str:
        """
        Return the only baseline file's text.
        """
        (name,) = self.baseline_files()
        return (self.path / "baselines" / name).read_text()

    def read_run(self, name: str = "run.jsonl") -> Run:
        """
        Return a recorded run.
        """
        return read_run(self.path / name)

    def read_json(self, name: str = "run.json") -> dict:
        """
        Return a JSON document that a run wrote.
        """
        return json.loads((self.path / name).read_text())


@pytest.fixture
def real_project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """
    A project that is measured for real, on the CPU.
    """
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    # Other plugins would be imported anew for each run, which takes longer than the run.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "own cache"))
    return Project(pytester)


def scripted(project: Project, *, with_scripted_workers: bool) -> Project:
    """
    Put the scripted room into a project.
    """
    source = Path(__file__).with_name("scripted_room.py").read_text()
    (project.path / "scripted_room.py").write_text(source)
    project.pytester.makeconftest(
        CONFTEST.format(folder=str(project.path), with_scripted_workers=with_scripted_workers)
    )
    project.times(10.0)
    return project


@pytest.fixture
def project(real_project: Project) -> Project:
    """
    A project whose times are scripted: 10 µs unless the test says otherwise.

    So are its fresh processes, or every slow kernel would take seconds.
    """
    return scripted(real_project, with_scripted_workers=True)


@pytest.fixture
def project_with_workers(real_project: Project) -> Project:
    """
    A project whose times are scripted, and whose fresh processes are real.
    """
    return scripted(real_project, with_scripted_workers=False)


@pytest.fixture(scope="session")
def triton_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    One cache of compiled kernels for all projects.
    """
    return tmp_path_factory.mktemp("triton")


@pytest.fixture
def gpuless(real_project: Project, monkeypatch: pytest.MonkeyPatch, triton_cache: Path) -> Project:
    """
    A project whose kernels are compiled for real.
    """
    monkeypatch.setenv("TRITON_CACHE_DIR", str(triton_cache))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    return real_project


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    Return the folder of temporary files, in which a run must leave nothing.
    """
    folder = tmp_path_factory.mktemp("tmp")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def repository(real_project: Project, temporary: Path) -> Repository:
    """
    A project under git; see `Repository`.
    """
    return Repository(real_project)
