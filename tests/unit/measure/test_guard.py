"""
What is timed must be the work: each way of getting that wrong is a problem with its own code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_kernelperf.errors import SubjectError
from pytest_kernelperf.measure import CallShape, Subject, poison
from pytest_kernelperf.measure.guard import Guard
from pytest_kernelperf.measure.tensors import copy_call

torch = pytest.importorskip("torch")


def learned(fn: Callable[..., Any], *args: Any, **options: Any) -> tuple[Guard, str | None]:
    """
    Return a guard after its untimed calls, and the code of the problem found, if any.
    """
    guard = Guard(Subject(fn, args, options.pop("kwargs", {}), **options))
    problem = guard.learn()
    return guard, problem.code if problem else None


def timed_call(guard: Guard) -> tuple[Any, str | None]:
    """
    Make one call as a timer does; return its output and the problem's code, if any.
    """
    args, kwargs = copy_call(*guard.begin_round())
    guard.restore(args, kwargs)
    output = guard.subject.fn(*args, **kwargs)
    problem = guard.check_output(output) or guard.check_inputs(args, kwargs)
    return output, problem.code if problem else None


def add_into(x: torch.Tensor, out: torch.Tensor) -> None:
    torch.add(x, 1, out=out)


def test_an_honest_callable_has_no_problem() -> None:
    guard, problem = learned(torch.mm, torch.randn(3, 3), torch.randn(3, 3))

    assert problem is None
    assert timed_call(guard)[1] is None
    assert not guard.rewrites


def test_the_users_tensors_are_never_called_on() -> None:
    x = torch.zeros(3)
    guard, _ = learned(lambda x: x.add_(1), x, mutates=("x",))
    timed_call(guard)

    assert [0.0, 0.0, 0.0] == x.tolist()


def test_a_changed_input_is_an_undeclared_mutation_that_names_it() -> None:
    guard = Guard(
        Subject(lambda q, cache: cache["k"].mul_(2), (torch.ones(1), {"k": torch.ones(1)}))
    )

    problem = guard.learn()

    assert problem is not None
    assert "UNDECLARED_MUTATION" == problem.code
    assert "cache['k']" in problem.message
    assert "mutates=('cache',)" in problem.message


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x.resize_(1000),
        lambda x: x.set_(torch.zeros(4)),
        lambda x: x.untyped_storage().resize_(0),
        lambda x: setattr(x, "data", torch.zeros(4)),
        lambda x: x.t_().resize_(2, 2),
    ],
    ids=["resize_", "set_", "freed", "data", "reshaped"],
)
def test_a_moved_or_freed_input_is_resized(spoil: Callable[[Any], Any]) -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        spoil(x)
        return y

    assert "INPUT_RESIZED" == learned(fn, torch.zeros(4))[1]


def test_an_input_taken_out_of_its_container_is_resized() -> None:
    assert "INPUT_RESIZED" == learned(lambda xs: xs.pop() + 1, [torch.zeros(2)])[1]


def test_another_output_than_the_first_is_wrong() -> None:
    calls: list[int] = []

    def fn(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return x + (len(calls) > 2)

    guard, problem = learned(fn, torch.zeros(2))

    assert problem is None
    assert "WRONG_OUTPUT" == timed_call(guard)[1]


@pytest.mark.parametrize("change", [lambda y: y.double(), lambda y: y[:1], lambda y: (y, y)])
def test_a_changed_dtype_shape_or_structure_is_wrong(change: Callable[[Any], Any]) -> None:
    calls: list[int] = []

    def fn(x: torch.Tensor) -> Any:
        calls.append(1)
        return change(x + 1) if len(calls) > 2 else x + 1

    guard, _ = learned(fn, torch.zeros(2))

    assert "WRONG_OUTPUT" == timed_call(guard)[1]


def test_a_random_callable_is_not_deterministic_and_is_told_the_cure() -> None:
    problem = Guard(Subject(torch.rand_like, (torch.zeros(4),))).learn()

    assert problem is not None
    assert "NOT_DETERMINISTIC" == problem.code
    assert "deterministic=False" in problem.message


def test_a_declared_random_callable_is_fine() -> None:
    guard, problem = learned(torch.rand_like, torch.zeros(4), deterministic=False)

    assert problem is None
    assert timed_call(guard)[1] is None


def test_a_check_replaces_agreement() -> None:
    def check(output: torch.Tensor) -> None:
        assert output.max() < 1, "too large"

    guard, problem = learned(torch.rand_like, torch.zeros(4), check=check)

    assert problem is None
    assert timed_call(guard)[1] is None
    refused = guard.check_output(torch.full((4,), 2.0))
    assert refused is not None
    assert "WRONG_OUTPUT" == refused.code
    assert "too large" in refused.message


def test_a_broken_check_is_the_users_error() -> None:
    """
    Only AssertionError says that the output is wrong; anything else passes through.
    """
    with pytest.raises(ZeroDivisionError):
        learned(torch.neg, torch.zeros(1), check=lambda output: 1 / 0)


def test_a_check_gets_the_written_arguments_of_a_callable_that_returns_nothing() -> None:
    seen = []
    x, out = torch.zeros(2), torch.zeros(2)
    guard, problem = learned(add_into, x, out, mutates=("out",), check=seen.append)
    timed_call(guard)

    assert problem is None
    assert [[1.0, 1.0]] * len(seen) == [values.tolist() for values in seen]
    assert len(seen) == 2


def test_an_argument_that_is_only_written_is_poisoned_before_each_call() -> None:
    guard, _ = learned(add_into, torch.zeros(2), torch.zeros(2), mutates=("out",))
    args, kwargs = copy_call(*guard.begin_round())

    guard.restore(args, kwargs)

    assert not guard.rewrites
    assert 2 == poison.count(args[1])
    problem = guard.check_inputs(args, kwargs)
    assert problem is not None
    assert "POISON_LEFT" == problem.code


def test_an_argument_that_is_read_too_is_restored_before_each_call() -> None:
    guard, _ = learned(lambda x: x.add_(1), torch.zeros(2), mutates=(0,))
    args, kwargs = copy_call(*guard.begin_round())
    guard.subject.fn(*args)

    guard.restore(args, kwargs)

    assert guard.rewrites
    assert [0.0, 0.0] == args[0].tolist()


def test_an_argument_that_is_written_in_part_counts_as_read() -> None:
    """
    What the call leaves alone must hold the author's contents, as in appending to a cache.
    """

    def append(cache: torch.Tensor) -> None:
        cache[0] = 1

    assert learned(append, torch.zeros(3), mutates=("cache",))[0].rewrites


def test_integers_are_never_poisoned_before_a_call() -> None:
    """
    A poisoned index would make a kernel leave its memory.
    """
    seen = []

    def fn(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        seen.append(int(index))
        y = x[index] * 1
        index.fill_(0)
        return y

    guard, problem = learned(fn, torch.zeros(2), torch.tensor(1), mutates=("index",))

    assert problem is None
    assert guard.rewrites
    assert {1} == set(seen)


def test_a_callable_that_refuses_poison_reads_it() -> None:
    def fn(x: torch.Tensor) -> None:
        if x.isnan().any():
            raise ValueError("NaN")
        x.add_(1)

    guard, problem = learned(fn, torch.zeros(2), mutates=("x",))

    assert problem is None
    assert guard.rewrites


def test_arguments_that_share_memory_with_a_written_one_may_change() -> None:
    x = torch.zeros(4)

    guard, problem = learned(lambda q, out: out.add_(1), x, x, mutates=("out",))

    assert problem is None
    assert timed_call(guard)[1] is None


def test_an_output_that_is_a_declared_argument_is_fine() -> None:
    x = torch.zeros(2)
    guard, problem = learned(lambda x: x.add_(1), x, mutates=("x",))
    output, found = timed_call(guard)
    guard.poison(output)

    assert problem is None
    assert found is None
    assert [1.0, 1.0] == output.tolist()


def test_an_output_that_shares_an_inputs_memory_is_noted_and_not_poisoned() -> None:
    guard, problem = learned(lambda x: x[1:], torch.arange(3.0))
    output, found = timed_call(guard)
    guard.poison(output)

    assert problem is None
    assert found is None
    assert [1.0, 2.0] == output.tolist()
    assert "shares memory with x" in guard.notes[0]


def test_a_cached_output_is_found_by_its_poison_and_gets_its_contents_back() -> None:
    cache = torch.arange(3.0)
    guard, problem = learned(lambda x: cache, torch.zeros(1))
    output, first = timed_call(guard)
    guard.poison(output)

    assert problem is None
    assert first is None
    assert "POISON_LEFT" == timed_call(guard)[1]
    assert [0.0, 1.0, 2.0] == cache.tolist()


@pytest.mark.parametrize("options", [{"deterministic": False}, {"check": lambda output: None}])
def test_poison_is_found_where_nothing_can_be_compared(options: dict[str, Any]) -> None:
    cache = torch.arange(3.0)
    guard, _ = learned(lambda x: cache, torch.zeros(1), **options)
    guard.poison(timed_call(guard)[0])

    assert "POISON_LEFT" == timed_call(guard)[1]
    assert [0.0, 1.0, 2.0] == cache.tolist()


def test_arguments_too_large_to_copy_are_refused_before_any_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**20, 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2**20)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    calls: list[Any] = []
    subject = Subject(calls.append, (torch.zeros(2**18),))

    with pytest.raises(SubjectError, match=r"at most 40% of the 2\.0 MiB"):
        Guard(subject, CallShape((), "cuda:0", 2**20)).learn()
    assert [] == calls


def test_setup_gives_each_round_its_own_arguments() -> None:
    """
    Other contents have another right output, which is learned again.
    """
    values = iter(range(100))
    guard, problem = learned(torch.neg, setup=lambda: ((torch.full((2,), next(values)),), {}))
    first, second = timed_call(guard), timed_call(guard)

    assert problem is None
    assert (None, None) == (first[1], second[1])
    assert first[0].tolist() != second[0].tolist()


def test_calls_that_learn_from_a_setup_are_not_counted() -> None:
    guard, _ = learned(torch.neg, setup=lambda: ((torch.ones(2),), {}))
    guard.begin_round()

    assert 0 == guard.result().outputs_checked


def test_setup_may_write_into_the_same_arguments() -> None:
    x = torch.zeros(2)

    def setup() -> None:
        x.add_(1)

    guard, _ = learned(torch.neg, x, setup=setup)

    assert timed_call(guard)[1] is None


def test_the_output_that_is_handed_over_is_a_copy_from_a_timed_call() -> None:
    guard, _ = learned(torch.neg, torch.ones(2))
    output, _ = timed_call(guard)
    guard.poison(output)

    assert [-1.0, -1.0] == guard.hand_over().tolist()


def test_written_arguments_are_handed_over_in_the_users_tensors() -> None:
    x, out = torch.zeros(2), torch.zeros(2)
    guard, _ = learned(lambda x, out: torch.add(x, 1, out=out), x, out, mutates=("out",))
    timed_call(guard)

    assert guard.hand_over() is out
    assert [1.0, 1.0] == out.tolist()


def test_checks_are_counted_since_last_asked() -> None:
    guard, _ = learned(add_into, torch.zeros(2), torch.zeros(2), mutates=("out",))
    timed_call(guard)
    counts = guard.result()

    assert (1, 1, 1) == (counts.outputs_checked, counts.inputs_checked, counts.poisoned)
    assert 0.0 == counts.max_abs_difference
    assert 0 == guard.result().outputs_checked


def test_a_callable_without_any_result_is_refused_with_three_cures() -> None:
    with pytest.raises(SubjectError, match=r"Return its output.*mutates=.*check=fn"):
        learned(lambda x: None, torch.zeros(1))


@pytest.mark.parametrize("value", [1, 2.5, "text", True, float("nan"), {"a": [1, "b"]}])
def test_numbers_and_strings_are_results_too(value: Any) -> None:
    guard, problem = learned(lambda: value)

    assert problem is None
    assert timed_call(guard)[1] is None


def test_a_number_that_changes_is_not_deterministic() -> None:
    values = iter(range(100))

    assert "NOT_DETERMINISTIC" == learned(lambda: next(values))[1]


@pytest.mark.parametrize("wanted", ["out", 1])
def test_written_arguments_are_found_by_name_and_position(wanted: str | int) -> None:
    guard, problem = learned(add_into, torch.zeros(2), torch.zeros(2), mutates=(wanted,))

    assert problem is None
    assert timed_call(guard)[1] is None
