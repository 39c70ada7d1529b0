"""Layouts, factors and kinds of differentiation that once gave wrong results without a word."""

from __future__ import annotations

import pytest
import torch
from accuracy import assert_accurate
from attention_inputs import DEVICE, forward, make
from launch_stand_ins import first_call, make_inputs, only_known_triton
from torch.autograd import forward_ad

from flashcore_kernels import attention, attention_with_kv_cache, dispatch
from flashcore_kernels.guards import guard_for
from flashcore_kernels.plans import plan_key, plans

# --- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seqlen", [64, 70])
def test_queries_whose_last_dimension_is_not_dense_give_the_right_result(seqlen):
    """A result with the strides of such queries is not one that the kernel can write."""
    q, k, v = make(1, 2, 2, seqlen, seqlen, 64)
    q = q.transpose(2, 3).contiguous().transpose(2, 3)

    out, lse = forward(q, k, v)

    assert out.stride() == q.stride()
    assert_accurate(out, lse, q, k, v)


@pytest.mark.parametrize("scale", [1e-46, -1e-46, 1e-320])
def test_a_scale_below_float32_counts_as_zero(scale):
    """It would reach the kernel as 0, and 0 times a hidden score's -inf is NaN."""
    q, k, v = make(1, 2, 2, 65, 70, 64)

    out, lse = forward(q, k, v, causal=True, scale=scale)

    assert_accurate(out, lse, q, k, v, causal=True, scale=0.0)


@pytest.mark.parametrize("nheads_k", [1, 2, 3, 6])
def test_more_heads_than_a_grid_has_room_for_are_cut(monkeypatch, nheads_k):
    q, k, v = make(2, 6, nheads_k, 20, 20, 16)
    expected, expected_lse = forward(q, k, v)
    monkeypatch.setattr(dispatch, "MAX_HEADS", 4)

    grids = []
    monkeypatch.setattr(dispatch, "_launch", _recording(dispatch._launch, grids))
    out, lse = forward(q, k, v)

    assert max(grids) <= 4
    assert torch.equal(expected, out)
    assert torch.equal(expected_lse, lse)


def _recording(launch, grids):
    def recorded(q, k, v, out, lse, **mask):
        grids.append(q.shape[1])
        assert lse.is_contiguous()
        return launch(q, k, v, out, lse, **mask)

    return recorded


# --- derivatives ---------------------------------------------------------------------------------


def test_a_forward_mode_derivative_is_refused_and_not_dropped():
    q, k, v = make(1, 2, 2, 16, 16, 64)

    with forward_ad.dual_level():
        dual = forward_ad.make_dual(v, torch.ones_like(v))
        with pytest.raises(NotImplementedError, match="without a tangent, got a dual tensor"):
            forward(q, k, dual)


@only_known_triton
def test_a_forward_mode_derivative_does_not_take_the_fast_path(monkeypatch, recorded):
    q, k, v = make_inputs()
    first_call(monkeypatch, recorded, (q, k, v))

    with forward_ad.dual_level():
        attention(forward_ad.make_dual(q, torch.ones_like(q)), k, v)

    assert recorded == []


@only_known_triton
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_call_is_recorded_and_not_launched_behind_the_trace(monkeypatch, recorded):
    """A trace that sees no operator would return memory that nobody wrote."""
    inputs = make_inputs()
    first_call(monkeypatch, recorded, inputs)

    traced = torch.jit.trace(lambda q, k, v: attention(q, k, v), inputs, check_trace=False)

    assert "flashcore::attention_forward" in str(traced.inlined_graph)
    assert recorded == []


def test_an_out_that_waits_for_a_gradient_is_refused():
    """Its history would be that of other values than it holds."""
    q, k, v = make(1, 2, 2, 16, 16, 64)
    out = torch.zeros_like(q).requires_grad_() * 1

    with pytest.raises(ValueError, match="out requires a gradient: expected requires_grad=False"):
        attention(q, k, v, out=out)


@only_known_triton
def test_the_fast_path_refuses_an_out_that_waits_for_a_gradient(monkeypatch, recorded):
    q, k, v = make_inputs()
    out = torch.empty_like(q)
    first_call(monkeypatch, recorded, (q, k, v))
    ((plan,),) = plans.by_key.values()
    plans.remember(plan_key(q, k, False, None, out, False), plan, guard_for(q, k, v))

    attention(q, k, v, out=out)
    assert len(recorded) == 1
    assert out._version == 1

    with pytest.raises(ValueError, match="out requires a gradient"):
        attention(q, k, v, out=out.requires_grad_())
    assert len(recorded) == 1


def test_an_old_value_of_out_that_a_backward_pass_needs_is_missed():
    """Autograd learns of the kernel's write; else it would compute with the new value."""
    q, k, v = make(1, 2, 2, 16, 16, 64)
    out = torch.ones_like(q)
    weight = torch.ones((), device=DEVICE, dtype=q.dtype, requires_grad=True)
    loss = (out * weight).sum()

    forward(q, k, v, out=out)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_an_out_made_in_inference_mode_is_written():
    """Such tensors have no counter of writes."""
    q, k, v = make(1, 2, 2, 16, 16, 64)
    with torch.inference_mode():
        out = torch.empty_like(q)
        expected, _ = forward(q, k, v)

        forward(q, k, v, out=out)

        assert torch.equal(expected, out)


# --- decoding ------------------------------------------------------------------------------------


def _step():
    def draw(length):
        return torch.randn(2, 2, length, 64, device=DEVICE).half()

    lengths = torch.tensor([5, 6], dtype=torch.int32, device=DEVICE)
    return {"q": draw(1), "k_cache": draw(16), "v_cache": draw(16), "cache_seqlens": lengths,
            "k": draw(1), "v": draw(1)}  # fmt: skip


@pytest.mark.parametrize("name", ["k", "v"])
def test_decoding_into_the_new_tokens_is_refused(name):
    """One program would write what another has yet to append."""
    step = _step()

    with pytest.raises(ValueError, match=f"out overlaps {name} in memory"):
        attention_with_kv_cache(**step, out=step[name])


@pytest.mark.parametrize("name", ["q", "k_cache", "v"])
def test_decoding_refuses_forward_mode_derivatives(name):
    step = _step()

    with forward_ad.dual_level():
        step[name] = forward_ad.make_dual(step[name], torch.ones_like(step[name]))
        with pytest.raises(NotImplementedError, match="got a dual tensor"):
            attention_with_kv_cache(**step)


@pytest.mark.parametrize("flag", ["causal", "return_lse"])
def test_decoding_refuses_a_flag_that_is_no_bool(flag):
    with pytest.raises(TypeError, match=f"{flag} is not a bool: expected True or False, got None"):
        attention_with_kv_cache(**_step(), **{flag: None})


def test_appending_counts_as_a_write_to_the_cache(monkeypatch):
    """The kernel's stores are invisible to autograd, so the kernel is left out here."""
    monkeypatch.setattr("flashcore_kernels.kv_cache.compute", lambda *args, **kw: (None, None))
    step = _step()
    out = torch.empty_like(step["q"])

    attention_with_kv_cache(**step, out=out)

    assert [t._version for t in (step["k_cache"], step["v_cache"], out)] == [1, 1, 1]
