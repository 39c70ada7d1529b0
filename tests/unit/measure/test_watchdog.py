"""
A callable that never returns ends the process, which first says where it hangs.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pytest_kernelperf.measure import watchdog

ROOT = Path(__file__).parents[3]
PRELUDE = """
import faulthandler, os, sys, time
from pytest_kernelperf.measure import watchdog
"""


def run(body: str) -> tuple[int, str]:
    """
    Run a script in a fresh process; return its exit status and what it wrote to standard error.
    """
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(body)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("hang", ["while True: pass", "time.sleep(1000)"], ids=["loop", "sleep"])
def test_a_hanging_callable_is_named_and_the_process_ends(hang: str) -> None:
    status, said = run(f"""
        def never_returns():
            {hang}
        with watchdog.watch(0.3, "test_x[8]", lambda: "SAVED"):
            never_returns()
    """)

    assert 70 == status
    assert "kernelperf: test_x[8] did not return within 0.3 s" in said
    assert "in never_returns" in said
    assert "SAVED" in said


def test_a_callable_that_holds_the_interpreter_is_ended_from_c() -> None:
    """
    No Python thread can run then: the stack is all that is said.
    """
    status, said = run("""
        import re
        watchdog.BACKSTOP_S = 0.3
        def backtracks():
            re.match(r"(a+)+$", "a" * 64 + "b")
        with watchdog.watch(0.2, "test_x", lambda: ""):
            backtracks()
    """)

    assert 1 == status
    assert "Timeout" in said
    assert "in backtracks" in said


def test_saving_that_hangs_too_is_ended_from_c() -> None:
    status, said = run("""
        watchdog.SAVING_S = 0.3
        with watchdog.watch(0.2, "test_x", lambda: time.sleep(1000)):
            time.sleep(1000)
    """)

    assert 1 == status
    assert "test_x did not return" in said


def test_saving_that_fails_ends_the_process_all_the_same() -> None:
    status, _ = run("""
        with watchdog.watch(0.2, "test_x", lambda: 1 / 0):
            time.sleep(1000)
    """)

    assert 70 == status


def test_the_report_reaches_the_real_stderr_under_capture() -> None:
    """
    Under capture, descriptor 2 is a file that dies with the process.
    """
    status, said = run("""
        watchdog.install()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with watchdog.watch(0.2, "test_x", lambda: ""):
            time.sleep(1000)
    """)

    assert 70 == status
    assert "test_x did not return" in said


def test_a_callable_that_returns_in_time_leaves_nothing_behind() -> None:
    status, said = run("""
        watchdog.BACKSTOP_S = 0.1
        with watchdog.watch(0.1, "test_x", lambda: os.write(2, b"HANG")):
            pass
        time.sleep(0.5)
    """)

    assert (0, "") == (status, said)


def test_the_outer_watch_goes_on_after_an_inner_one() -> None:
    status, said = run("""
        watchdog.SAVING_S = 0.2
        with watchdog.watch(0.5, "outer", lambda: time.sleep(1000)):
            with watchdog.watch(100, "inner", lambda: ""):
                pass
            time.sleep(1000)
    """)

    assert 1 == status
    assert "outer did not return" in said
    assert "Timeout" in said


def test_pytests_own_timeout_is_armed_again() -> None:
    status, said = run("""
        watchdog.install(faulthandler_timeout_s=0.2)
        with watchdog.watch(100, "test_x", lambda: ""):
            pass
        time.sleep(0.6)
    """)

    assert 0 == status
    assert "Timeout (0:00:00.2" in said


def test_without_a_setting_no_timer_is_left_armed(monkeypatch: pytest.MonkeyPatch) -> None:
    armed: list[float] = []
    monkeypatch.setattr(
        watchdog.faulthandler,
        "dump_traceback_later",
        lambda seconds, **options: armed.append(seconds),
    )

    with watchdog.watch(50, "test_x", lambda: ""):
        pass

    assert [pytest.approx(60, abs=1)] == armed


def test_an_exception_passes_through_and_ends_the_watch() -> None:
    with pytest.raises(ValueError, match="mine"), watchdog.watch(50, "test_x", lambda: ""):
        raise ValueError("mine")

    assert () == watchdog._STATE.ends


def test_what_ends_in_time_is_not_given_up() -> None:
    body = watchdog._Body()

    assert not body.has_ended_late()
    assert not body.is_given_up_after(0.0)


def test_what_was_given_up_has_ended_late() -> None:
    body = watchdog._Body()

    assert body.is_given_up_after(0.0)
    assert body.has_ended_late()


def test_a_body_that_returns_while_the_run_is_kept_does_not_go_on() -> None:
    """Two threads would end the same run."""
    status, said = run("""
        watchdog.install(faulthandler_timeout_s=0.0)
        kept = []

        def keep():
            while not kept:
                time.sleep(0.01)
            time.sleep(0.3)
            return "all is kept"

        with watchdog.watch(0.05, "late", keep):
            time.sleep(0.5)
            kept.append(True)
        print("gone on", file=sys.stderr)
    """)

    assert watchdog.EXIT_STATUS == status
    assert "all is kept" in said
    assert "gone on" not in said
