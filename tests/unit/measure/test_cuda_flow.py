"""
The device timer from end to end, on a simulated device.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from simulated_device import EVENT_US, Blocker, Graph, Simulation, add, job, take

torch = pytest.importorskip("torch")

from pytest_kernelperf.measure import cuda, device, sustained, trial  # noqa: E402
from pytest_kernelperf.measure.subject import Job, Subject  # noqa: E402
from pytest_kernelperf.model import Plan  # noqa: E402


def sustained_job(simulation: Simulation, patch: pytest.MonkeyPatch) -> Job:
    """
    Return a job of a sustained pace, steady at once.
    """
    for name in ("_WINDOW_S", "_LEAST_S"):
        patch.setattr(sustained, name, 0.0)
    one = job("device", samples=4)
    return replace(one, case=replace(one.case, pace="sustained"))


def test_the_device_timer_reads_the_mean_of_a_graph_of_calls(simulation):
    taken = take(add(simulation), job("device"))

    # 1 ms of 3 µs calls, the overhead of two events spread over them.
    calls = taken.plan.calls_per_sample
    expected = round(3.0 + EVENT_US / calls, 6)
    assert ("graph", 2, (), None) == (taken.method, len(taken.rounds), taken.notes, taken.problem)
    assert (expected,) * 4 == pytest.approx(taken.rounds[0].times_us)
    assert (1980.0,) * 4 == pytest.approx(taken.rounds[0].clock_mhz, abs=0.2)
    assert all(slack_us >= 0 for slack_us in taken.rounds[0].slack_us)
    assert 4 == len(taken.rounds[0].slack_us)


def test_every_sample_is_preceded_by_the_idle_gap(simulation):
    taken = take(add(simulation), job("device"))

    gaps = [line for line in simulation.log if line == f"rest {taken.plan.gap_us:g}"]
    assert 8 == len(gaps)


@pytest.mark.parametrize("fade_s", [0.0, 1.5])
def test_rounds_wait_until_what_siblings_did_before_is_seen_no_more(
    simulation, monkeypatch, fade_s
):
    driver = SimpleNamespace(siblings_fade_s=lambda: fade_s)
    monkeypatch.setattr(cuda, "nvml_card", lambda _: driver)
    monkeypatch.setattr(cuda, "sleep", lambda s: simulation.log.append(f"wait {s:g}"))

    taken = take(add(simulation), job("device"))

    waits = [line for line in simulation.log if line.startswith("wait")]
    assert ([f"wait {fade_s:g}"] if fade_s else []) == waits
    if waits:
        first_gap = simulation.log.index(f"rest {taken.plan.gap_us:g}")
        assert simulation.log.index(waits[0]) < first_gap


def test_a_pinned_plan_is_reused_exactly_and_nothing_is_estimated(simulation):
    pinned = Plan(7, 7, 1000.0, 4, 2, 3)

    taken = take(add(simulation), job("device", pinned=pinned, rounds=None, samples=None))

    assert pinned == taken.plan
    assert 3.0 + EVENT_US / 7 == pytest.approx(taken.rounds[0].times_us[0])


def test_small_inputs_are_flushed_from_the_cache_and_large_ones_rotate(simulation):
    simulation.l2_bytes = 4096
    large = Subject(add(simulation, 100.0).fn, (torch.zeros(1024),))

    rotated = take(large, job("device", "cold"))
    flushes_rotated = [one for one in simulation.records if one.name == "flush"]
    take(add(simulation), job("device", "cold", pinned=Plan(7, 7, 0.0, 4, 2, 3)))
    flushes = [one for one in simulation.records if one.name == "flush"][len(flushes_rotated) :]

    assert 3 == rotated.plan.input_sets
    # One is the card's own warm-up; the small inputs are flushed once per sample.
    assert (1, 8) == (len(flushes_rotated), len(flushes))


def test_a_sample_at_a_fallen_clock_is_dropped_counted_and_measured_again(simulation):
    subject = add(simulation)
    shots = iter([False] * 3 + [True] + [False] * 50)
    real = device._Runner.shot

    def shot(runner: Any, gap_us: float) -> Any:
        taken = real(runner, gap_us)
        if not next(shots):
            return taken
        return replace(taken, time_us=taken.time_us * 1.25, before_mhz=1584.0, after_mhz=1584.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device._Runner, "shot", shot)
        first, second = take(subject, job("device")).rounds

    assert ([4, 4], [1, 0]) == (
        [len(one.times_us) for one in (first, second)],
        [len(one.discarded) for one in (first, second)],
    )
    assert ("CLOCK_FELL", 1584.0) == (first.discarded[0].reason, first.discarded[0].clock_mhz)


def test_a_callable_that_can_not_be_captured_is_measured_on_its_stream(simulation):
    def fn(x: Any) -> Any:
        simulation.refuse_capture()
        simulation.work("add", 3.0)
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("device"))

    assert ("stream", None) == (taken.method, taken.problem)
    assert "legacy stream" in taken.notes[0]
    assert 3.0 == pytest.approx(taken.rounds[0].times_us[0], rel=0.02)


def test_a_callable_that_synchronises_is_found_out_and_measured_unblocked(simulation):
    def fn(x: Any) -> Any:
        simulation.work("add", 3.0)
        torch.cuda.synchronize()
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("device"))

    assert ("unblocked", None) == (taken.method, taken.problem)
    assert trial.SYNCHRONISES in taken.notes
    assert ((), ()) == (taken.rounds[0].slack_us, taken.rounds[0].clock_mhz)


def test_a_callable_that_synchronises_only_later_starts_again_unblocked(simulation):
    """
    It passed the trial; two late samples in a row give it away.
    """
    calls = 0

    def fn(x: Any) -> Any:
        nonlocal calls
        calls += 1
        simulation.refuse_capture()
        simulation.work("add", 3.0)
        if calls > 20:
            torch.cuda.synchronize()
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("device"))

    assert ("unblocked", [4, 4]) == (taken.method, [len(one.times_us) for one in taken.rounds])


def test_work_that_nobody_joins_is_a_problem(simulation):
    def fn(x: Any) -> Any:
        if simulation.capturing is not None:
            raise RuntimeError("capturing stream has unjoined work")
        simulation.work("add", 3.0)
        return x + 1

    taken = take(Subject(fn, (torch.arange(8.0),)), job("device"))

    assert "HIDDEN_WORK" == taken.problem.code
    assert () == taken.rounds


def test_a_call_that_launches_nothing_is_a_problem(simulation):
    taken = take(Subject(lambda x: x + 1, (torch.arange(8.0),)), job("device"))

    assert "HIDDEN_WORK" == taken.problem.code


def test_an_output_that_the_replay_does_not_write_is_a_problem(simulation, monkeypatch):
    monkeypatch.setattr(Graph, "replay", lambda graph: None)

    taken = take(add(simulation), job("device"))

    assert "POISON_LEFT" == taken.problem.code


def test_a_sustained_pace_leaves_no_gap_and_no_hold(simulation, monkeypatch):
    holds = []
    wanted = sustained_job(simulation, monkeypatch)
    real = device.back_to_back

    def watched(*arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Blocker, "hold", holds.append)
            return real(*arguments)

    monkeypatch.setattr(device, "back_to_back", watched)

    taken = take(add(simulation), replace(wanted, rounds=1))

    calls = taken.plan.calls_per_sample
    assert ("graph", 0.0, None) == (taken.method, taken.plan.gap_us, taken.problem)
    assert 3.0 + EVENT_US / calls == pytest.approx(taken.rounds[0].times_us[0])
    assert {0.0} == set(taken.rounds[0].slack_us)
    assert [] == holds


def test_where_the_host_can_not_keep_ahead_a_sustained_pace_is_unblocked_and_says_so(
    simulation, monkeypatch
):
    wanted = sustained_job(simulation, monkeypatch)
    simulation.runs_dry = True

    taken = take(add(simulation), wanted)

    assert ("unblocked", [4, 4]) == (taken.method, [len(one.times_us) for one in taken.rounds])
    assert device.HOST_TOO_SLOW in taken.notes
