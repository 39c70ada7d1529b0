"""
The rooms of the house: who may import whom, and what loading the plugin may cost.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pytest_kernelperf"

#: Room to the rooms that it may import. A room is a module or a folder of the package.
ALLOWED = {
    "errors": set(),
    "units": set(),
    "model": set(),
    "keywords": {"errors", "model"},
    "options": {"errors", "keywords", "model"},
    "asks": {"errors", "model", "measure", "options"},
    "settings": {"errors", "options"},
    "resources": {"errors", "model", "units"},
    "measure": {"errors", "model", "units"},
    "analysis": {"errors", "model", "units"},
    "store": {"errors", "model", "units", "analysis"},
    "report": {"errors", "model", "units", "analysis"},
    "gate": {"errors", "model", "units", "analysis", "store"},
}
ALLOWED["work"] = ALLOWED["gate"] | {"keywords", "options", "measure"}
ALLOWED["comparing"] = {"errors", "model", "measure"}
ALLOWED["provenance"] = set()
ALLOWED["compiled"] = {"errors", "model", "analysis", "store", "resources"}
ALLOWED["bench"] = ALLOWED["work"] | {
    *("asks", "comparing", "compiled", "gate", "provenance", "settings", "work")
}
ALLOWED["gpuless"] = ALLOWED["bench"] | {"bench", "resources"}
ALLOWED["results"] = ALLOWED["bench"] | {"bench"}
ALLOWED["outcome"] = {"model", "options", "settings"}
ALLOWED["fixture"] = ALLOWED["results"] | {"comparing", "results", "gpuless"}
ALLOWED["failures"] = {"model", "outcome", "settings"}
ALLOWED["storing"] = ALLOWED["bench"] | {"bench", "failures", "outcome"}
ALLOWED["ledger"] = ALLOWED["storing"] | {"report", "storing"}
ALLOWED["progress"] = set()
ALLOWED["command_line"] = {"errors"}
ALLOWED["processes"] = {"errors", "units", "model", "analysis", "command_line", "measure"}
ALLOWED["against"] = ALLOWED["processes"] | {"processes", "store"}
ALLOWED["stash"] = ALLOWED["fixture"] | {"fixture", "outcome", "processes"}
ALLOWED["settling"] = ALLOWED["stash"] | {"against", "stash"}
ALLOWED["requires"] = set()
ALLOWED["reruns"] = set()
ALLOWED["pytest_reports"] = {"errors"}
ALLOWED["places"] = {"errors", "settings", "store"}
ALLOWED["session"] = ALLOWED["stash"] | {
    *(
        "stash",
        "ledger",
        "outcome",
        "places",
        "progress",
        "pytest_reports",
        "report",
        "requires",
        "reruns",
        "settling",
    ),
}
ALLOWED["worker"] = ALLOWED["stash"] | {"report", "stash"}
ALLOWED["plugin"] = ALLOWED["session"] | {"command_line", "session"}
ALLOWED["calibration"] = ALLOWED["session"] | {"session"}
ALLOWED["side_by_side"] = ALLOWED["gate"]
ALLOWED["cli"] = ALLOWED["gate"] | {*("calibration", "gate", "measure", "report", "side_by_side")}
ALLOWED["__main__"] = {"cli"}
ALLOWED["__init__"] = {"errors", "fixture"}

#: What a plain pytest run must not load; each takes longer than the whole plugin may.
HEAVY = (
    *("torch", "numpy", "scipy", "rich", "msgspec", "click", "triton", "filelock", "pynvml"),
    "pytest_kernelperf.model",
)
#: Nor a run that measures: what a pretended GPU takes (with unittest.mock), and another revision.
NEEDLESS = ("asyncio", "packaging.requirements", "torch", "triton", "rich", "click")

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """
    Return the room that a file belongs to.
    """
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_names(path: Path, source: str | None = None) -> Iterator[str]:
    """
    Yield the full names of what a file imports, also inside functions.
    """
    package = ("pytest_kernelperf", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(source or path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imported_rooms(path: Path, source: str | None = None) -> set[str]:
    """
    Return the other rooms that a file imports from.
    """
    parts = [name.split(".") for name in imported_names(path, source)]
    ours = {names[1] for names in parts if names[0] == "pytest_kernelperf" and len(names) > 1}
    return ours - {room_of(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_room_imports_only_rooms_below_it(path):
    assert set() == imported_rooms(path) - ALLOWED[room_of(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_the_plugin_never_imports_the_kernels(path):
    assert not any(name.split(".")[0] == "flashcore_kernels" for name in imported_names(path))


def test_the_kernels_never_import_the_plugin():
    for path in (PACKAGE.parent / "flashcore_kernels").rglob("*.py"):
        assert "pytest_kernelperf" not in path.read_text(), path


def test_analysis_knows_no_pytest_no_files_and_no_torch():
    """
    The verdict of a stored run must not depend on where it is judged.
    """
    banned = {"pytest", "torch", "os", "pathlib", "time", "random", "io"}
    for path in (PACKAGE / "analysis").rglob("*.py"):
        assert set() == banned & {name.split(".")[0] for name in imported_names(path)}, path


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("pytest_kernelperf.plugin", HEAVY),
        ("pytest_kernelperf.session, pytest_kernelperf.measure, pytest_kernelperf.gate", NEEDLESS),
    ],
    ids=["plugin", "measuring"],
)
def test_importing_it_loads_nothing_that_it_does_not_need(modules, unwanted):
    code = f"import sys, {modules}; print([name for name in {unwanted!r} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_import_reader_sees_relative_and_late_imports():
    """
    The rules above are worth as much as this reader.
    """
    source = """
from ..store import runs
from . import noise
def late():
    import pytest_kernelperf.gate
"""

    assert {"store", "gate"} == imported_rooms(PACKAGE / "analysis" / "example.py", source)
