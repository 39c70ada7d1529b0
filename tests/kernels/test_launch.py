"""
The host fast path: what it hands to Triton's launcher, when it hands over nothing, and new results.

No GPU needed: the compiled kernel is a stand-in that records, the launcher's format is Triton's.
"""

from __future__ import annotations

import pytest
import torch
import triton
from attention_inputs import transposed
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
from flashcore_kernels.plans import plan_key


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
@pytest.mark.parametrize("which", range(5))
def test_an_address_off_by_the_least_is_not_launched(recorded, which):
    prepared = launch.prepare(make_handle(recorded), (1, 1, 1), make_inputs(), ())
    addresses = [16, 32, 48, 64, 80]
    addresses[which] += 1

    assert not prepared(STREAM, *addresses)
    assert recorded == []


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


@pytest.mark.parametrize("relaid", [False, True])
def test_a_new_result_is_like_the_first(relaid):
    model = torch.empty(2, 4, 64, 64, dtype=torch.bfloat16)
    model = transposed(model) if relaid else model

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
