"""
How much is measured follows from the callable's time, its memory, and what was asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kernelperf.analysis.intervals import samples_needed
from pytest_kernelperf.errors import SubjectError
from pytest_kernelperf.measure.plan import MAX_NODES, choose_host_plan, choose_plan, shortage
from pytest_kernelperf.measure.subject import Job
from pytest_kernelperf.model import Case, Plan

MIB = 2**20
L2 = 50 * MIB
FREE = 78 * 1024 * MIB
CASE = Case("t.py", "test_x", "", "device", "cold", "paced")
PINNED = Plan(calls_per_sample=7, burst=7, gap_us=1000.0, samples=11, rounds=2, input_sets=3)


def plan(timer: str, estimate_us: float, footprint_mib: float = 0.0, **options: Any) -> Plan:
    """
    Return the plan on a card like an H100; options change the job or the card.
    """
    names = ("pinned", "rounds", "samples", "max_time_s", "tail")
    job = Job(CASE, **{name: options.pop(name) for name in names if name in options})
    card: dict[str, Any] = {
        "nodes_per_call": 1,
        "l2_bytes": L2,
        "free_bytes": FREE,
        "cold": True,
        "rewrites": False,
        "fn": abs,
    }
    card |= options
    return choose_plan(
        timer, estimate_us, footprint_bytes=int(footprint_mib * MIB), job=job, **card
    )


@pytest.mark.parametrize(
    ("why", "made", "expected"),
    [
        ("about 1 ms per sample", plan("device", 10), Plan(100, 100, 2000.0, 20, 5, 1)),
        ("at most 512 nodes", plan("device", 1), Plan(512, 512, 2000.0, 20, 5, 1)),
        ("two nodes a call", plan("device", 1, nodes_per_call=2), Plan(256, 256, 2000.0, 20, 5, 1)),
        ("at least one call", plan("device", 5000), Plan(1, 1, 2000.0, 20, 5, 1)),
        ("many nodes", plan("device", 5000, nodes_per_call=900), Plan(1, 1, 2000.0, 20, 5, 1)),
        ("nothing measurable", plan("device", 0.0), Plan(512, 512, 2000.0, 20, 5, 1)),
        # 100 MiB must pass between two uses of a set: 51 sets of 2 MiB do, 50 do not.
        ("cold", plan("device", 10, 2), Plan(100, 100, 2000.0, 20, 5, 51)),
        ("warm", plan("device", 10, 2, cold=False), Plan(100, 100, 2000.0, 20, 5, 1)),
        ("cold, few calls", plan("device", 500, 2), Plan(2, 2, 2000.0, 20, 5, 2)),
        ("cold, large", plan("device", 100, 400), Plan(10, 10, 2000.0, 20, 5, 1)),
        ("restored", plan("device", 10, 2, rewrites=True), Plan(100, 100, 2000.0, 20, 5, 100)),
        # 40 % of 100 MiB holds 20 sets of 2 MiB: fewer calls, each on a set of its own.
        (
            "restored, little memory",
            plan("device", 10, 2, rewrites=True, cold=False, free_bytes=100 * MIB),
            Plan(20, 20, 2000.0, 20, 5, 20),
        ),
        ("launch", plan("launch", 10), Plan(1, 100, 2000.0, 200, 3, 1)),
        ("launch, tail", plan("launch", 10, tail=True), Plan(1, 100, 2000.0, 500, 5, 1)),
        ("launch, cold", plan("launch", 10, 2), Plan(1, 100, 2000.0, 200, 3, 51)),
        ("launch, long kernel", plan("launch", 200), Plan(1, 25, 2000.0, 200, 3, 1)),
        (
            "launch, many nodes",
            plan("launch", 1, nodes_per_call=20),
            Plan(1, 25, 2000.0, 200, 3, 1),
        ),
        (
            "launch, restored",
            plan("launch", 10, 2, rewrites=True),
            Plan(1, 100, 2000.0, 200, 3, 100),
        ),
        ("wall", plan("wall", 10), Plan(1, 1, 0.0, 200, 5, 1)),
        ("wall, cold", plan("wall", 10, 2), Plan(1, 1, 0.0, 200, 5, 51)),
        ("wall, restored", plan("wall", 10, 2, rewrites=True), Plan(1, 1, 0.0, 200, 5, 51)),
        # 100 samples of 103 ms take 10 s: samples go down to 10, then rounds until 5 s are kept.
        ("slow", plan("device", 100_000), Plan(1, 1, 2000.0, 10, 4, 1)),
        ("slower than the limit", plan("device", 10e6), Plan(1, 1, 2000.0, 10, 3, 1)),
        ("time limit", plan("device", 10, max_time_s=0.2), Plan(100, 100, 2000.0, 10, 5, 1)),
        ("time given", plan("device", 100_000, max_time_s=60), Plan(1, 1, 2000.0, 20, 5, 1)),
        ("samples given", plan("device", 1e6, samples=40), Plan(1, 1, 2000.0, 40, 3, 1)),
        ("rounds given", plan("device", 1e6, rounds=9), Plan(1, 1, 2000.0, 10, 9, 1)),
        ("both given", plan("device", 1e6, rounds=2, samples=3), Plan(1, 1, 2000.0, 3, 2, 1)),
        ("pinned", plan("device", 10, 2, pinned=PINNED), PINNED),
        ("pinned, time", plan("device", 1e6, pinned=PINNED, max_time_s=0.1), PINNED),
        ("pinned, rounds", plan("device", 10, pinned=PINNED, rounds=1), replace(PINNED, rounds=1)),
        (
            "pinned, samples",
            plan("device", 9, pinned=PINNED, samples=9),
            replace(PINNED, samples=9),
        ),
    ],
    ids=lambda value: value.replace(",", "").replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_plan_fits_its_callable(why: str, made: Plan, expected: Plan) -> None:
    assert expected == made


@pytest.mark.parametrize("options", [{}, {"pinned": replace(PINNED, input_sets=1)}])
def test_copies_that_do_not_fit_are_refused_with_numbers(options: dict[str, Any]) -> None:
    with pytest.raises(
        SubjectError, match=r"of abs do not fit: 1 set\(s\) of 41\.0 MiB.*40% of the 100\.0 MiB"
    ):
        plan("device", 10, 41, cold=False, free_bytes=100 * MIB, **options)


def test_the_gaps_between_strided_elements_count_as_memory_only() -> None:
    """
    A strided view touches little, so many sets are needed, but each copy takes its whole span.
    """
    with pytest.raises(SubjectError, match=r"51 set\(s\) of 1000\.0 MiB"):
        plan("device", 10, 2, copy_bytes=1000 * MIB)


@given(
    estimate_us=st.floats(0.01, 1e7),
    footprint_mib=st.integers(0, 2000),
    nodes=st.integers(1, 2000),
    timer=st.sampled_from(["device", "launch", "wall"]),
    cold=st.booleans(),
    rewrites=st.booleans(),
)
def test_no_plan_overfills_the_queue_or_the_memory(
    estimate_us: float, footprint_mib: int, nodes: int, timer: str, cold: bool, rewrites: bool
) -> None:
    made = plan(
        timer, estimate_us, footprint_mib, nodes_per_call=nodes, cold=cold, rewrites=rewrites
    )

    assert 1 == made.burst or made.burst * nodes <= MAX_NODES
    assert made.calls_per_sample <= made.burst
    assert made.input_sets * footprint_mib * MIB <= 0.4 * FREE
    assert made.samples >= 10
    assert made.rounds >= 3
    if rewrites and timer != "wall":
        assert made.burst <= made.input_sets


@pytest.mark.parametrize(
    ("estimate_us", "options", "expected"),
    [
        (10.0, {}, (200, 5)),
        (2000.0, {}, (50, 5)),
        (2000.0, {"tail": True}, (200, 5)),
        (20_000.0, {}, (20, 5)),
        (50_000.0, {}, (13, 5)),
        (100_000.0, {}, (10, 3)),
        (100_000.0, {"max_time_s": 10}, (13, 5)),
        (1e6, {}, (10, 3)),
        (0.0, {}, (200, 5)),
        (1e6, {"samples": 4, "rounds": 1}, (4, 1)),
        (10.0, {"pinned": PINNED}, (11, 2)),
    ],
)
def test_on_a_cpu_the_samples_follow_the_callable(
    estimate_us: float, options: dict[str, Any], expected: tuple[int, int]
) -> None:
    made = choose_host_plan(estimate_us, job=Job(CASE, **options))

    assert expected == (made.samples, made.rounds)


def test_on_a_cpu_the_warm_up_counts_against_the_time_limit() -> None:
    made = choose_host_plan(20_000.0, job=Job(CASE), spent_us=3e6)

    assert (13, 5) == (made.samples, made.rounds)


def test_a_cut_plan_says_what_is_missing() -> None:
    job = Job(CASE)
    said = shortage(plan("device", 10e6), "device", job)

    assert said == (
        "10 instead of 20 samples per round and 3 instead of 5 rounds, to stay near the time limit "
        "of 5 s; raise max_time"
    )


@pytest.mark.parametrize(
    "job", [Job(CASE), Job(CASE, samples=3, rounds=1), Job(CASE, pinned=PINNED)]
)
def test_what_was_not_cut_needs_no_note(job: Job) -> None:
    made = plan("device", 10, samples=job.samples, rounds=job.rounds, pinned=job.pinned)

    assert shortage(made, "device", job) is None


def test_a_sustained_pace_has_no_gaps_and_more_samples():
    sustained = Job(replace(CASE, pace="sustained"))

    found = choose_plan(
        "device",
        10.0,
        nodes_per_call=1,
        footprint_bytes=0,
        l2_bytes=L2,
        free_bytes=FREE,
        cold=True,
        rewrites=False,
        fn=abs,
        job=sustained,
    )

    assert Plan(100, 100, 0.0, 100, 5, 1) == found
    assert shortage(found, "device", sustained) is None


@pytest.mark.parametrize("timer", ["launch", "wall"])
@pytest.mark.parametrize("tail", [False, True])
def test_a_default_plan_holds_enough_samples_for_a_p99(timer: str, tail: bool) -> None:
    chosen = plan(timer, 10, tail=tail)

    assert chosen.samples * chosen.rounds >= samples_needed(99.0)
