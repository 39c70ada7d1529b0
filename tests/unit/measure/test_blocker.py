"""
A hold always ends: by its owner, after an error, or by the watchdog; and it says which.
"""

from __future__ import annotations

import time

import pytest

from pytest_kernelperf.measure import blocker
from pytest_kernelperf.measure.blocker import Hold, Watchdog


class Stream:
    """
    A stream that remembers what happened to it.
    """

    def __init__(self) -> None:
        self.events: list[str] = []

    def hold(self) -> Hold:
        return Hold(lambda: self.events.append("wait"), lambda: self.events.append("release"))


@pytest.fixture
def watchdog(monkeypatch):
    """
    A watchdog that bites after 20 ms.
    """
    quick = Watchdog(limit_s=0.02, every_s=0.005)
    monkeypatch.setattr(blocker, "_watchdog", lambda: quick)
    return quick


@pytest.mark.usefixtures("watchdog")
def test_a_hold_waits_then_everything_is_enqueued_then_it_is_released():
    stream = Stream()

    with stream.hold() as hold:
        stream.events.append("kernel")

    assert ["wait", "kernel", "release"] == stream.events
    assert hold.slack_us >= 0


@pytest.mark.usefixtures("watchdog")
def test_an_error_while_enqueueing_releases_and_passes_through():
    stream = Stream()

    with pytest.raises(ZeroDivisionError), stream.hold():
        _ = 1 / 0

    assert ["wait", "release"] == stream.events


@pytest.mark.usefixtures("watchdog")
def test_a_wait_that_fails_still_writes_the_word():
    """
    Whether the device began to wait before the error is unknown, so it is released.
    """
    events: list[str] = []

    def fail() -> None:
        raise RuntimeError("no such operation")

    with pytest.raises(RuntimeError), Hold(fail, lambda: events.append("release")):
        pass

    assert ["release"] == events


@pytest.mark.usefixtures("watchdog")
def test_the_watchdog_releases_a_callable_that_waits_for_itself():
    stream = Stream()

    with stream.hold() as hold:
        deadline = time.monotonic() + 5
        while "release" not in stream.events and time.monotonic() < deadline:
            time.sleep(0.001)

    assert ["wait", "release"] == stream.events
    assert hold.slack_us < 0


def test_the_watchdog_leaves_a_hold_alone_that_has_ended(watchdog):
    stream = Stream()
    with stream.hold():
        pass
    watchdog.watch(stream.hold())
    watchdog.forget()

    time.sleep(0.05)

    assert ["wait", "release"] == stream.events


def test_the_polling_kernel_compiles_for_hopper_without_a_gpu():
    """
    It must read the word anew each time, or it would spin for ever.
    """
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pytest_kernelperf.measure.polling_kernel import poll

    source = ASTSource(fn=poll, signature={"word_ptr": "*i32", "ticket": "i32"}, constexprs={})
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1})

    assert 2 == compiled.asm["ptx"].count("ld.volatile.global")
