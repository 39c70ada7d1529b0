"""
The plain kernel compiled for sm_90, without a GPU: every row of the tile table, and what it costs.

Run as a program it compiles and prints JSON; the tests run it once in a child process, because this
one may have defined the kernels for the interpreter.
"""

from __future__ import annotations

import json

import needs
import pytest
from compiled_once import compiled_once

from flashcore_kernels import configs
from flashcore_kernels.configs import TileConfig

# (headdim, tile) -> most registers per thread for the plain, the causal, and the causal, ragged,
# strided form. ptxas of Triton 3.6.0. 65536 registers per SM over 128 threads: 4 programs up to
# 128, 3 up to 168, 2 up to 255; over 256 threads: 2 up to 128, 1 up to 255.
REGISTERS = {
    (64, TileConfig(64, 64, 4, 3)): (108, 112, 128),
    (64, TileConfig(64, 64, 4, 3, prefetch=True)): (108, 112, 128),
    (64, TileConfig(64, 128, 4, 2)): (160, 160, 216),
    (64, TileConfig(64, 128, 4, 2, prefetch=True)): (160, 160, 216),
    (64, TileConfig(128, 64, 8, 3)): (108, 112, 124),
    (128, TileConfig(64, 64, 4, 3)): (144, 144, 190),
    (128, TileConfig(64, 64, 4, 2)): (144, 144, 190),
}
FORMS = ("plain", "causal", "general")


def _case(headdim: int, tile: TileConfig, form: str, dtype: str = "fp16") -> dict:
    return {
        "HEADDIM": headdim,
        "BLOCK_D": headdim,
        "GROUP": 1 if form != "general" else 4,
        "CAUSAL": form != "plain",
        "EVEN_M": form != "general",
        "EVEN_N": form != "general",
        "WRITE_LSE": form == "general",
        "CONTIGUOUS": form != "general",
        "BLOCK_M": tile.BLOCK_M,
        "BLOCK_N": tile.BLOCK_N,
        "STAGES": tile.num_stages,
        "PREFETCH": tile.prefetch,
        "num_warps": tile.num_warps,
        "dtype": dtype,
    }


def _key(headdim: int, tile: TileConfig, form: str, dtype: str = "fp16") -> str:
    return f"{headdim} {tile} {form} {dtype}"


def _signature(names: list[str], case: dict) -> tuple[dict, dict, dict]:
    """Types, constants and alignment, as a call with aligned tensors would specialise them."""
    types, constants, attributes = {}, {}, {}
    for index, name in enumerate(names):
        position = (index,)
        absent = (name == "lse_ptr" and not case["WRITE_LSE"]) or (
            name.startswith("stride") and case["CONTIGUOUS"]
        )
        if name in case or absent:
            types[name], constants[position] = "constexpr", case.get(name)
        elif name == "scale_log2e":
            types[name] = "fp32"
        elif name.endswith("_ptr"):
            types[name] = "*fp32" if name == "lse_ptr" else f"*{case['dtype']}"
            attributes[position] = [["tt.divisibility", 16]]
        else:
            types[name] = "i32"
            if name.startswith("stride"):
                attributes[position] = [["tt.divisibility", 16]]
    return types, constants, attributes


def _compile(case: dict, capability: int) -> dict:
    import ptxas
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from flashcore_kernels.forward import attention_forward_kernel as kernel

    types, constants, attributes = _signature(kernel.arg_names, case)
    source = ASTSource(fn=kernel, signature=types, constexprs=constants, attrs=attributes)
    options = {"num_warps": case["num_warps"], "num_stages": case["STAGES"]}
    target = GPUTarget("cuda", capability, 32)
    compiled = triton.compile(source, target=target, options=options)
    ptx = compiled.asm["ptx"]
    return ptxas.assembled(ptx, capability) | {
        "shared_bytes": compiled.metadata.shared,
        "wgmma": ptx.count("wgmma.mma_async"),
        "prefetches": ptx.count("prefetch.global.L2"),
        "mma": ptx.count("mma.sync"),
        "async_copies": ptx.count("cp.async.c"),
    }


def main() -> None:
    """Compile every case and print {key: numbers} as JSON."""
    results = {}
    for headdim, tile in REGISTERS:
        for form in FORMS:
            results[_key(headdim, tile, form)] = _compile(_case(headdim, tile, form), 90)
    first = next(iter(REGISTERS))
    results[_key(*first, "plain", "bf16")] = _compile(_case(*first, "plain", "bf16"), 90)
    results["sm_80"] = _compile(_case(64, configs.BEFORE_HOPPER, "general"), 80)
    results["sm_100"] = _compile(_case(*first, "causal"), 100)
    print(json.dumps(results))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict:
    return compiled_once("test_compile_sm90.py", tmp_path_factory)


def test_every_row_of_the_table_has_its_registers_recorded():
    """A new tile must be compiled here before it ships."""
    rows = {(64, row.tile) for row in configs.HEADDIM_64}
    rows |= {(128, row.tile) for row in configs.HEADDIM_128}

    assert rows <= set(REGISTERS)


@needs.TRITON_3_6
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("headdim", "tile"), REGISTERS, ids=str)
def test_a_tile_uses_the_tensor_cores_well(compiled, headdim, tile, form):
    """No spills, asynchronous warpgroup products and copies, registers as recorded."""
    result = compiled[_key(headdim, tile, form)]

    assert result["spill_bytes"] == 0
    assert result["warnings"] == []  # C7510, C7511: ptxas serialised the warpgroup products
    assert result["wgmma"] > 0
    assert result["mma"] == 0
    assert result["async_copies"] > 0
    assert result["registers"] <= REGISTERS[headdim, tile][FORMS.index(form)]
    assert result["shared_bytes"] <= 227 * 1024


def test_the_prefetch_is_in_the_machine_code(compiled):
    prefetching = compiled[_key(64, TileConfig(64, 64, 4, 3, prefetch=True), "plain")]
    plain = compiled[_key(64, TileConfig(64, 64, 4, 3), "plain")]

    assert prefetching["prefetches"] > 0
    assert plain["prefetches"] == 0


def test_bfloat16_costs_the_same_registers(compiled):
    tile = next(iter(REGISTERS))

    half, bfloat = (compiled[_key(*tile, "plain", dtype)] for dtype in ("fp16", "bf16"))

    assert half["registers"] == bfloat["registers"]
    assert half["wgmma"] == bfloat["wgmma"]


@pytest.mark.parametrize("arch", ["sm_80", "sm_100"])
def test_other_architectures_compile_without_spills(compiled, arch):
    assert compiled[arch]["spill_bytes"] == 0


if __name__ == "__main__":
    main()
