"""The fast path of kernels that take tensor maps: each is encoded once per address, and bounded."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import triton
from launch_stand_ins import (
    METADATA,
    STREAM,
    make_described_handle,
    make_descriptor,
    make_inputs,
    make_plan,
    only_known_triton,
)

from flashcore_kernels import launch

pytestmark = only_known_triton


@pytest.fixture
def encoded(monkeypatch) -> list[tuple]:
    """Stand in for the driver's encoding of tensor maps; return what it was called with."""
    calls: list[tuple] = []

    def fill(*args):
        calls.append(args)
        return ("map", *map(str, args))

    utils = SimpleNamespace(fill_tma_descriptor=fill)
    monkeypatch.setattr(triton.runtime.driver, "_active", SimpleNamespace(utils=utils))
    return calls


def _prepared(recorded, tensors, **changes):
    q, k, v, out, lse = tensors
    descriptors = [make_descriptor(tensor) for tensor in (q, k, v, out)]
    handle = make_described_handle(recorded, **changes)
    return launch.prepare(handle, (2, 1, 1), (*descriptors, lse), (0.125, 64, 64))


def _tensors():
    q, k, v = make_inputs()
    return q, k, v, torch.empty_like(q), torch.empty(2, 4, 64)


def test_cached_descriptors_are_what_triton_would_have_encoded(recorded, encoded):
    """The same arguments reach the C function, map for map, as by the public way."""
    tensors = _tensors()
    q, k, v, out, lse = tensors
    descriptors = [make_descriptor(tensor) for tensor in (q, k, v, out)]
    addresses = [tensor.data_ptr() for tensor in tensors]
    make_described_handle(recorded).run.launch(
        *(2, 1, 1, STREAM, 1234, False, False, None, None, (4, 1, 57344), None, None, None),
        *(*descriptors, lse.data_ptr(), 0.125, 64, 64),
    )

    prepared = _prepared(recorded, tensors)
    prepared(STREAM, *addresses)
    prepared(STREAM, *addresses)

    by_triton, first, second = recorded
    assert by_triton == first == second
    assert len(encoded) == 8  # four by Triton, four by the first call, none by the second


def test_another_address_gets_its_own_descriptor(recorded, encoded):
    prepared = _prepared(recorded, _tensors())

    prepared(STREAM, 0x1000, 0x2000, 0x3000, 0x4000, 0x5000)
    prepared(STREAM, 0x1000, 0x2000, 0x3000, 0x9000, 0x5000)

    assert [args[0] for args in encoded] == [0x1000, 0x2000, 0x3000, 0x4000, 0x9000]
    assert recorded[0] != recorded[1]


def test_rotating_inputs_are_encoded_once(recorded, encoded):
    """34 sets of q, k, v and out, as a benchmark rotates them, are far below the bound."""
    prepared = _prepared(recorded, _tensors())
    sets = [[0x1000 * (5 * n + i) for i in range(1, 6)] for n in range(34)]

    for _ in range(3):
        for addresses in sets:
            prepared(STREAM, *addresses)

    assert len(encoded) == 34 * 4
    assert recorded[:34] == recorded[34:68] == recorded[68:]


def test_remembered_descriptors_are_bounded():
    """More addresses than that cost an encoding each, as without a cache, and no more memory."""
    maps = launch.TensorMaps(lambda address: address, ())
    for address in range(launch.TensorMaps.MAX_ADDRESSES + 10):
        assert maps[address] == (address,)

    assert len(maps) == 10


def test_remembered_argument_lists_are_bounded(recorded, encoded):
    """A new result at a new address each time must not fill the memory."""
    prepared = _prepared(recorded, _tensors())
    for n in range(prepared.MAX_BOUND + 10):
        prepared(STREAM, 0x1000, 0x2000, 0x3000, 16 * n, 0x5000)

    assert len(prepared._bound) == 10


def test_an_address_without_descriptor_is_not_kept():
    plain = launch.AddressArguments()

    assert plain[0x1000] == (0x1000,)
    assert plain[None] == (None,)
    assert len(plain) == 0


def test_the_programmatic_launch_flag_reaches_the_launcher(recorded, encoded):
    prepared = _prepared(recorded, _tensors(), launch_pdl=True)

    prepared(STREAM, 0x1000, 0x2000, 0x3000, 0x4000, 0x5000)

    assert recorded[0][5:7] == (False, True)  # cooperative, programmatic


def test_without_a_wanted_lse_its_place_holds_a_valid_address(recorded, encoded):
    """The Gluon kernels always take a pointer there; it is never read."""
    q, k, v, out, _ = _tensors()
    plan = make_plan(_prepared(recorded, (q, k, v, out, q)), out, lse_is_needed=True)

    assert plan.repeat(q, k, v, out) is out

    assert recorded[0][13 + 4 * 9] == q.data_ptr()


def test_descriptors_that_are_built_on_the_device_are_not_prepared(recorded):
    """Triton then passes pointers, shapes and strides, in another order."""
    assert _prepared(recorded, _tensors(), metadata=None) is None


def test_a_launcher_of_another_build_is_not_prepared(recorded, encoded):
    """It is wrapped by something that is not Triton's own code for descriptors."""
    tensors = _tensors()
    handle = make_described_handle(recorded)
    handle.run.launch = lambda *args: recorded.append(args)
    descriptors = [make_descriptor(tensor) for tensor in tensors[:4]]

    assert launch.prepare(handle, (1, 1, 1), (*descriptors, tensors[4]), ()) is None


def test_another_format_of_the_map_is_encoded_as_such(recorded, encoded):
    prepared = _prepared(recorded, _tensors(), metadata={**METADATA, "swizzle": 1})

    prepared(STREAM, 0x1000, 0x2000, 0x3000, 0x4000, 0x5000)

    assert encoded[0][:3] == (0x1000, 1, 2)
