"""
The Gluon kernels compiled for sm_90 without a GPU: every row of the tile table, and its launch.

The launcher is Triton's own code with a recorder in place of the C function that it generates, so
these tests show what the fast path hands over, argument for argument, without a card.
"""

from __future__ import annotations

import importlib.util

import pytest
from compiled_once import compiled_once

from flashcore_kernels import configs, launch

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs triton", allow_module_level=True)

import triton

if not triton.__version__.startswith(launch.KNOWN_TRITON):
    pytest.skip("another Triton: no Gluon kernels", allow_module_level=True)

# Most registers per thread at launch: 128 * registers * programs have to fit into 65536. The "ws"
# kernels move theirs from the producer to the consumers.
REGISTERS = {
    "solo1-n128-s1-d1 D64 full": 104,
    "solo1-n128-s1-r128-serial-d1 D64 full": 128,
    "solo1-n128-s2-d1 D64 full": 160,
    "ws3-n128-s3-c160-p1 D64 full": 128,
    "solo1-n128-s1-d1 D64 causal": 104,
    "solo1-n64-s2-d1 D64 causal": 112,
    "solo1-n128-s1-r128-serial-d1 D64 causal": 128,
    "solo1-n64-s2-r96-serial-d1 D64 causal": 96,
    "solo1-n128-s2-d1 D64 causal": 160,
    "ws3-n128-s5-c160-p1 D64 causal": 128,
    "solo1-n64-s2 D128 full": 144,
    "ws2-n128-s2-c240-p1 D128 full": 168,
    "solo1-n64-s2 D128 causal": 144,
    "ws2-n64-s4-c240-p1 D128 causal": 168,
    "ws2-n128-s2-c240-p1-o D128 causal": 168,
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict:
    return compiled_once("compile_hopper.py", tmp_path_factory)


def _pdl_rows() -> set[str]:
    tables = ((64, configs.HEADDIM_64), (128, configs.HEADDIM_128))
    return {
        f"{row.hopper.name} D{headdim} {'causal' if row.causal else 'full'}"
        for headdim, table in tables
        for row in table
        if row.hopper and row.hopper.pdl
    }


def test_every_row_of_the_table_has_its_registers_recorded(compiled):
    """A new configuration must be compiled here before it ships."""
    shipped = {name for name in compiled if not name.startswith(("bf16", "control"))}

    assert set(REGISTERS) == shipped


@pytest.mark.parametrize("case", REGISTERS)
def test_products_stay_asynchronous_and_registers_hold(compiled, case):
    result = compiled[case]

    assert result["warnings"] == []  # C7510 and its kin: ptxas serialised the warpgroup products
    assert result["wgmma"] > 0
    assert result["registers"] <= REGISTERS[case]
    assert result["spill_bytes"] == 0


@pytest.mark.parametrize(
    "case", [case for case in REGISTERS if case.endswith("full") or case.startswith("ws")]
)
def test_an_odd_length_keeps_as_many_programs_on_an_sm(compiled, case):
    """The mask of the last keys must not cost registers in the loop over all others."""
    odd = compiled[case]["odd"]

    assert (odd["warnings"], odd["spill_bytes"]) == ([], 0)
    assert odd["registers"] <= REGISTERS[case]


def test_bfloat16_costs_the_same_registers(compiled):
    first = next(iter(REGISTERS))

    assert compiled[first]["registers"] == compiled["bf16"]["registers"]
    assert compiled[first]["wgmma"] == compiled["bf16"]["wgmma"]


@pytest.mark.parametrize("case", REGISTERS)
def test_the_fast_path_hands_over_what_triton_would(compiled, case):
    """All arguments, in order: handles, flags, four tensor maps, sizes, constants."""
    by_triton, prepared = compiled[case]["calls"]

    assert by_triton == prepared
    assert len(compiled[case]["letters"]) == len(prepared)


@pytest.mark.parametrize("case", REGISTERS)
def test_programmatic_launch_is_passed_on(compiled, case):
    _, prepared = compiled[case]["calls"]

    assert (case in _pdl_rows()) == prepared[6]


@pytest.mark.parametrize("case", REGISTERS)
def test_tensor_maps_are_parameters_passed_by_value(compiled, case):
    """So a captured graph holds its own copies, whatever becomes of the cached ones."""
    assert compiled[case]["maps_by_value"] == 4
    assert compiled[case]["maps_copied"] == 4


@pytest.mark.parametrize("case", [case for case in REGISTERS if case.startswith("ws2")])
def test_racechecks_controls_dispatch_as_the_kernel_does(compiled, case):
    """Its dispatch is all that loads from or stores to shared memory there, matrices apart."""
    expected = [
        "Read LDS.U8 behind BAR.SYNC 0x1",
        "Write STS.64 before BAR.SYNC 0x1",
        "Write STS.64 before BAR.SYNC 0x1",
    ]
    controls = [name for name in compiled if name.startswith("control")]

    assert len(controls) == 7
    for name in (case, *controls):
        assert expected == sorted(compiled[name]["shared_accesses"]), name


def test_barriers_order_all_that_a_dispatch_reads_and_writes(compiled):
    """Between each write of the state and each read of it all warps meet at one barrier."""
    kernels = {
        case: found for case, found in compiled.items() if case.startswith(("ws", "control"))
    }
    kernels |= {f"{case} odd": found["odd"] for case, found in kernels.items() if "odd" in found}

    for case, found in kernels.items():
        assert found["ordered"], case
        assert found["order"] == {"writes": [0, 3], "reads": [1, 4], "exits": [4]}, case
