"""
A fresh process of a measuring run, from the inside: pytest that measures the tests it is asked for.

It runs as pytest with the arguments of the run that started it, so that it collects the same tests
with the same settings; what writes files, stops early or distributes is turned off.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Generator, Mapping
from multiprocessing.connection import Connection
from typing import Any

import pytest

from pytest_kernelperf.measure.neighbours import begin_turn
from pytest_kernelperf.model import Case, Plan
from pytest_kernelperf.outcome import unpack
from pytest_kernelperf.processes.escalation import Answer, Request, has_problem
from pytest_kernelperf.processes.relocation import Relocation, moved_arguments
from pytest_kernelperf.processes.sources import edited, read_sources
from pytest_kernelperf.processes.workers import Collected, Launch, gist
from pytest_kernelperf.stash import SERVING, is_measured, room_of

#: pytest's and common plugins' options, by the name of their value, and what turns them off.
_QUIET: Mapping[str, object] = {
    # Stop early, or wait for a person.
    "maxfail": 0,
    "stepwise": False,
    "usepdb": False,
    "trace": False,
    "reruns": None,
    # Write files: the run's own, which must not be touched.
    "xmlpath": None,
    "htmlpath": None,
    "report_log": None,
    "json_report": False,
    "pastebin": None,
    "basetemp": None,
    # Not None: then the ini file's would be opened, and emptied.
    "log_file": os.devnull,
    # Stored snapshots, of which those that no test here looked at would go (syrupy,
    # pytest-snapshot).
    "update_snapshots": False,
    "snapshot_update": False,
    "kernelperf_record": None,
    "kernelperf_json": None,
    # Change pytest's cache, or select by it.
    "lf": False,
    "failedfirst": False,
    "newfirst": False,
    "cacheclear": False,
    # Distribute, or slow down.
    "numprocesses": None,
    "dist": "no",
    "tx": [],
    "distload": False,
    "no_cov": True,
}
#: Plugins that write what they saw into pytest's cache at the end.
_CACHING = ("lfplugin", "nfplugin", "stepwiseplugin")


def main(fd: int) -> int:
    """
    Serve the run at the other end of a connection until it has no more questions.

    Args:
        fd: The connection's open file descriptor.

    Returns:
        pytest's exit status.
    """
    # Programs that tests start must not keep it open.
    os.set_inheritable(fd, False)
    connection = Connection(fd)
    launch = connection.recv()
    assert isinstance(launch, Launch)
    threading.Thread(target=_end_with_the_run, args=(fd,), daemon=True).start()
    sys.argv = ["pytest", *launch.args]
    if launch.relocation:
        launch.relocation.move_finders()
    serving = Serving(connection, launch.relocation, launch.sources)
    return int(pytest.main(list(launch.args), plugins=[*launch.plugins, serving]))


def _end_with_the_run(fd: int) -> None:
    """
    Wait until the other end is closed, which only a run that died does first; then end all.
    """
    hang_up = select.poll()
    hang_up.register(fd, 0)
    hang_up.poll()
    os.killpg(0, signal.SIGKILL)


class Serving:
    """
    The plugin that answers requests instead of running the collected tests.

    Attributes:
        plans: How the run wants each case measured.
    """

    def __init__(
        self,
        connection: Connection,
        relocation: Relocation | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        self._connection = connection
        self._relocation = relocation
        self._sources = sources or {}
        self._edited = ""
        self._uncollected: dict[str, str] = {}
        self._reports: list[pytest.TestReport] = []
        self.plans: Mapping[Case, Plan] = {}

    # Inside of pytest's own, which opens the file of `--debug` and so empties the run's.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_cmdline_parse(self) -> Generator[None, pytest.Config, pytest.Config]:
        """
        Write no debug file.
        """
        config = yield
        config.option.debug = None
        return config

    @pytest.hookimpl(wrapper=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> Generator[None, Any, Any]:
        """
        Turn off what only the run itself may do, before any plugin reads its options.
        """
        for name, value in _QUIET.items():
            if hasattr(config.option, name):
                setattr(config.option, name, value)
        if self._relocation and not config.getoption("pyargs"):
            folder = str(config.invocation_params.dir)
            config.args = moved_arguments(config.args, self._relocation, folder)
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """
        Tell the measuring run that it serves another.
        """
        config.stash[SERVING] = self

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """
        Keep pytest's cache as the run will write it.
        """
        for name in _CACHING:
            if session.config.pluginmanager.hasplugin(name):
                session.config.pluginmanager.unregister(name=name)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """
        Remember why a file's tests are missing.
        """
        if report.failed:
            self._uncollected[report.nodeid] = gist(report.longreprtext)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """
        Answer requests until there is none.
        """
        self._edited = edited(self._sources, read_sources(session.config.rootpath))
        items = {item.nodeid: item for item in session.items}
        measured = tuple(item.nodeid for item in session.items if is_measured(item))
        others = tuple(item.nodeid for item in session.items if not is_measured(item))
        self._connection.send(Collected(measured, self._uncollected, self._strays(), others))
        goes_on = False
        while (message := self._connection.recv()) is not None:
            request, family = message
            if not goes_on:
                begin_turn(family)
            goes_on = request.goes_on
            self._connection.send(self._answer(request, items.get(request.nodeid)))
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """
        Take the reports of the test that was asked for.
        """
        self._reports.append(report)

    def _answer(self, request: Request, item: pytest.Item | None) -> Answer:
        if self._edited:
            return Answer(failure=f"{self._edited} was edited after the run had imported it")
        if item is None:
            return Answer(failure=self._why_missing(request.nodeid))
        self._reports.clear()
        self.plans = dict(request.plans)
        # With the session as what comes next, its fixtures live on, and all others are torn down:
        # nobody knows yet which test that will be.
        session: Any = item.session
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=session)
        if not request.goes_on:
            room_of(item.config).release()
        # Some import what they need when they are called.
        strays = self._strays()
        return Answer(strays=strays) if strays else answer_of(self._reports)

    def _strays(self) -> tuple[str, ...]:
        return tuple(self._relocation.strays()) if self._relocation else ()

    def _why_missing(self, nodeid: str) -> str:
        found = (why for above, why in self._uncollected.items() if nodeid.startswith(above))
        return f"it could not collect {nodeid}: {next(found, 'no test of that name is there')}"


def answer_of(reports: list[pytest.TestReport]) -> Answer:
    """
    Return what one test's reports say.

    A wrong kernel is wrong in whichever process that shows; any other failure of a test that passed
    in the run itself costs this process.
    """
    packed = [report.kernelperf for report in reports if hasattr(report, "kernelperf")]
    recorded = unpack(packed[-1]).recorded if packed else ()
    if has_problem(recorded):
        return Answer(recorded)
    for report in reports:
        if report.when != "teardown" and not report.passed:
            what = "was skipped" if report.skipped else "failed"
            return Answer(failure=f"the test {what} there: {_why(report)}")
    return Answer(recorded, "" if recorded else "the test measured nothing there")


def _why(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):  # A skip: file, line, reason.
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message).splitlines()[0] if crash else gist(report.longreprtext)
