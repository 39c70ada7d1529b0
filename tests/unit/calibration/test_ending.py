"""
What ends a calibration's running process.
"""

from __future__ import annotations

import signal

import pytest

from pytest_kernelperf.calibration.processes import terminate_as_interrupt


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_would_leave_a_process_behind_is_an_interrupt(number):
    before = signal.getsignal(number)

    with pytest.raises(KeyboardInterrupt), terminate_as_interrupt():
        signal.raise_signal(number)

    assert before is signal.getsignal(number)


def test_under_nohup_a_closed_terminal_ends_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminate_as_interrupt():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
