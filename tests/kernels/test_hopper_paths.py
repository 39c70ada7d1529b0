"""
On an H100: which kernel ran, by which path, and that the paths agree bit for bit.

Every row of the tile table, odd lengths, grouped heads, misaligned tensors, CUDA graphs.
"""

from __future__ import annotations

import gc

import pytest
import torch
from accuracy import assert_accurate
from attention_inputs import make, shifted
from table_cases import EVERY_ROW, Case

from flashcore_kernels import attention, configs, forward, launch
from flashcore_kernels.plans import plans

pytestmark = pytest.mark.h100

DTYPES = [torch.float16, torch.bfloat16]
SOLO, SHARED = "attention_solo_kernel", "attention_ws_kernel"
PLAIN = "attention_forward_kernel"


@pytest.fixture
def launched(monkeypatch) -> list[tuple[str, str]]:
    """Record (path, kernel) of every launch: "triton" or "prepared"."""
    seen: list[tuple[str, str]] = []
    names: dict[int, str] = {}
    through_triton = launch.launch
    plans.clear()

    def public(kernel, *rest):
        handle = through_triton(kernel, *rest)
        names[handle.function] = kernel.__name__
        seen.append(("triton", kernel.__name__))
        return handle

    def watched(original):
        def call(self, *args):
            launched = original(self, *args)
            if launched:
                seen.append(("prepared", names[self._after_stream[0]]))
            return launched

        return call

    monkeypatch.setattr(launch, "launch", public)
    monkeypatch.setattr(forward, "launch", public)
    for prepared in (launch.PointerLaunch, launch.PreparedLaunch):
        monkeypatch.setattr(prepared, "__call__", watched(prepared.__call__))
    return seen


def _expected_kernel(case: Case) -> str:
    row = configs.select(
        (9, 0), case.headdim, case.causal, case.seqlen, case.seqlen, case.batch * case.heads
    )
    if row.hopper is None:
        return PLAIN
    return SOLO if row.hopper.family == "solo" else SHARED


def _draw(case: Case, dtype=torch.float16, seed=0):
    heads, length = case.heads, case.seqlen
    return make(case.batch, heads, heads, length, length, case.headdim, dtype, seed)


def _last_head(*tensors):
    return tuple(tensor[-1:, -1:] for tensor in tensors)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", EVERY_ROW, ids=str)
def test_the_fast_path_equals_the_slow_one_in_every_row(launched, case, dtype):
    """On fresh tensors, whose addresses the prepared launch has never seen."""
    inputs = _draw(case, dtype)
    slow, slow_lse = attention(*inputs, causal=case.causal, return_lse=True)
    fresh = [tensor.clone() for tensor in inputs]

    fast, fast_lse = attention(*fresh, causal=case.causal, return_lse=True)

    kernel = _expected_kernel(case)
    assert [("triton", kernel), ("prepared", kernel)] == launched
    assert torch.equal(slow, fast)
    assert torch.equal(slow_lse, fast_lse)
    assert_accurate(*_last_head(slow, slow_lse, *inputs), causal=case.causal)


@pytest.mark.parametrize("case", EVERY_ROW, ids=str)
def test_the_log_sum_exp_changes_nothing_in_the_result(launched, case):
    """Without it, the fast path passes another address in its place."""
    inputs = _draw(case)
    with_lse, _ = attention(*inputs, causal=case.causal, return_lse=True)

    for _ in range(2):
        assert torch.equal(with_lse, attention(*inputs, causal=case.causal))

    assert "prepared" == launched[-1][0]


def test_a_misaligned_tensor_goes_to_the_plain_kernel(launched):
    """Also where a prepared launch of the same shape is remembered, and it stays remembered."""
    q, k, v = make(8, 8, 8, 128, 128, 64)
    expected = attention(q, k, v)

    for inputs in ((shifted(q), k, v), (q, shifted(k), v), (q, k, shifted(v))):
        out = attention(*inputs)

        assert ("triton", PLAIN) == launched[-1]
        torch.testing.assert_close(expected, out, rtol=2e-3, atol=2e-3)

    assert torch.equal(expected, attention(q, k, v))
    assert ("prepared", SOLO) == launched[-1]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("seqlen", [1, 17, 100, 127, 129, 257, 384, 500, 513, 1000])
def test_odd_lengths_run_on_the_hopper_kernel_and_are_right(launched, seqlen, causal):
    q, k, v = make(16, 8, 8, seqlen, seqlen, 64)

    for _ in range(2):
        out, lse = attention(q, k, v, causal=causal, return_lse=True)

    assert _expected_kernel(Case(64, causal, 16, 8, seqlen)) == launched[-1][1]
    assert_accurate(out, lse, q, k, v, causal=causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("headdim", [64, 128])
@pytest.mark.parametrize("nheads_k", [1, 2, 4])
def test_grouped_heads_equal_expanded_ones_without_copies(launched, nheads_k, headdim, causal):
    """8 query heads; the keys and values are never expanded in memory."""
    q, k, v = make(8, 8, nheads_k, 512, 512, headdim)
    expanded = [tensor.repeat_interleave(8 // nheads_k, dim=1) for tensor in (k, v)]
    expected = attention(q, *expanded, causal=causal)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()

    out = attention(q, k, v, causal=causal)
    torch.cuda.synchronize()
    taken_bytes = torch.cuda.max_memory_allocated() - before  # torch.equal takes memory too

    assert torch.equal(expected, out)
    assert taken_bytes <= out.numel() * out.element_size()
    assert _expected_kernel(Case(headdim, causal, 8, 8, 512)) == launched[-1][1]


@pytest.mark.parametrize("seqlen", [128, 512])
def test_a_graph_of_300_calls_over_rotating_inputs_replays_right(launched, seqlen):
    """Its tensor maps are its own: caches emptied and inputs rewritten, it reads the new values."""
    sets = [make(8, 8, 8, seqlen, seqlen, 64, seed=n) for n in range(34)]
    attention(*sets[0])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outs = [attention(*sets[n % 34]) for n in range(300)]
    assert [("prepared", SOLO)] * 300 == launched[1:301]
    _forget_everything(seqlen)

    for shift in (0, 100):
        for n, inputs in enumerate(sets):
            fresh = make(8, 8, 8, seqlen, seqlen, 64, seed=n + shift)
            torch._foreach_copy_(inputs, fresh)
        graph.replay()
        torch.cuda.synchronize()

        for n in (*range(34), 150, 299):
            assert torch.equal(attention(*sets[n % 34]), outs[n])


def _forget_everything(seqlen):
    """Drop plans and tensor maps, and fill the memory that held them with other maps."""
    plans.clear()
    gc.collect()
    others = [make(8, 8, 8, seqlen, seqlen, 64, seed=1000 + n) for n in range(8)]
    for inputs in others * 2:
        attention(*inputs)


def test_a_programmatic_launch_waits_for_what_it_reads(launched):
    """A chain of calls, each on the previous result and on what a small kernel has just written."""
    q, k, v = make(32, 8, 8, 256, 256, 64)
    shift = torch.zeros_like(k)

    def chain(synchronise):
        x = q
        for n in range(40):
            x = attention(x, k + shift, v)
            if n % 3 == 0:
                x.mul_(1.5)
            if synchronise:
                torch.cuda.synchronize()
        return x

    expected = chain(synchronise=True)

    for _ in range(5):
        assert torch.equal(expected, chain(synchronise=False))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = chain(synchronise=False)
    graph.replay()
    assert torch.equal(expected, captured)


def test_the_result_is_fresh_memory_on_every_call():
    q, k, v = make(8, 8, 8, 128, 128, 64)

    outs = [attention(q, k, v) for _ in range(5)]

    assert len({out.data_ptr() for out in outs}) == 5
