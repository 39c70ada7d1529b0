"""
What the card's surroundings do to a measurement: neighbours, clocks, a card that is never idle.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest
from measuring import p50_us, random

torch = pytest.importorskip("torch")

from pytest_kernelperf.measure import Job, Subject, measure, neighbours  # noqa: E402 - needs torch
from pytest_kernelperf.measure.card import Card  # noqa: E402
from pytest_kernelperf.measure.nvml import nvml_card  # noqa: E402
from pytest_kernelperf.model import Case, Measurement  # noqa: E402

pytestmark = pytest.mark.h100

#: Holds a context on the card and, if asked, multiplies until its input ends.
NEIGHBOUR = """
import sys, threading, torch
x = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
torch.cuda.synchronize()
print("ready", flush=True)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
while not ended.is_set():
    if sys.argv[1] == "busy":
        for _ in range(20):
            y = x @ x
        torch.cuda.synchronize()
    else:
        ended.wait(0.05)
"""

#: Multiplies until a line comes, and then stays on the card until its input ends.
SIBLING = """
import sys, threading, torch
x = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
torch.cuda.synchronize()
print("ready", flush=True)
stopped = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stopped.set()), daemon=True).start()
while not stopped.is_set():
    for _ in range(20):
        y = x @ x
    torch.cuda.synchronize()
print("stopped", flush=True)
sys.stdin.read()
"""


@contextmanager
def neighbour(what: str) -> Iterator[None]:
    """
    Run another process on the card until the block ends.
    """
    with subprocess.Popen(
        [sys.executable, "-c", NEIGHBOUR, what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert "ready" == process.stdout.readline().strip()
        time.sleep(1.5)
        try:
            yield
        finally:
            process.communicate("")


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Make children strangers: here they stand for somebody else's processes.
    """
    monkeypatch.setattr(neighbours, "_belongs", lambda pid, family: pid in family)


def take(fn: Any, *args: Any, pace: str = "paced", **wishes: Any) -> Measurement:
    case = Case("test_x.py", "test_x", "", "device", "cold", pace)
    _, (found,) = measure(Subject(fn, args), [Job(case, **wishes)])
    assert found.problem is None, found.problem
    return found


def _driver_names_processes(card: Card) -> bool:
    driver: Any = nvml_card(card.index)
    return bool(driver._ask("nvmlDeviceGetComputeRunningProcesses", driver._slice))


def seen_while_working(card: Card) -> int:
    """
    Return how many foreign processes a round would note: this one computes too, for a second.
    """
    watch = nvml_card(card.index).watch()
    until = time.monotonic() + 1.2
    while time.monotonic() < until:
        card.wake()
    return watch.read().foreign_processes


def test_a_neighbour_that_computes_is_seen_and_an_idle_one_is_not(card, stranger):
    if not _driver_names_processes(card):
        pytest.skip("the driver names no processes here: no neighbour can be seen")
    with neighbour("busy"):
        busy = seen_while_working(card)
    time.sleep(2.5)
    with neighbour("idle"):
        used = nvml_card(card.index)._ask("nvmlDeviceGetProcessUtilization", None, 0)
        idle = seen_while_working(card)

    assert 1 == busy
    assert (0 if used is not None else 1) == idle


def test_rounds_beside_a_neighbour_are_taken_again_and_stay_marked(card, stranger):
    if not _driver_names_processes(card):
        pytest.skip("the driver names no processes here: no neighbour can be seen")
    with neighbour("busy"):
        found = take(torch.neg, random(4096, 4096), rounds=2)

    rounds = found.processes[0].rounds
    assert any(one.foreign_processes for one in rounds)
    assert "ROUND_SHARED" in {each.reason for one in rounds for each in one.discarded}
    assert any("another process computed on the card" in note for note in found.notes)


def test_our_own_children_are_no_neighbours(card):
    with neighbour("busy"):
        assert 0 == nvml_card(card.index).watch().read().foreign_processes


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch, card: Card) -> Any:
    """
    The driver, as a container sees it: our own number is not among those that it names.
    """
    driver: Any = nvml_card(card.index)
    if not _driver_names_processes(card) or driver._utilisation(0) is None:
        pytest.skip("the driver does not tell which processes compute here")
    inside = SimpleNamespace(getpid=lambda: 0, environ=os.environ)
    monkeypatch.setattr(neighbours, "os", inside)
    for name in (neighbours.FAMILY, neighbours.TURN):
        monkeypatch.setenv(name, "")
    return driver


def test_in_a_container_a_neighbour_does_not_pass_for_a_sibling_that_waits(card, unnamed):
    neighbours.begin_turn((1, 2, 3, 4, 5, 6))
    with neighbour("busy"):
        assert 1 == seen_while_working(card)


def test_in_a_container_what_a_sibling_did_before_is_waited_out(card, unnamed):
    with subprocess.Popen(
        [sys.executable, "-c", SIBLING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as sibling:
        assert sibling.stdin is not None
        assert sibling.stdout is not None
        assert "ready" == sibling.stdout.readline().strip()
        time.sleep(1.5)
        sibling.stdin.write("\n")
        sibling.stdin.flush()
        assert "stopped" == sibling.stdout.readline().strip()
        neighbours.begin_turn((1, 2))
        fade_s = unnamed.siblings_fade_s()
        time.sleep(fade_s)
        seen = seen_while_working(card)
        sibling.communicate("")

    assert fade_s > 0
    assert 0 == seen


def test_the_canary_reads_the_clock_and_no_more(card):
    """
    A spin of 5 ms gives the clock to 0.05 %; the canary beside it must agree.
    """
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    canaries = []
    spins = []
    cycles = 10_000_000
    for _ in range(9):
        time.sleep(0.002)
        shot = card.shoot(lambda: None, 1, flush=False)
        canaries.append(shot.clock_mhz)
        with card.hold():
            card.canary.lead_in()
            begin.record()
            card.spin(cycles)
            end.record()
        end.synchronize()
        spins.append(cycles / (begin.elapsed_time(end) * 1e3))
    highest = nvml_card(card.index).facts().max_sm_clock_mhz

    assert median(spins) == pytest.approx(median(canaries), rel=0.006)
    # NVML's figure is nominal: a card of "1980" ran every spin at 1993.7 to 1993.8 MHz (+0.70 %).
    assert median(spins) <= highest * 1.01


def test_the_driver_tells_the_memory_clock(card):
    card.wake()

    assert 1000 < nvml_card(card.index).read().memory_clock_mhz < 10_000


def test_a_sustained_pace_is_slower_where_power_runs_out():
    x = random(4096, 4096)

    paced = take(torch.matmul, x, x, rounds=2)
    busy = take(torch.matmul, x, x, pace="sustained", rounds=2)

    assert ("graph", 0.0, 100) == (busy.method, busy.plan.gap_us, busy.plan.samples)
    assert 1.02 < p50_us(busy) / p50_us(paced) < 1.6
    # The clock beside the samples says why.
    clocks = [
        median(mhz for one in each.processes[0].rounds for mhz in one.clock_mhz)
        for each in (paced, busy)
    ]
    assert clocks[1] < 0.98 * clocks[0]


def test_a_sustained_pace_changes_little_where_memory_is_the_limit():
    x = random(64 * 2**20)

    paced = take(torch.neg, x, rounds=2)
    busy = take(torch.neg, x, pace="sustained", rounds=2)

    assert 1.0 == pytest.approx(p50_us(busy) / p50_us(paced), abs=0.03)


@pytest.mark.parametrize("size", [256, 4096])
def test_nearly_no_sample_of_a_sustained_pace_waits_for_the_host(size):
    """
    Short kernels too: a graph of many calls is one enqueue.
    """
    found = take(torch.neg, random(size, size), pace="sustained", rounds=2)

    slacks = [slack for one in found.processes[0].rounds for slack in one.slack_us]
    assert sum(slack < 0 for slack in slacks) <= 0.02 * len(slacks)


def test_what_a_sustained_pace_repeats_within_a_process_is_the_work_not_the_clock():
    """
    Where power runs out the clock may wander by 10 % from round to round; cycles hardly.

    Not exactly: what waits for memory takes fewer cycles at a lower clock. 3.3 % was the most seen.
    """
    x = random(4096, 4096)

    rounds = take(torch.matmul, x, x, pace="sustained", rounds=3).processes[0].rounds

    cycles = [median(one.times_us) * median(one.clock_mhz) for one in rounds]
    assert max(cycles) / min(cycles) < 1.05
