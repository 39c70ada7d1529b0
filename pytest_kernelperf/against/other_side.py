"""
The side that a paired run compares with: a revision's checkout, built, and how pytest starts there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_kernelperf.against.revision import Checkout, Revision, plain_environ
from pytest_kernelperf.errors import RevisionError
from pytest_kernelperf.processes.relocation import Relocation
from pytest_kernelperf.processes.workers import Launch

_STEP_S = 0.25
#: How much of a failed build is quoted.
_QUOTED_LINES = 20


@dataclass
class OtherSide:
    """
    A revision's checkout, from `make` to `remove`.

    Attributes:
        revision: What is compared with.
        rootdir: pytest's in the working tree.
        build: Shell command that builds the checkout; "" = nothing to build.
    """

    revision: Revision
    rootdir: Path
    build: str = ""

    def __post_init__(self) -> None:
        self._checkout = Checkout(self.revision)

    def make(self, launch: Launch, waiting: Callable[[], None]) -> Launch:
        """
        Check the revision out and build it; return how pytest is started there.

        Args:
            launch: How it was started here.
            waiting: Called now and then.

        Raises:
            RevisionError: If git or the build fails, or the revision needs what is not installed.
        """
        self._checkout.make()
        repository = self.revision.repository
        relocation = Relocation(
            os.path.realpath(repository),
            os.path.realpath(self._checkout.folder),
            _alias(self.rootdir, repository),
        )
        moved = relocated(launch, relocation, str(self.rootdir))
        if self.build:
            folder = relocation.path(str(self.rootdir))
            _run_build(self.build, folder, moved, self.revision, waiting)
        self._refuse_other_dependencies(Path(relocation.path(str(self.rootdir))))
        # Now that all that the build makes is there.
        return replace(moved, path=relocation.search_path(launch.path, launch.folder))

    def _refuse_other_dependencies(self, folder: Path) -> None:
        """
        Raise for a package that the revision needs and this environment lacks.

        One that the working tree lives without, too, whatever it declares, is its owner's business.
        """
        from pytest_kernelperf.against.dependencies import lacking

        there, here = lacking(folder), lacking(self.rootdir)
        missing = sorted(lack for name, lack in there.items() if name not in here)
        if missing:
            raise RevisionError(
                f"{self.revision.label} can't be measured: it needs {', '.join(missing)}. Both "
                "sides run in one environment: install what both need, name another revision, or "
                "record each where it runs (--kernelperf-record) and compare: kernelperf compare"
            )

    def remove(self) -> None:
        """
        Leave nothing of it behind.
        """
        self._checkout.remove()


def relocated(launch: Launch, relocation: Relocation, rootdir: str) -> Launch:
    """
    Return how to start the same pytest in another checkout.
    """
    folder = relocation.path(launch.folder)
    args = [relocation.text(argument) for argument in launch.args]
    if folder == launch.folder:  # Started outside: what is relative leads into the first one.
        args = [_absolute(argument, relocation, folder) for argument in args]
    return replace(
        launch,
        # Node ids are relative to it, and must be the same on both sides.
        args=(*args, f"--rootdir={relocation.path(rootdir)}"),
        folder=folder,
        path=relocation.search_path(launch.path, launch.folder),
        environ=relocation.environ(plain_environ(launch.environ), launch.folder),
        relocation=relocation,
    )


def _absolute(argument: str, relocation: Relocation, folder: str) -> str:
    path, colons, rest = argument.partition("::")
    if path.startswith("-") or not os.path.exists(os.path.join(folder, path)):
        return argument
    return f"{relocation.path(path, folder)}{colons}{rest}"


def _alias(rootdir: Path, repository: Path) -> str:
    """
    Return the repository's folder as the user spells it, with symbolic links.
    """
    depth = len(Path(os.path.realpath(rootdir)).relative_to(os.path.realpath(repository)).parts)
    return str(rootdir.parents[depth - 1] if depth else rootdir)


def _run_build(
    command: str, folder: str, launch: Launch, revision: Revision, waiting: Callable[[], None]
) -> None:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            shell=True,
            cwd=folder,
            env=dict(launch.environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                waiting()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STEP_S)
        except BaseException:  # An interrupt.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        log.seek(0)
        said = log.read().decode(errors="replace").splitlines()[-_QUOTED_LINES:]
    if process.returncode:
        quoted = "\n".join(f"  {line}" for line in said)
        raise RevisionError(
            f"{revision.label} could not be built: kernelperf_build = {command!r} ended with "
            f"status {process.returncode}:\n{quoted}"
        )
