"""
How what we find stands in pytest's own reports.
"""

from __future__ import annotations

from typing import Any

import pytest

from pytest_kernelperf.errors import KernelPerfFailure


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
