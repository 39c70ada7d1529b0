"""What stands between a remembered launch and tensors that it was not made for."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from flashcore_kernels import guards


def _inputs():
    return [torch.randn(2, 4, 8, 16).half() for _ in range(3)]


@pytest.fixture(params=["compiled", "python"])
def make_guard(request):
    """Make a guard of either kind."""
    if request.param == "compiled":
        assert guards._compiled_guards_work()
        return guards._compiled_guard
    return guards._python_guard


OTHERS = {
    "shape": lambda x: x[:, :, :7],
    "strides": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "dtype": lambda x: x.bfloat16(),
    "device": lambda x: x.to("meta"),
    "sign": torch._neg_view,
    "type": torch.nn.Parameter,
    "a number": lambda _: 3,
    "nothing": lambda _: None,
    "gradient": lambda x: x.clone().requires_grad_(),
}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("which", range(3))
def test_another_kind_of_tensor_is_told_apart(make_guard, which, what):
    guard = make_guard(*_inputs())
    tensors = _inputs()
    assert guard(*tensors)

    tensors[which] = OTHERS[what](tensors[which])

    assert not guard(*tensors)


class _Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_whoever_watches_operators_is_noticed(make_guard):
    q, k, v = _inputs()
    guard = make_guard(q, k, v)
    seen = []

    def ask(tensor):
        seen.append((guard(tensor, k, v), guards.intercepted()))
        return tensor.sum()

    with _Watching():
        ask(q)
    torch.vmap(ask)(torch.stack([q, q]))
    torch.func.grad(ask)(q)
    torch.jit.trace(ask, (q,), check_trace=False)

    assert [(False, True)] * 4 == seen
    assert guard(q, k, v)
    assert not guards.intercepted()


def test_gradients_that_are_not_recorded_do_not_open_the_way_to_those_that_are():
    """torch.compile's check looks at the tensor's flag, not at the mode."""
    q, k, v = _inputs()
    q.requires_grad_()
    with torch.no_grad():
        guard = guards.guard_for(q, k, v)
        assert guard(q, k, v)

    assert not guard(q, k, v)


def test_one_tensor_in_two_places_has_a_guard_that_passes_it():
    q, k, _ = _inputs()

    assert guards.guard_for(q, k, k)(q, k, k)


def test_an_unknown_private_interface_is_not_used(monkeypatch):
    """Another release of torch may take other arguments, or compare less."""

    def works():
        return guards._compiled_guards_work.__wrapped__()

    assert works()
    monkeypatch.setattr(guards, "_tensor_guards", lambda *_: lambda *_: True)
    assert not works()
    monkeypatch.setattr(guards, "_tensor_guards", lambda *_: 1 / 0)
    assert not works()
