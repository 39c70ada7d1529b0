"""
What a callable multiplies in: seen where it is torch's own, and never guessed.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

from pytest_kernelperf.measure import Subject, inspect_call
from pytest_kernelperf.measure.operands import operands

torch = pytest.importorskip("torch")

from torch.nn import Linear, Module, Sequential, functional  # noqa: E402 - torch may be missing

HALF = torch.zeros(2, 2, dtype=torch.float16)
NARROW = torch.zeros(2, 2, dtype=torch.float8_e4m3fn)


class Subclass(torch.Tensor):
    pass


class Own(Module):
    def forward(self, x: Any) -> Any:
        return x


def hooked() -> Module:
    module = Linear(2, 2)
    module.register_forward_hook(lambda module, given, output: output)
    return module


def patched() -> Module:
    module = Linear(2, 2)
    module.forward = lambda x: x  # type: ignore[method-assign]
    return module


@pytest.mark.parametrize(
    ("fn", "args", "expected"),
    [
        (torch.mm, (HALF, HALF), ("float16",)),
        (functional.linear, (HALF, NARROW), ("float16", "float8_e4m3fn")),
        (HALF.mm, (HALF,), ("float16",)),
        (NARROW.mm, (HALF,), ("float16", "float8_e4m3fn")),
        (functools.partial(torch.mm, NARROW), (HALF,), ("float16", "float8_e4m3fn")),
        (functools.partial(torch.mm, mat2=NARROW), (HALF,), ("float16", "float8_e4m3fn")),
        (Linear(2, 2), (HALF,), ("float16", "float32")),
        (Sequential(Linear(2, 2).to(torch.float8_e4m3fn)), (HALF,), ("float16", "float8_e4m3fn")),
        (Linear(2, 2).forward, (HALF,), ("float16", "float32")),
    ],
)
def test_what_torchs_own_is_given_and_holds_is_seen(fn, args, expected) -> None:
    assert expected == operands(fn, args, {})


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: torch.mm(x, NARROW),
        functools.partial(lambda w, x: x, HALF),
        functional.softmax,
        abs,
        Own(),
        Own().forward,
        Own().cuda,
        Sequential(Linear(2, 2), Own()),
        Linear(2, 2).half,
        hooked(),
        patched(),
        torch.compile(Linear(2, 2)),
        torch.ops.aten.mm.default,
    ],
)
def test_what_anybody_may_have_written_is_opaque(fn) -> None:
    assert operands(fn, (HALF,), {}) is None


@pytest.mark.parametrize("tensor", [HALF.as_subclass(Subclass), torch.eye(2).to_sparse()])
def test_a_tensor_that_may_be_another_inside_is_opaque(tensor) -> None:
    assert operands(torch.mm, (tensor,), {}) is None
    assert operands(torch.mm, (), {"input": tensor}) is None


def test_a_call_is_inspected_with_what_its_setup_returns() -> None:
    call = inspect_call(Subject(torch.mm, setup=lambda: ((HALF, NARROW), {})))

    assert ("float16", "float8_e4m3fn") == call.operands
