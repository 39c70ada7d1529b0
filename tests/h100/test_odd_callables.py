"""
On a real card: callables that can't be captured, synchronise, or hide work, are found out.
"""

from __future__ import annotations

from typing import Any

import pytest
from measuring import job, p50_us, random, rounds_of, take

torch = pytest.importorskip("torch")

from pytest_kernelperf.measure import Subject, measure  # noqa: E402

pytestmark = pytest.mark.h100


def works_as_before() -> None:
    """
    Expect a working torch: stream, random numbers, memory, another capture.
    """
    assert torch.cuda.default_stream() == torch.cuda.current_stream()
    assert torch.isfinite(torch.randn(1000, device="cuda")).all()
    graph = torch.cuda.CUDAGraph()
    x = torch.zeros(8, device="cuda")
    with torch.cuda.graph(graph):
        x += torch.rand(8, device="cuda") + 1
    graph.replay()
    assert (x >= 1).all()
    torch.cuda.empty_cache()


def synchronising(x: Any) -> Any:
    torch.cuda.synchronize()
    return x + 1


def reading(x: Any) -> Any:
    return x * float(x[0, 0].item() * 0 + 2)


def growing(x: Any) -> Any:
    return torch.nonzero(x > 0)


@pytest.mark.parametrize("fn", [synchronising, reading, growing])
def test_a_callable_that_synchronises_is_measured_unblocked(fn):
    found = take(Subject(fn, (random(256, 256),)), "device", samples=5)

    assert "unblocked" == found.method
    assert any("synchronises" in note for note in found.notes)
    assert () == rounds_of(found)[0].slack_us
    works_as_before()


def test_a_synchronising_callable_has_launches_with_host_time():
    found = take(Subject(synchronising, (random(256, 256),)), "launch", samples=20)

    assert "unblocked" == found.method
    works_as_before()


def legacy(x: Any) -> Any:
    """
    Refuse capture without synchronising.
    """
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError("this library does not capture")
    return x @ x


def test_what_only_refuses_capture_is_blocked_on_its_stream():
    found = take(Subject(legacy, (random(2048, 2048),)), "device", samples=10)
    captured = take(Subject(torch.mm, (random(2048, 2048), random(2048, 2048))), "device")

    assert "stream" == found.method
    assert "does not capture" in found.notes[0]
    assert all(slack_us >= 0 for slack_us in rounds_of(found)[0].slack_us)
    assert 1.0 == pytest.approx(p50_us(found) / p50_us(captured), abs=0.15)
    works_as_before()


def forking(x: Any) -> Any:
    """
    Leave half the work on a stream that waits for ours, but that ours does not wait for.
    """
    other = _OTHER[0]
    other.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(other):
        return x @ x


def escaping(x: Any) -> Any:
    """
    Do the work on a stream that has nothing to do with ours.
    """
    with torch.cuda.stream(_OTHER[0]):
        return x @ x


_OTHER: list[Any] = []


@pytest.mark.parametrize("fn", [forking, escaping])
def test_work_on_another_stream_is_found(fn):
    _OTHER[:] = [torch.cuda.Stream()]
    x = random(4096, 4096)

    _, (found,) = measure(Subject(fn, (x,)), [job("device")])
    torch.cuda.synchronize()

    # Already the guard's untimed calls may see the race: two of them then disagree.
    assert found.problem is not None
    assert found.problem.code in ("HIDDEN_WORK", "POISON_LEFT", "NOT_DETERMINISTIC", "WRONG_OUTPUT")
    works_as_before()


def test_work_on_another_stream_that_is_joined_is_fine():
    other = torch.cuda.Stream()

    def fn(x):
        other.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(other):
            half = x @ x
        torch.cuda.current_stream().wait_stream(other)
        return half + 1

    assert "graph" == take(Subject(fn, (random(1024, 1024),)), "device").method


def test_a_cached_output_is_found():
    cache = {}

    def fn(x):
        if "y" not in cache:
            cache["y"] = x + 1
        return cache["y"]

    _, (found,) = measure(Subject(fn, (random(256, 256),)), [job("device")])

    assert found.problem is not None
