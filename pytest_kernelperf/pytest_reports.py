"""
How what we find stands in pytest's own reports.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from pytest_kernelperf.errors import KernelPerfFailure

_PACKAGE = Path(__file__).parent


def report_collection_error(config: pytest.Config, nodeid: str, message: str) -> None:
    """
    Report an error of collection that is one test's own and leaves the others alone.

    pytest-xdist drops reports with a text that it has seen, so the text names the test too.
    """
    report = pytest.CollectReport(
        nodeid=nodeid, outcome="failed", longrepr=f"{message}\nin {nodeid}", result=[]
    )
    config.hook.pytest_collectreport(report=report)


def is_verdict(call: pytest.CallInfo[None]) -> bool:
    """
    Return whether a test failed by a slow verdict, and not by its own doing.
    """
    return call.excinfo is not None and isinstance(call.excinfo.value, KernelPerfFailure)


def excuse_of(report: pytest.TestReport) -> str:
    """
    Return why pytest does not fail a test whatever went wrong in it; "" if it has no such reason.
    """
    # A status that plugins give which run a failed test again.
    if str(report.outcome) == "rerun":
        return "rerun"
    if not report.skipped:
        return ""
    return "xfail" if hasattr(report, "wasxfail") else "skip"


def hide_our_frames(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """
    Have pytest show an error of ours at the line of the test that made it.
    """
    if call.excinfo is None or item.config.getoption("fulltrace"):
        return
    kept: TracebackType | None = None
    for one in reversed(list(_links(call.excinfo.tb))):
        path = Path(one.tb_frame.f_code.co_filename)
        if path == item.path or not path.is_relative_to(_PACKAGE):
            kept = TracebackType(kept, one.tb_frame, one.tb_lasti, one.tb_lineno)
    error = call.excinfo.value.with_traceback(kept)
    call.excinfo = pytest.ExceptionInfo.from_exception(error)


def _links(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def quote(report: pytest.TestReport, error: BaseException) -> None:
    """
    Have the short summary and JUnit quote an error of ours without its long class name.
    """
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = str(error)


def verdict_repr(
    item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException], headline: str | None
) -> Any:
    """
    Return how pytest shows a verdict raised after the body: the message, without our frames.
    """
    shown = excinfo.getrepr(style="value")
    crash = getattr(shown, "reprcrash", None)
    if crash is not None:
        # What the short summary and JUnit quote, behind the test's name: so not the name again.
        crash.message = headline or str(excinfo.value).splitlines()[0]
        crash.path, crash.lineno = str(item.path), (item.location[1] or 0) + 1
    return shown
