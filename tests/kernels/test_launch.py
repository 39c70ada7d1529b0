"""
The host fast path: what it hands to Triton's launcher, and everything that must keep it from it.

No GPU needed: the compiled kernel is a stand-in that records, the launcher's format is Triton's.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import triton
from launch_stand_ins import (
    STREAM,
    first_call,
    make_handle,
    make_inputs,
    make_plan,
    only_known_triton,
)

from flashcore_kernels import attention as public_attention
from flashcore_kernels import forward, launch
from flashcore_kernels.attention import _forward
from flashcore_kernels.plans import MAX_PLANS, MAX_VARIANTS, Plans, plan_key, plans

# --- what is launched --------------------------------------------------------------------------


@only_known_triton
def test_the_second_call_launches_the_remembered_handle(monkeypatch, recorded):
    inputs = make_inputs()
    first_call(monkeypatch, recorded, inputs)
    fresh = make_inputs()

    out = public_attention(*fresh)

    (args,) = recorded
    assert args[:3] == (1, 4, 2)  # tiles, heads, batch
    assert args[3:5] == (STREAM, 1234)
    assert args[5:13] == (False, False, None, None, (4, 1, 57344), None, None, None)
    assert args[13:18] == (*(x.data_ptr() for x in (*fresh, out)), None)
    assert args[18] == pytest.approx(0.125 * 1.4426950408889634)
    assert args[19:22] == (64, 64, 0)


@only_known_triton
@pytest.mark.parametrize("contiguous", [True, False])
def test_the_arguments_fit_the_launcher_that_triton_generates(monkeypatch, recorded, contiguous):
    """One argument per format letter of the C function that Triton builds for this signature."""
    driver = pytest.importorskip("triton.backends.nvidia.driver")
    inputs = make_inputs()
    if not contiguous:
        inputs = tuple(x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs)
    first_call(monkeypatch, recorded, inputs)

    public_attention(*inputs)

    names = forward.attention_forward_kernel.arg_names
    (args,) = recorded
    values = args[len(driver._BASE_ARGS_FORMAT) :]
    assert len(names) == len(values)
    signature = {name: _triton_type(name, value) for name, value in zip(names, values, strict=True)}
    source = driver.make_launcher({}, signature, None)
    letters = source.split('PyArg_ParseTuple(args, "')[1].split('"')[0]
    assert len(letters) == len(args)
    for letter, value in zip(letters, args, strict=True):
        expected = {"O": object, "d": float}.get(letter, int)
        assert isinstance(value, expected), (letter, value)


def _triton_type(name, value):
    if value is None or name.isupper():
        return "constexpr"
    if name.endswith("_ptr"):
        return "*fp16"
    return "fp32" if isinstance(value, float) else "i32"


@only_known_triton
def test_log_sum_exp_and_out_are_passed_when_asked_for(monkeypatch, recorded):
    inputs = make_inputs()
    out = torch.empty_like(inputs[0])
    monkeypatch.setattr(forward, "launch", lambda *args: make_handle(recorded))
    key = plan_key(*inputs[:2], True, 0.5, out, True)
    _forward(*inputs, True, 0.5, 0, out, True, plan_key=key)

    result, lse = public_attention(*inputs, causal=True, scale=0.5, out=out, return_lse=True)

    assert result is out
    assert lse.shape == (2, 4, 64)
    assert lse.dtype == torch.float32
    assert recorded[0][16:18] == (out.data_ptr(), lse.data_ptr())


# --- what must not take the fast path ----------------------------------------------------------


def _repeated(q, k, v, causal, scale, out, return_lse):
    """Return what `attention` would without its long way."""
    similar = plans.similar(q, k, causal, scale, out, return_lse)
    return next(
        (result for plan in similar if (result := plan.repeat(q, k, v, out)) is not None), None
    )


def _relaid(tensor):
    return tensor.transpose(1, 2).contiguous().transpose(1, 2)


@only_known_triton
@pytest.mark.parametrize(
    "changes",
    [
        *({name: lambda x: x[:, :2]} for name in "q"),
        *({name: lambda x: x[:, :, :63]} for name in "kv"),
        *({name: lambda x: x.bfloat16()} for name in "qkv"),
        *({name: _relaid} for name in "qkv"),
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
@pytest.mark.parametrize("wrong", [{"causal": 1}, {"scale": np.float32(0.5)}])
def test_an_argument_of_a_wrong_type_finds_no_plan_of_an_equal_one(monkeypatch, recorded, wrong):
    """It is refused whatever was called before."""
    inputs = make_inputs()
    monkeypatch.setattr(forward, "launch", lambda *args: make_handle(recorded))
    key = plan_key(*inputs[:2], True, 0.5, None, False)
    _forward(*inputs, True, 0.5, 0, None, False, plan_key=key)
    right = {"causal": True, "scale": 0.5}
    assert key == plan_key(*inputs[:2], *(right | wrong).values(), None, False)

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
@pytest.mark.parametrize("which", range(4))
def test_a_misaligned_pointer_is_not_launched(recorded, which):
    """Each of q, k, v and out: Triton compiled 16-byte copies for what was aligned."""
    prepared = launch.prepare(make_handle(recorded), (1, 1, 1), make_inputs(), ())
    tensors = [*make_inputs(), torch.empty(2, 4, 64, 64, dtype=torch.float16)]
    plan = make_plan(prepared, tensors[-1])
    buffer = torch.empty(tensors[which].numel() + 1, dtype=torch.float16)
    assert plan.repeat(*tensors) is tensors[-1]

    tensors[which] = buffer[1:].view(2, 4, 64, 64)

    assert plan.repeat(*tensors) is None
    assert len(recorded) == 1


@only_known_triton
def test_another_current_device_is_not_launched(monkeypatch, recorded):
    prepared = launch.prepare(make_handle(recorded), (1, 1, 1), make_inputs(), ())
    plan = make_plan(prepared, torch.empty(64), device_index=0)
    monkeypatch.setattr(launch, "current_device", lambda: 1)

    assert plan.repeat(*make_inputs(), None) is None
    assert recorded == []


def _watch_enter(monkeypatch, knobs):
    monkeypatch.setattr(knobs.runtime.launch_enter_hook, "calls", [print])


def _watch_exit(monkeypatch, knobs):
    monkeypatch.setattr(knobs.runtime.launch_exit_hook, "calls", [print])


def _replace_enter(monkeypatch, knobs):
    monkeypatch.setattr(knobs.runtime, "launch_enter_hook", print)


def _replace_exit(monkeypatch, knobs):
    monkeypatch.setattr(knobs.runtime, "launch_exit_hook", None)


def _debug(monkeypatch, knobs):
    monkeypatch.setattr(knobs.runtime, "debug", True)


def _instrument(monkeypatch, knobs):
    monkeypatch.setattr(knobs.compilation, "instrumentation_mode", "fpsan")


WATCHERS = [_watch_enter, _watch_exit, _replace_enter, _replace_exit, _debug, _instrument]


@only_known_triton
@pytest.mark.parametrize("watch", WATCHERS)
def test_whoever_watches_launches_sees_them(monkeypatch, recorded, watch):
    """Profiler hooks and debug modes work through Triton's public way only."""
    prepared = launch.prepare(make_handle(recorded), (1, 1, 1), make_inputs(), ())
    plan = make_plan(prepared, torch.empty(64))
    assert plan.repeat(*make_inputs(), None) is not None
    recorded.clear()
    watch(monkeypatch, triton.knobs)

    assert plan.repeat(*make_inputs(), None) is None
    assert launch.prepare(make_handle(recorded), (1, 1, 1), make_inputs(), ()) is None
    assert recorded == []


@pytest.mark.parametrize(
    "changes",
    [{"global_scratch_size": 128}, {"profile_scratch_size": 128}, {"launch": None}],
)
def test_a_handle_that_needs_more_than_pointers_is_not_prepared(recorded, changes):
    assert launch.prepare(make_handle(recorded, **changes), (1, 1, 1), make_inputs(), ()) is None


def test_another_triton_is_not_prepared(monkeypatch, recorded):
    monkeypatch.setattr(triton, "__version__", "3.7.1")

    assert launch.prepare(make_handle(recorded), (1, 1, 1), make_inputs(), ()) is None


def test_the_interpreter_is_not_prepared():
    """It returns no handle."""
    assert launch.prepare(None, (1, 1, 1), make_inputs(), ()) is None


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


@only_known_triton
def test_stream_and_addresses_are_those_of_this_call(recorded):
    prepared = launch.prepare(make_handle(recorded), (1, 1, 1), make_inputs(), (0.125,))
    prepared(STREAM, 16, 32, 48, 64, None)
    prepared(STREAM + 1, 16, 32, 48, 80, 96)

    assert [STREAM, STREAM + 1] == [args[3] for args in recorded]
    assert [(16, 32, 48, 64, None, 0.125), (16, 32, 48, 80, 96, 0.125)] == [
        args[13:] for args in recorded
    ]


@only_known_triton
@pytest.mark.parametrize("which", range(5))
def test_an_address_off_by_the_least_is_not_launched(recorded, which):
    prepared = launch.prepare(make_handle(recorded), (1, 1, 1), make_inputs(), ())
    addresses = [16, 32, 48, 64, 80]
    addresses[which] += 1

    assert not prepared(STREAM, *addresses)
    assert recorded == []


# --- what a new result lies in -------------------------------------------------------------------


@pytest.mark.parametrize("relaid", [False, True])
def test_a_new_result_is_like_the_first(relaid):
    model = torch.empty(2, 4, 64, 64, dtype=torch.bfloat16)
    model = _relaid(model) if relaid else model

    made = launch.allocator(model)()

    assert launch._alike(model, made)
    assert made.data_ptr() != model.data_ptr()


def test_a_large_result_is_not_allocated_twice_to_try_the_way(monkeypatch):
    """A first call near the memory's limit must not need room for a second result."""
    sizes = []

    def private(shape, strides, dtype):
        sizes.append(shape)
        return torch.empty_strided(shape, strides, dtype=dtype)

    monkeypatch.setattr(launch, "_EMPTY_STRIDED", {"cpu": private})
    allocate = launch.allocator(torch.empty(64, 64))

    assert (64, 64) not in sizes
    assert allocate().shape == (64, 64)
    assert (64, 64) in sizes


@pytest.mark.parametrize("broken", [TypeError("takes 4"), None])
def test_an_unknown_private_allocator_is_not_used(monkeypatch, broken):
    """It raises, or makes something else."""

    def private(shape, strides, dtype):
        if broken is not None:
            raise broken
        return torch.empty(1)

    model = torch.empty(2, 3)
    monkeypatch.setattr(launch, "_EMPTY_STRIDED", {"cpu": private})

    assert launch._alike(model, launch.allocator(model)())
