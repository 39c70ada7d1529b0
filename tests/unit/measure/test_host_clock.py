"""
The wall timer on a CPU times single calls and nothing around them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_kernelperf.measure import Job, Subject, host_clock
from pytest_kernelperf.measure.guard import Guard
from pytest_kernelperf.measure.subject import Taken
from pytest_kernelperf.model import Case

torch = pytest.importorskip("torch")

CASE = Case("t.py", "test_x", "", "wall", "warm", "paced")


class FakeClock:
    """
    A clock that only the measured callables move.
    """

    def __init__(self) -> None:
        self.now_ns = 0
        self.log: list[str] = []

    def __call__(self) -> int:
        return self.now_ns

    def spending(self, time_us: float, name: str = "") -> Any:
        """
        Return a callable that takes this long.
        """

        def fn(x: Any = 1) -> Any:
            self.now_ns += int(time_us * 1000)
            self.log.append(name)
            return x * 2

        return fn


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(host_clock, "perf_counter_ns", fake)
    return fake


def taken(fn: Any, *args: Any, job: Job | None = None, **options: Any) -> Taken:
    """
    Measure a callable with the host's clock.
    """
    subject = Subject(fn, args, **options)
    guard = Guard(subject)
    assert guard.learn() is None
    return host_clock.take({"": subject}, {"": guard}, job or Job(CASE), lambda text: None)[""]


def test_a_sample_is_one_call(clock: FakeClock) -> None:
    found = taken(clock.spending(123.456))

    assert "host-clock" == found.method
    assert {123.456} == {t for one in found.rounds for t in one.times_us}
    assert [200] * 5 == [len(one.times_us) for one in found.rounds]


def test_a_slow_callable_gets_fewer_samples(clock: FakeClock) -> None:
    found = taken(clock.spending(1e6))

    assert [10] * 3 == [len(one.times_us) for one in found.rounds]
    assert "10 instead of 20 samples per round" in found.notes[0]


@pytest.mark.parametrize("time_us", [1.0, 500.0, 5e3, 20e3, 50e3, 80e3])
@pytest.mark.parametrize("limit_s", [5.0, 10.0])
def test_all_calls_together_stay_within_the_time_limit(
    clock: FakeClock, time_us: float, limit_s: float
) -> None:
    """
    Those that learn, warm up, check and renew included; ten samples in three rounds fit here.
    """
    taken(clock.spending(time_us), job=Job(CASE, max_time_s=limit_s))

    assert clock.now_ns <= 1e9 * limit_s


@pytest.mark.parametrize(("time_us", "told"), [(5e5, "about 26 s"), (1e6, "about 52 s")])
def test_where_the_fewest_samples_take_longer_the_note_says_how_long(
    clock: FakeClock, time_us: float, told: str
) -> None:
    found = taken(clock.spending(time_us), job=Job(CASE, max_time_s=2.0))

    assert f"{told}, above the time limit of 2 s" in found.notes[0]
    assert float(told.split()[1]) == pytest.approx(clock.now_ns / 1e9, rel=0.05)


def test_explicit_samples_and_rounds_are_taken(clock: FakeClock) -> None:
    found = taken(clock.spending(5), job=Job(CASE, samples=7, rounds=2))

    assert [7, 7] == [len(one.times_us) for one in found.rounds]


def test_restoring_and_checking_are_not_timed(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    All that the guard does costs a second here, and no sample may contain it.
    """
    for name in ("restore", "check_output", "check_inputs", "poison"):
        monkeypatch.setattr(Guard, name, _slow(clock, getattr(Guard, name)))

    def fn(x: torch.Tensor) -> torch.Tensor:
        clock.now_ns += 50_000
        return x.add_(1)

    found = taken(fn, torch.zeros(2), mutates=("x",), job=Job(CASE, samples=10, rounds=2))

    assert found.problem is None
    assert {50.0} == {t for one in found.rounds for t in one.times_us}


def _slow(clock: FakeClock, method: Any) -> Any:
    def slow(*args: Any) -> Any:
        clock.now_ns += 1_000_000_000
        return method(*args)

    return slow


def test_each_round_has_new_tensors(clock: FakeClock) -> None:
    held: dict[int, torch.Tensor] = {}

    def fn(x: torch.Tensor) -> torch.Tensor:
        held[id(x)] = x
        return x + 1

    x = torch.zeros(2)
    taken(fn, x, job=Job(CASE, samples=5, rounds=4))

    # Two untimed calls and four rounds, and never the user's own.
    assert 6 == len(held)
    assert id(x) not in held


def test_callables_take_turns_at_going_first(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A check's extra call would stand in the log too.
    monkeypatch.setattr(host_clock, "_checked_samples", lambda samples: frozenset())
    subjects = {name: Subject(clock.spending(10, name)) for name in "ab"}
    guards = {name: Guard(subject) for name, subject in subjects.items()}
    for guard in guards.values():
        guard.learn()
    job = Job(CASE, samples=9, rounds=1)
    clock.log.clear()
    found = host_clock.take(subjects, guards, job, lambda text: None)

    assert ["a", "b"] == list(found)
    assert found["a"].plan == found["b"].plan
    assert "abbabaababbabaabab" == "".join(clock.log)[-18:]
    assert [9, 9] == [len(one.rounds[0].times_us) for one in found.values()]


def test_callables_share_the_time(clock: FakeClock) -> None:
    """
    A round of 100 ms holds 50 samples of one such callable, or 25 of two.
    """
    subjects = {name: Subject(clock.spending(2000)) for name in "ab"}
    guards = {name: Guard(subject) for name, subject in subjects.items()}
    for guard in guards.values():
        guard.learn()
    found = host_clock.take(subjects, guards, Job(CASE), lambda text: None)

    assert 25 == found["a"].plan.samples


def test_a_check_is_followed_by_an_untimed_call(clock: FakeClock) -> None:
    """
    Comparing outputs fills the caches; the next sample must not pay for that.
    """
    found = taken(clock.spending(1e6), job=Job(CASE, samples=2, rounds=1))

    assert [2] == [len(one.times_us) for one in found.rounds]
    # Two to learn, one to warm up (a second is the limit), two samples, each checked.
    assert 2 + 1 + 2 * 2 == len(clock.log)


def test_a_problem_in_a_timed_call_ends_the_measurement() -> None:
    count: Iterator[int] = iter(range(10**9))

    def fn(x: torch.Tensor) -> torch.Tensor:
        return x + (next(count) > 40)

    found = taken(fn, torch.zeros(2))

    assert found.problem is not None
    assert "WRONG_OUTPUT" == found.problem.code
    assert () == found.rounds


def test_the_users_exception_passes_through_and_the_collector_is_back() -> None:
    count = iter(range(10**9))

    def fn(x: torch.Tensor) -> torch.Tensor:
        if next(count) > 20:
            raise RuntimeError("mine")
        return x + 1

    with pytest.raises(RuntimeError, match="mine"):
        taken(fn, torch.zeros(2))

    assert gc.isenabled()


def test_the_collector_does_not_run_inside_a_sample() -> None:
    seen = set()

    def fn() -> int:
        seen.add(gc.isenabled())
        return 1

    subject = Subject(fn)
    guard = Guard(subject)
    guard.learn()
    seen.clear()
    host_clock.take({"": subject}, {"": guard}, Job(CASE, samples=3, rounds=1), lambda text: None)[
        ""
    ]

    assert {False} == seen


@pytest.mark.parametrize(
    ("samples", "expected"),
    [(1, {0}), (2, {0, 1}), (4, {0, 1, 2, 3}), (200, {0, 66, 133, 199})],
)
def test_first_last_and_some_between_are_checked(samples: int, expected: set[int]) -> None:
    assert expected == host_clock._checked_samples(samples)


def test_progress_names_the_round(clock: FakeClock) -> None:
    subject = Subject(clock.spending(10))
    guard = Guard(subject)
    guard.learn()
    said: list[str] = []
    host_clock.take({"": subject}, {"": guard}, Job(CASE, samples=1, rounds=2), said.append)

    assert ["wall round 1/2", "wall round 2/2"] == said


def test_a_real_sleep_is_measured_about_right() -> None:
    def fn() -> int:
        time.sleep(0.002)
        return 1

    found = taken(fn, job=Job(CASE, samples=10, rounds=1))

    assert 2000 <= min(found.rounds[0].times_us) < 6000


def test_the_clocks_step_is_smaller_than_an_empty_sample() -> None:
    tick_us, empty_us = host_clock.probe_clock()

    assert 0.001 <= tick_us <= empty_us < 100
