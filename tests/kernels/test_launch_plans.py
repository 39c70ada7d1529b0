"""
Remembered launches: which calls repeat one, which go the long way, and which are never remembered.

No GPU needed: the compiled kernel is a stand-in that records.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from attention_inputs import transposed
from launch_stand_ins import first_call, make_handle, make_inputs, only_known_triton

from flashcore_kernels import attention as public_attention
from flashcore_kernels import forward
from flashcore_kernels.attention import _forward
from flashcore_kernels.plans import MAX_PLANS, MAX_VARIANTS, Plans, plan_key, plans


def _repeated(q, k, v, causal, scale, out, return_lse):
    """Return what `attention` would without its long way."""
    similar = plans.similar(q, k, causal, scale, out, return_lse)
    return next(
        (result for plan in similar if (result := plan.repeat(q, k, v, out)) is not None), None
    )


@only_known_triton
@pytest.mark.parametrize(
    "changes",
    [
        *({name: lambda x: x[:, :2]} for name in "q"),
        *({name: lambda x: x[:, :, :63]} for name in "kv"),
        *({name: lambda x: x.bfloat16()} for name in "qkv"),
        *({name: transposed} for name in "qkv"),
        *({name: lambda x: x.to("meta")} for name in "qkv"),
        *({name: torch._neg_view} for name in "qkv"),
        {"causal": lambda _: True},
        {"scale": lambda _: 0.5},
        {"return_lse": lambda _: True},
        {"out": lambda _: torch.empty(2, 4, 64, 64).half()},
        {"out": lambda _: torch.empty(2, 4, 64, 64).half().transpose(1, 2)},
        {"out": lambda _: torch.empty(2, 4, 64, 64)},
    ],
)
def test_what_a_launch_is_specialised_for_is_told_apart(monkeypatch, recorded, changes):
    inputs = make_inputs()
    first_call(monkeypatch, recorded, inputs)
    call = dict(zip("qkv", inputs, strict=True))
    call |= {"causal": False, "scale": None, "out": None, "return_lse": False}
    changed = {**call, **{name: change(call[name]) for name, change in changes.items()}}

    assert _repeated(**changed) is None
    assert _repeated(**{**call, "q": call["q"].clone()}) is not None


@only_known_triton
@pytest.mark.parametrize(
    "change", [{"causal": True}, {"scale": 0.5}, {"return_lse": True}, {"out": torch.empty_like}]
)
def test_the_plan_repeated_last_is_not_taken_for_another_call(monkeypatch, recorded, change):
    q, k, v = make_inputs()
    first_call(monkeypatch, recorded, (q, k, v))
    public_attention(q, k, v)
    assert plans.latest is not None
    wanted = {name: value(q) if callable(value) else value for name, value in change.items()}

    result = public_attention(q, k, v, **wanted)

    assert len(recorded) == 1
    assert isinstance(result, tuple) == ("return_lse" in change)


@only_known_triton
def test_a_scale_that_is_computed_anew_finds_its_plan(monkeypatch, recorded):
    """Equal is enough; only the plan repeated last is asked by identity."""
    inputs = make_inputs()
    monkeypatch.setattr(forward, "launch", lambda *args: make_handle(recorded))
    _forward(
        *inputs, False, 0.3, 0, None, False,
        plan_key=plan_key(*inputs[:2], False, 0.3, None, False),
    )  # fmt: skip

    for numerator in (3.0, 3.0):
        public_attention(*inputs, scale=numerator / 10)

    assert len(recorded) == 2


@only_known_triton
def test_a_scale_that_is_a_tensor_is_never_read(monkeypatch, recorded):
    """Comparing it would wait for the GPU."""
    inputs = make_inputs()
    monkeypatch.setattr(forward, "launch", lambda *args: make_handle(recorded))
    key = plan_key(*inputs[:2], False, 0.5, None, False)
    _forward(*inputs, False, 0.5, 0, None, False, plan_key=key)

    assert _repeated(*inputs, False, torch.tensor(0.5), None, False) is None


@only_known_triton
@pytest.mark.parametrize("wrong", [{"causal": 1}, {"scale": np.float32(0.5)}, {"return_lse": 1}])
def test_an_argument_of_a_wrong_type_finds_no_plan_of_an_equal_one(monkeypatch, recorded, wrong):
    """It is refused whatever was called before."""
    inputs = make_inputs()
    monkeypatch.setattr(forward, "launch", lambda *args: make_handle(recorded))
    key = plan_key(*inputs[:2], True, 0.5, None, True)
    _forward(*inputs, True, 0.5, 0, None, True, plan_key=key)
    right = {"causal": True, "scale": 0.5, "return_lse": True}
    causal, scale, return_lse = (right | wrong).values()
    assert key == plan_key(*inputs[:2], causal, scale, None, return_lse)

    with pytest.raises(TypeError, match="is not a"):
        public_attention(*inputs, **(right | wrong))

    public_attention(*inputs, **right)
    assert len(recorded) == 1


@only_known_triton
def test_shapes_may_alternate_without_forgetting(monkeypatch, recorded):
    for seqlen in (64, 128):
        first_call(monkeypatch, recorded, make_inputs(seqlen))

    for seqlen in (64, 128, 64):
        public_attention(*make_inputs(seqlen))

    assert [64, 128, 64] == [args[19] for args in recorded]


@only_known_triton
def test_a_launch_on_a_copy_is_not_remembered(monkeypatch, recorded):
    """A last stride of 2 is copied first: the handle would read the copy's layout."""
    q, k, v = make_inputs()
    q = torch.stack([q, q], dim=-1)[..., 0]

    first_call(monkeypatch, recorded, (q, k, v))

    assert not plans.by_key


@only_known_triton
@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_turned_scale_is_not_remembered(monkeypatch, recorded, scale):
    monkeypatch.setattr(forward, "launch", lambda *args: make_handle(recorded))

    _forward(*make_inputs(), False, scale, 0, None, False, plan_key=("key",))

    assert not plans.by_key


@only_known_triton
def test_a_misaligned_first_call_is_not_remembered(monkeypatch, recorded):
    q, k, v = make_inputs()
    buffer = torch.empty(q.numel() + 1, dtype=q.dtype)

    first_call(monkeypatch, recorded, (buffer[1:].view(q.shape), k, v))

    assert not plans.by_key


@only_known_triton
def test_out_is_checked_for_overlap_on_the_fast_path_too(monkeypatch, recorded):
    q, k, v = make_inputs()
    out = torch.empty_like(q)
    monkeypatch.setattr(forward, "launch", lambda *args: make_handle(recorded))
    key = plan_key(q, k, False, None, out, False)
    _forward(q, k, v, False, 0.125, 0, out, False, plan_key=key)

    with pytest.raises(ValueError, match="out overlaps k in memory"):
        public_attention(q, k, v, out=k)

    assert recorded == []


@only_known_triton
def test_inputs_that_need_gradients_do_not_take_the_fast_path(monkeypatch, recorded):
    inputs = make_inputs()
    first_call(monkeypatch, recorded, inputs)
    inputs[1].requires_grad_()

    assert public_attention(*inputs).requires_grad
    assert recorded == []

    with torch.no_grad():
        first_call(monkeypatch, recorded, inputs)
        public_attention(*inputs)

    assert len(recorded) == 1
    assert public_attention(*inputs).requires_grad
    assert len(recorded) == 1


def test_remembered_launches_are_bounded():
    """A cache that grows by one key a step would otherwise fill the memory."""
    bounded = Plans()
    for n in range(MAX_PLANS + 10):
        bounded.remember((n, n, False, None, False), SimpleNamespace(), lambda *_: False)

    assert len(bounded.by_key) == 10


def test_remembered_launches_of_one_shape_are_bounded():
    bounded = Plans()
    for n in range(MAX_VARIANTS + 10):
        bounded.remember((1, 1, False, None, False), SimpleNamespace(n=n), lambda *_: False)

    (kept,) = bounded.by_key.values()
    assert [plan.n for plan in kept] == list(range(17, 9, -1))
