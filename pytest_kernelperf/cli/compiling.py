"""
`kernelperf resources`: has pytest compile the kernels of marked tests, and shows what came out.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from pytest_kernelperf.analysis.reasons import ResourceReason
from pytest_kernelperf.cli.terminal import look
from pytest_kernelperf.errors import OptionsError, ResourcesUnavailableError
from pytest_kernelperf.model import FAILING, Case, Compiled, Kernel, Status
from pytest_kernelperf.report.resources_table import resources_table
from pytest_kernelperf.store.files import write_bytes
from pytest_kernelperf.store.outputs import check_output

#: What pytest ends with where all it was asked for was run.
_RAN = (0, 1)
#: What pytest takes for test files by itself.
_TEST_FILES = ("test_*.py", "*_test.py")
#: Folders that hold no tests of this project.
_SKIPPED = ("node_modules", "build", "dist", "venv", "site-packages")


@dataclass(frozen=True)
class _Outcome:
    """
    What pytest brought.

    Attributes:
        compiled: Of its JSON document, one per case and target.
        failed: Tests that failed for another reason than a verdict, so that no verdict tells.
        skipped: Lines on tests, or targets of a test, that were not followed up to their kernels.
        unread: Lines on what was compiled and can't be read.
    """

    compiled: Sequence[Mapping[str, Any]]
    failed: Sequence[str]
    skipped: Sequence[str]
    unread: Sequence[str]


@click.command()
@click.argument("tests", nargs=-1, metavar="[TESTS]...")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write it all."
)
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="Processes; needs pytest-xdist."
)
@click.option(
    "--baselines",
    type=click.Path(path_type=Path, exists=True),
    metavar="DIR",
    help="Baselines folder. Default: as for pytest.",
)
@click.option("--strict", is_flag=True, help="Tests that were not compiled fail too.")
@click.pass_context
def resources(
    ctx: click.Context,
    tests: Sequence[str],
    json_file: Path | None,
    workers: int | None,
    baselines: Path | None,
    strict: bool,
) -> None:
    """
    Compile the Triton kernels of tests marked resources=, without a GPU, and judge the outcome.

    TESTS are what pytest takes: files, folders, file::test. Default: all test files below this
    folder that mention resources=.
    """
    if json_file is not None:
        check_output(json_file)
    chosen = list(tests) or [str(path) for path in sorted(_marked_files(Path.cwd()))]
    if not chosen:
        raise ResourcesUnavailableError(
            "no test file below this folder mentions resources=: mark a test "
            "@kernel_perf(resources={}), or name the tests"
        )
    _refuse_missing(tests)
    options = [f"--kernelperf-baselines={baselines}"] if baselines is not None else []
    outcome = _compile([*options, *chosen], workers or _default_workers())
    if json_file is not None:
        write_bytes(json_file, msgspec.json.format(msgspec.json.encode(outcome.compiled), indent=1))
    compiled = list(map(_read, outcome.compiled))
    if table := resources_table(compiled, width=look()["width"], color=False):
        click.echo(table)
    failing = [one for one in outcome.compiled if _fails(one)]
    for one in failing:
        verdict = one["verdict"]
        click.echo(
            f"{verdict['status']} {one['file']}::{one['test']} [{one['l2']}] "
            f"({verdict['reason']}): {verdict['sentence']}"
        )
    for nodeid in outcome.failed:
        click.echo(
            f"FAILED {nodeid}: not for what was compiled; "
            f"pytest --kernelperf --kernelperf-compile-only {shlex.quote(nodeid)} says why"
        )
    for line in outcome.skipped:
        click.echo(f"kernelperf: not compiled: {line}")
    for line in outcome.unread:
        click.echo(f"kernelperf: not readable: {line}")
    failed = len(failing) + len(outcome.failed)
    left_out = f", {len(outcome.skipped)} NOT compiled" if outcome.skipped else ""
    left_out += f", {len(outcome.unread)} NOT readable" if outcome.unread else ""
    click.echo(f"kernelperf: {len(outcome.compiled)} compiled, {failed} failed{left_out}")
    ctx.exit(1 if failed or (strict and left_out) else 0)


def _refuse_missing(tests: Sequence[str]) -> None:
    for test in tests:
        if not Path(test.partition("::")[0]).exists():
            raise OptionsError(
                f"there is no {test.partition('::')[0]}; expected test files, folders or file::test"
            )


def _compile(tests: Sequence[str], workers: int) -> _Outcome:
    """
    Run pytest on the tests and return what its JSON document says of compiled kernels.

    Raises:
        ResourcesUnavailableError: If pytest could not run, or compiled nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run.json"
        command = [sys.executable, "-m", "pytest", "--kernelperf", "--kernelperf-compile-only"]
        # What may not be judged is said here, and fails this command under its own --strict.
        command += ["-o", "kernelperf_strict=false"]
        command += ["-q", "--no-header", "-rs", "--no-fold-skipped"]
        command += [f"--kernelperf-json={out}", *tests]
        if workers > 1:
            command += ["-n", str(workers)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in _RAN or not out.is_file():
            raise ResourcesUnavailableError(
                f"pytest could not compile {' '.join(tests)} (exit status {done.returncode}):\n"
                f"{(done.stdout + done.stderr).strip()}"
            )
        document: dict[str, Any] = msgspec.json.decode(out.read_bytes())
    compiled = [
        one
        for one in document["compiled"]
        if (one["kernels"] or one["failure"]) and not _is_unread(one)
    ]
    unread = [_line(one) for one in document["compiled"] if _is_unread(one)]
    if not compiled:
        said = "\n".join([*unread, done.stdout.strip()])
        raise ResourcesUnavailableError(
            f"no kernel was compiled and read for {' '.join(tests)}; pytest said:\n{said}"
        )
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED ")]
    skipped += _stopped(document["compiled"])
    told = {(Path(one["file"]).name, one["test"]) for one in compiled if _fails(one)}
    failed = [nodeid for nodeid in document["failed_tests"] if _place(nodeid) not in told]
    return _Outcome(compiled, failed, skipped, unread)


def _stopped(compiled: Sequence[Mapping[str, Any]]) -> list[str]:
    """
    Return a line on each target that was not reached by a test that was compiled for others.
    """
    tests = {(one["file"], one["test"]) for one in compiled if one["kernels"] or one["failure"]}
    return [
        _line(one)
        for one in compiled
        if not (one["kernels"] or one["failure"] or _is_unread(one))
        and (one["file"], one["test"]) in tests
    ]


def _line(one: Mapping[str, Any]) -> str:
    name = f"{one['file']}::{one['test']} {one['name']}".rstrip()
    return f"{name} [{one['l2']}] - {one['verdict']['sentence']}"


def _is_unread(one: Mapping[str, Any]) -> bool:
    return bool(one["verdict"]["reason"] == ResourceReason.FIGURES_UNREADABLE.value)


def _fails(one: Mapping[str, Any]) -> bool:
    return Status(one["verdict"]["status"]) in FAILING


def _place(nodeid: str) -> tuple[str, str]:
    file, _, test = nodeid.partition("::")
    return Path(file).name, test


def _read(document: Mapping[str, Any]) -> Compiled:
    case = {name: document[name] for name in ("file", "test", "name", "timer", "l2", "pace")}
    return Compiled(
        case=Case(**case),
        kernels=msgspec.convert(document["kernels"], tuple[Kernel, ...]),
        failure=document["failure"],
        notes=tuple(document["notes"]),
    )


def _marked_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith(".") and path.name not in _SKIPPED:
            yield from _marked_files(path)
        elif any(map(path.match, _TEST_FILES)):
            text = path.read_text(encoding="utf-8", errors="replace")
            if "kernel_perf(" in text and "resources=" in text:
                yield path


def _default_workers() -> int:
    # Half: ptxas runs beside the compiler.
    has_xdist = importlib.util.find_spec("xdist") is not None
    return max(1, min(4, _cores() // 2 + 1)) if has_xdist else 1


def _cores() -> int:
    """
    Return how many cores this process may use, which a container keeps below the machine's.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
