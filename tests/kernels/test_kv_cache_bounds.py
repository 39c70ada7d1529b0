"""
Every address that the decode kernels touch, checked lane by lane in Triton's interpreter.

An active lane may load an element of the call's tensors, and store an element of those that it is
meant to write: between and around the elements lie other tensors' bytes, on a GPU as on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from kv_cache_cases import HAS_GPU, SMALL, Case, Tensors, make

from flashcore_kernels import decode_launch

pytestmark = [
    pytest.mark.skipif(HAS_GPU, reason="checks the interpreter, which runs without a GPU"),
    pytest.mark.filterwarnings("ignore:divide by zero encountered in log2"),
]


def addresses(tensor: torch.Tensor) -> np.ndarray:
    """Return the address of every element, for any strides."""
    offset = torch.zeros(tensor.shape, dtype=torch.int64)
    for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        shape = [1] * tensor.ndim
        shape[dim] = size
        offset += (torch.arange(size) * stride).view(shape)
    return (tensor.data_ptr() + offset * tensor.element_size()).flatten().numpy().astype(np.uint64)


@dataclass
class Allowed:
    """The addresses that may be touched, in ascending order."""

    loads: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    stores: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))

    def add(self, *tensors: torch.Tensor | None, stores: bool = False) -> None:
        """Allow loads from the tensors, and stores if asked."""
        for tensor in tensors:
            if tensor is not None:
                self.loads = np.union1d(self.loads, addresses(tensor))
                if stores:
                    self.stores = np.union1d(self.stores, addresses(tensor))


def assert_inside(what: str, pointers: np.ndarray, mask: np.ndarray, inside: np.ndarray) -> None:
    """Require that every active address is one of those in the sorted array `inside`."""
    pointers, mask = np.broadcast_arrays(pointers, mask)
    active = pointers[mask]
    nearest = np.minimum(np.searchsorted(inside, active), len(inside) - 1)
    outside = active[inside[nearest] != active]
    assert outside.size == 0, (
        f"{outside.size} of {active.size} active lanes {what} outside the tensors, "
        f"the first at {outside[0]:#x}"
    )


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> Allowed:
    """Check every load and store of the interpreter against what the test allows."""
    from triton.runtime.interpreter import InterpreterBuilder

    allowed = Allowed()
    load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
    workspace = decode_launch._workspace

    def checked_load(self, pointers, mask, *rest):
        assert_inside("load", pointers.data, mask.data, allowed.loads)
        return load(self, pointers, mask, *rest)

    def checked_store(self, pointers, value, mask, *rest):
        assert_inside("store", pointers.data, mask.data, allowed.stores)
        return store(self, pointers, value, mask, *rest)

    def allowed_workspace(q, num_splits):
        partials = workspace(q, num_splits)
        allowed.add(*partials, stores=True)
        return partials

    monkeypatch.setattr(InterpreterBuilder, "create_masked_load", checked_load)
    monkeypatch.setattr(InterpreterBuilder, "create_masked_store", checked_store)
    monkeypatch.setattr(decode_launch, "_workspace", allowed_workspace)
    return allowed


def launch(case: Case, t: Tensors, allowed: Allowed) -> None:
    """Run the kernels on tensors whose neighbours in memory are not theirs to touch."""
    out, lse = torch.empty_like(t.q), torch.empty(t.q.shape[:3])
    allowed.add(t.q, t.lens, t.k, t.v)
    allowed.add(out, lse, stores=True)
    allowed.add(t.k_cache, t.v_cache, stores=t.k is not None)
    decode_launch.launch_decode(
        t.q, t.k_cache, t.v_cache, t.lens, t.k, t.v, out, lse, 0.125, case.causal, case.plan()
    )


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_only_elements_of_the_tensors_are_touched(case: Case, allowed: Allowed) -> None:
    launch(case, make(case, "cpu"), allowed)


@pytest.mark.parametrize("length", [-5, 98, 100, 2**31 - 1])
def test_a_wrong_length_touches_nothing_else_either(length: int, allowed: Allowed) -> None:
    case = Case((100, 100), 100, new=7, seqlen_q=7)
    t = make(case, "cpu")

    launch(case, replace(t, lens=torch.full_like(t.lens, length)), allowed)


def test_only_elements_of_views_are_touched(allowed: Allowed) -> None:
    """Every tensor a slice of a wider one, in the layout [batch, seqlen, nheads, headdim]."""
    case = Case((33, 70), 100, new=3, seqlen_q=3, headdim=40)
    t = make(case, "cpu")

    def sliced(tensor: torch.Tensor) -> torch.Tensor:
        batch, heads, length, headdim = tensor.shape
        wide = torch.zeros(batch, length + 2, heads + 1, headdim + 8, dtype=tensor.dtype)
        return wide[:, 1:-1, 1:, 8:].transpose(1, 2).copy_(tensor)

    moved = {name: sliced(x) if x.ndim == 4 else x for name, x in vars(t).items()}

    launch(case, Tensors(**moved), allowed)


@pytest.mark.parametrize(("length", "new", "access"), [(100, 0, "load"), (99, 1, "store")])
def test_the_checker_sees_one_position_too_many(
    length: int, new: int, access: str, allowed: Allowed
) -> None:
    """The guard of the guard: only the cache's first 99 positions are allowed, 100 are touched."""
    case = Case((length,), 100, new=new)
    t = make(case, "cpu")
    out = torch.empty_like(t.q)
    allowed.add(t.q, t.lens, t.k, t.v)
    allowed.add(out, t.k_cache, t.v_cache[:, :, :99], stores=True)

    with pytest.raises(Exception, match=f"64 of .* active lanes {access} outside the tensors"):
        decode_launch.launch_decode(
            t.q, t.k_cache, t.v_cache, t.lens, t.k, t.v, out, None, 0.125, True, case.plan()
        )
