"""
What can't be measured is refused before it runs, by name and with the cure.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest

from pytest_kernelperf.errors import SubjectError, TimerUnavailableError
from pytest_kernelperf.measure import Subject, inspect_call
from pytest_kernelperf.measure.guard import Guard
from pytest_kernelperf.measure.subject import name_of

torch = pytest.importorskip("torch")


def add_into(x: torch.Tensor, out: torch.Tensor) -> None:
    torch.add(x, 1, out=out)


def test_a_setup_that_returns_something_else_is_refused() -> None:
    with pytest.raises(SubjectError, match="expected None or \\(args, kwargs\\)"):
        inspect_call(Subject(torch.neg, setup=lambda: 7))


def test_a_setup_that_returns_a_tensor_for_a_tuple_is_refused() -> None:
    """
    Taken apart, its only row would be measured.
    """
    with pytest.raises(SubjectError, match=r"returned \(Tensor, dict\); expected"):
        inspect_call(Subject(torch.neg, setup=lambda: (torch.ones(1, 64), {})))


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (add_into, "add_into"),
        (torch.add, "add"),
        (torch.ops.aten.add, "add"),
        (functools.partial(torch.add, alpha=2), "partial(add)"),
        (torch.nn.Linear(1, 1), "Linear"),
        (torch.nn.Linear(1, 1).forward, "Linear.forward"),
    ],
)
def test_messages_call_a_callable_as_its_author_does(fn: Any, name: str) -> None:
    assert name == name_of(fn)


async def _coroutine(x: Any) -> Any:
    return x


def _generator(x: Any) -> Any:
    yield x


@pytest.mark.parametrize(
    "fn", [_coroutine, _generator, functools.partial(_generator)], ids=["async", "yield", "partial"]
)
def test_lazy_functions_are_refused_before_any_call(fn: Any) -> None:
    with pytest.raises(SubjectError, match=r"is a .* function: calling it does no work"):
        inspect_call(Subject(fn, (torch.zeros(1),)))


def test_an_asynchronous_generator_function_is_refused_too() -> None:
    async def lazy(x: Any) -> Any:
        yield x

    with pytest.raises(SubjectError, match="is an asynchronous generator function: "):
        inspect_call(Subject(lazy, (torch.zeros(1),)))


@pytest.mark.parametrize("fn", [lambda x: _coroutine(x), lambda x: _generator(x)])
def test_lazy_outputs_are_refused(fn: Any) -> None:
    with pytest.raises(SubjectError, match="calling it does no work"):
        Guard(Subject(fn, (torch.zeros(1),))).learn()


def test_a_coroutine_is_closed_when_it_is_refused() -> None:
    """
    Or Python would warn about it somewhere else, later.
    """
    made = _coroutine(1)

    with pytest.raises(SubjectError, match="returned a coroutine"):
        Guard(Subject(lambda: made)).learn()
    assert inspect.CORO_CLOSED == inspect.getcoroutinestate(made)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(SubjectError, match="kernelperf\\(fn, x\\), not its result"):
        inspect_call(Subject(torch.zeros(1)))  # type: ignore[arg-type]


def test_an_empty_tensor_is_refused_by_name() -> None:
    with pytest.raises(SubjectError, match=r"x of add_into has no elements \(shape \(0, 3\)\)"):
        inspect_call(Subject(add_into, (torch.zeros(0, 3), torch.zeros(3))))


def test_tensors_on_the_meta_device_are_refused() -> None:
    with pytest.raises(SubjectError, match="'meta' device and has no data"):
        inspect_call(Subject(torch.neg, (torch.zeros(2, device="meta"),)))


def test_an_unknown_written_argument_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(SubjectError, match="did you mean 'out'"):
        inspect_call(Subject(add_into, (torch.zeros(1), torch.zeros(1)), mutates=("ouput",)))


@pytest.mark.parametrize("wanted", [2, -1])
def test_a_position_that_no_argument_has_is_refused(wanted: int) -> None:
    with pytest.raises(SubjectError, match=f"mutates names {wanted}"):
        inspect_call(Subject(add_into, (torch.zeros(1), torch.zeros(1)), mutates=(wanted,)))


def test_two_devices_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "device", _OtherDevice(torch.Tensor.device), raising=True)

    with pytest.raises(SubjectError, match=r"2 devices \(x on cpu, out on cuda:1\)"):
        inspect_call(Subject(add_into, (torch.zeros(1), torch.zeros(2))))


def test_a_scalar_on_the_cpu_is_no_second_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "device", _OtherDevice(torch.Tensor.device), raising=True)
    subject = Subject(torch.mul, (torch.tensor(3.0), torch.zeros(2)))

    assert "cuda:1" == inspect_call(subject).device


def test_rocm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "device", _OtherDevice(torch.Tensor.device), raising=True)
    monkeypatch.setattr(torch.version, "hip", "6.0", raising=False)

    with pytest.raises(TimerUnavailableError, match="tensors on ROCm, which kernelperf can't time"):
        inspect_call(Subject(torch.neg, (torch.zeros(2),)))


class _OtherDevice:
    """
    Pretends that every tensor of two elements is on a second GPU.
    """

    def __init__(self, real: Any) -> None:
        self._real = real

    def __get__(self, tensor: Any, owner: Any) -> Any:
        return torch.device("cuda:1") if tensor.numel() == 2 else self._real.__get__(tensor)


def test_tensors_in_closures_and_modules_say_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "device", _OtherDevice(torch.Tensor.device), raising=True)
    hidden = torch.zeros(2)
    layer = torch.nn.Linear(1, 2)

    for fn in (lambda: hidden + 1, functools.partial(torch.neg, hidden), layer, layer.forward):
        assert "cuda:1" == inspect_call(Subject(fn)).device
