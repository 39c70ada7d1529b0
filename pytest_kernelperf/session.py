"""
What a measuring run does at each of pytest's events; registered only under `--kernelperf`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from pytest_kernelperf import bench, gpuless, places
from pytest_kernelperf.bench import Bench
from pytest_kernelperf.errors import KernelPerfFailure, RevisionError
from pytest_kernelperf.gpuless import GpulessBench
from pytest_kernelperf.ledger import Ledger
from pytest_kernelperf.measure.watchdog import install as install_watchdog
from pytest_kernelperf.model import Case, Plan, Verdict
from pytest_kernelperf.outcome import Outcome, fails, pack, unpack
from pytest_kernelperf.processes.workers import launch_of
from pytest_kernelperf.progress import ProgressLine
from pytest_kernelperf.pytest_reports import (
    excuse_of,
    is_verdict,
    report_collection_error,
    verdict_repr,
)
from pytest_kernelperf.requires import find_missing
from pytest_kernelperf.reruns import rerun_command, rerun_warning
from pytest_kernelperf.settings import Settings, faulthandler_timeout_s
from pytest_kernelperf.settling import Settling
from pytest_kernelperf.stash import (
    BODY,
    FIXTURE,
    GPULESS,
    HEADLINE,
    MISSING,
    OPTIONS,
    SERVING,
    Body,
    has_measured,
    is_measured,
    outcome_of,
    room_of,
)

#: Where a worker of pytest-xdist tells the controller which tests it was given.
_WORKER_KEY = "kernelperf"
#: Ways to end that fail nothing; without a test pytest itself leaves that open.
_GREEN = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


class MeasuringRun:
    """
    The hooks of a measuring run, in the process that runs tests and in the one that reports.

    Under `-n 1` these are two: the worker measures and judges, the controller records, stores
    and reports. A fresh process of another run only measures.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.config = config
        self.settings = settings
        self.served = config.stash.get(SERVING, None)
        self.is_worker = hasattr(config, "workerinput") or self.served is not None
        self._rerun_command = partial(rerun_command, config)
        self.ledger = Ledger(settings, self._rerun_command)
        self._bench: bench.Bench | None = None
        self._gpuless: GpulessBench | None = None
        self._progress = ProgressLine(config)
        arguments = getattr(config, "workerinput", {}).get(_WORKER_KEY)
        launch = launch_of(config, arguments)
        self._settling = Settling(config, settings, launch, self._progress)
        # Now, because later pytest captures the stream that a hang is reported to.
        install_watchdog(None, faulthandler_timeout_s(config))

    def check_paths(self) -> None:
        """
        Refuse files that can't be used as asked, before any time is spent on measuring.

        Raises:
            KernelPerfError: For the first of them, the revision to compare with among them.
        """
        if not self.is_worker:
            self._settling.find_revision()
            places.check_outputs(self.settings)
        named = bool(self.config.getoption("kernelperf_baselines"))
        warning = places.check_baselines(self.settings, named=named)
        self.ledger.warnings.extend([warning] if warning else [])

    def bench(self) -> bench.Bench:
        """
        Return what measures, built when the first test needs it.
        """
        if self._bench is None:
            self._bench = bench.Bench(
                self.settings,
                room_of(self.config),
                progress=self._progress,
                on_hang=self._keep,
                plans=self._plan,
                against=self._settling.against,
            )
        return self._bench

    def _plan(self, case: Case) -> Plan | None:
        """
        Return how an earlier process of the run measured a case.
        """
        return self.served.plans.get(case) if self.served else self._settling.plan(case)

    def _keep(self, nodeid: str) -> str:
        """
        Keep what the run has, which a test that never returns ends, and return what to say of it.
        """
        try:
            if self.is_worker:  # The process that it reports to keeps its tests.
                return ""
            self.ledger.note_failure(nodeid, in_teardown=False)
            self.ledger.finish(has_failed=True)
        finally:
            self._settling.abandon()
        return "\n\n".join(["", *self._blocks(), self.ledger.last_line(), ""])

    def bench_for(self, item: pytest.Item) -> Bench | GpulessBench:
        """
        Return what measures a test, or what compiles its kernels where there is no GPU.
        """
        return item.stash.get(GPULESS, None) or self.bench()

    # Around set-up too: fixtures make tensors.
    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """
        Run a test that asks for `resources=` on pretended GPUs, where there is no real one.
        """
        options = item.stash.get(OPTIONS, None)
        if options is None or not gpuless.is_needed(options, self.settings):
            return (yield)
        missing = gpuless.missing_compiler()
        if missing:
            item.stash[MISSING] = f"resources: {missing} is not installed"
            return (yield)
        if self._gpuless is None:
            self._gpuless = GpulessBench(self.settings, self._progress)
        item.stash[GPULESS] = self._gpuless
        machine = self._gpuless.machine
        with machine.on(gpuless.targets_for(options)[0]), machine.running():
            return (yield)

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """
        Skip a test whose kernels there is no GPU to measure on, and nothing to compile with.
        """
        if MISSING in item.stash:
            pytest.skip(item.stash[MISSING])

    # Last, so that tests that -k or a node id left out cost nothing.
    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """
        Read the baselines of the selected tests, so that a bad file is found before measuring.
        """
        if not self.served:
            self._settling.note_sources()
        measured = [item for item in items if is_measured(item)]
        self.ledger.selected = tuple(item.nodeid for item in measured)
        if any(item.get_closest_marker("flaky") for item in measured):
            self.ledger.warnings.append(rerun_warning("tests are marked flaky"))
        output: dict[str, Any] | None = getattr(config, "workeroutput", None)
        if output is not None:
            found = self.ledger.selected, tuple(self.ledger.warnings), self.ledger.has_tests
            output[_WORKER_KEY] = found
        # Against a revision no baseline is looked at.
        paths = {item.path for item in measured if not self.settings.against}
        by_root = bench.files_by_root(self.settings, paths)
        for place, wrong in (
            *places.shared_names(by_root, self.settings.record),
            *(self.bench().bad_baselines(by_root) if by_root else ()),
        ):
            report_collection_error(config, str(place), wrong)
            items.clear()

    def pytest_deselected(self) -> None:
        """
        Take note that there are tests, though none of them may run.
        """
        self.ledger.has_tests = True

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """
        Take note of what could not be collected, a bad baseline file among it.
        """
        if report.failed and not self.is_worker:
            self.ledger.note_uncollected(report.nodeid)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """
        Have ready what comes before the first test: a revision, or other processes' measurements.
        """
        if not (self.is_worker or self.config.option.collectonly):
            self.ledger.begin()
        goes_on = not session.testsfailed or self.config.option.continue_on_collection_errors
        is_asked = self.ledger.selected and not self.config.option.collectonly
        if is_asked and goes_on:
            try:
                self.ledger.warnings.extend(self._settling.prepare(self.ledger.selected))
            except RevisionError as error:
                pytest.exit(str(error), returncode=2)
            if not self.served:
                self._settling.sweep(one.nodeid for one in session.items if self._is_timed(one))
        return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """
        Tell a worker of pytest-xdist how pytest was started.
        """
        node.workerinput[_WORKER_KEY] = [str(one) for one in self.config.invocation_params.args]
        self.ledger.awaits_selected = True

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """
        Take what a worker of pytest-xdist says about the whole run.
        """
        output = getattr(node, "workeroutput", None) or {}
        if _WORKER_KEY not in output:  # It crashed.
            return
        selected, warnings, has_tests = output[_WORKER_KEY]
        self.ledger.awaits_selected = False
        self.ledger.has_tests |= has_tests
        self.ledger.selected = tuple(selected)
        self.ledger.warnings.extend(one for one in warnings if one not in self.ledger.warnings)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """
        Raise a slow verdict after the test's body, as the test's own failure.
        """
        body = item.stash[BODY] = Body()
        result: object = None
        try:
            result = yield
        except Exception as error:
            # On pretended GPUs a test is followed until it needs a value.
            if GPULESS not in item.stash or not gpuless.is_for_want_of_a_value(error):
                raise
            self._give_up_following(item, error)
        finally:
            body.is_running = False
            if FIXTURE in item.stash:
                item.stash[FIXTURE].end()
        # unittest keeps its tests' exceptions to itself until pytest asks for the report.
        body.passed = not (body.has_failed_subtest or getattr(item, "_excinfo", None))
        if not (body.passed and has_measured(item)) or self.served:
            return result
        self._settle(item)
        failing = [one for one in self._brought_by(item).verdicts if fails(one, self.settings)]
        if failing:
            from pytest_kernelperf import report

            def rerun(verdict: Verdict) -> str:
                return self._rerun_command(item.nodeid)

            item.stash[HEADLINE] = report.headline(failing)
            raise KernelPerfFailure(report.reasons(failing, rerun=rerun))
        return result

    # Outermost, so that it sees what xfail and subtests have made of the report.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """
        Attach what the test brought to its report, which also travels from a worker.
        """
        report = yield
        body = item.stash.get(BODY, Body())
        if call.when == "call" and body.is_running:
            # A subtest's report: the test itself goes on, and will seem to have passed.
            body.has_failed_subtest |= report.failed
            return report
        if report.failed and body.passed and is_verdict(call):
            assert call.excinfo is not None
            report.longrepr = verdict_repr(item, call.excinfo, item.stash.get(HEADLINE, None))
        elif report.failed:
            body.passed = False
        is_end = call.when == "call" or (call.when == "setup" and not report.passed)
        if is_end and has_measured(item):
            report.kernelperf = pack(self._brought_by(item))  # type: ignore[attr-defined]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """
        Take what a test brought: after each one, so that a crash keeps the rest.
        """
        if self.is_worker:
            return
        self.ledger.has_tests = True
        packed = getattr(report, "kernelperf", None)
        if packed is not None:
            self.ledger.absorb(replace(unpack(packed), excused=excuse_of(report)))
        if report.failed:
            self.ledger.note_failure(report.nodeid, in_teardown=report.when == "teardown")

    # Outermost, so that baselines are written before the terminal's summary, and the last line
    # comes after it.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """
        Write what was asked for, once; then say in one line how much was judged.
        """
        if self.is_worker:
            return (yield)
        has_started = session.exitstatus != pytest.ExitCode.USAGE_ERROR
        if has_started and not self.config.getoption("collectonly"):
            self.ledger.finish(has_failed=session.exitstatus != pytest.ExitCode.OK)
        if self.ledger.interrupted:
            session.exitstatus = pytest.ExitCode.INTERRUPTED
        elif self.ledger.errors and session.exitstatus in _GREEN:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        result = yield
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(self.ledger.last_line())
        return result

    def pytest_unconfigure(self) -> None:
        """
        End the fresh processes, however the run ended.
        """
        self._settling.close()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """
        Show the table, the reasons, and what an update changed.
        """
        blocks = self._blocks(color=bool(terminalreporter.hasmarkup))
        if blocks and self.config.get_verbosity() >= 0:
            terminalreporter.write_sep("=", "kernelperf")
        terminalreporter.write("\n\n".join(blocks) + "\n" if blocks else "")

    def _blocks(self, *, color: bool = False) -> list[str]:
        quiet = self.config.get_verbosity() < 0
        width = self.config.get_terminal_writer().fullwidth
        return self.ledger.blocks(width=width, color=color, quiet=quiet)

    def _give_up_following(self, item: pytest.Item, error: BaseException) -> None:
        """
        End a test on pretended GPUs: as passed, if its kernels were compiled, else as skipped.
        """
        fixture = item.stash.get(FIXTURE, None)
        compiled = fixture.compiled if fixture is not None else []
        has_compiled = any(one.was_followed for one in compiled)
        if fixture is not None:
            place = self.bench().place(item.nodeid, item.path)
            fixture.compiled += item.stash[GPULESS].unfollowed(
                place, item.stash[OPTIONS], error, fixture.compiled
            )
        if not has_compiled and (fixture is None or not self.settings.strict):
            pytest.skip(f"without a GPU: {error}")

    def _is_timed(self, item: pytest.Item) -> bool:
        """
        Return whether a test can be measured on this machine, as far as that shows before it runs.
        """
        options = item.stash.get(OPTIONS, None)
        if not is_measured(item) or self.settings.compile_only:
            return False
        if options is None:
            return True
        # Which card it is would take a context on it, and this process does not measure yet.
        is_missing = bool(options.requires and find_missing(("cuda",)))
        return not (is_missing or gpuless.is_needed(options, self.settings))

    def _settle(self, item: pytest.Item) -> None:
        """
        Have a test measured in as many fresh processes as its verdicts need.
        """
        fixture = item.stash.get(FIXTURE, None)
        if fixture is None or not fixture.recorded:
            return
        bench = self.bench()
        fixture.recorded[:] = self._settling.settle(
            item.nodeid,
            fixture.recorded,
            lambda one: bench.judged(one, item.path),
            bench.room.release,
        )

    def _brought_by(self, item: pytest.Item) -> Outcome:
        return outcome_of(item, self.bench().place(item.nodeid, item.path))
