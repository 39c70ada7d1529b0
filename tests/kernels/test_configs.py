"""The tile table: every shape gets a row, every row a measured kernel; plain Triton elsewhere."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import triton
from table_cases import EVERY_ROW

from flashcore_kernels import configs, dispatch, forward, forward_hopper

HOPPER, AMPERE, BLACKWELL = (9, 0), (8, 0), (10, 0)
TABLES = {64: configs.HEADDIM_64, 128: configs.HEADDIM_128}


def _select(case, capability=HOPPER, seqlen_q=None):
    return configs.select(
        capability,
        case.headdim,
        case.causal,
        case.seqlen if seqlen_q is None else seqlen_q,
        case.seqlen,
        case.batch * case.heads,
    )


def test_every_row_is_reached_by_a_case():
    """No row hides behind an earlier one, and the tests on the card leave none out."""
    assert [*configs.HEADDIM_64, *configs.HEADDIM_128] == [_select(case) for case in EVERY_ROW]


@pytest.mark.parametrize("headdim", [64, 128])
@pytest.mark.parametrize("causal", [False, True])
def test_the_last_row_of_a_mask_holds_for_every_shape(headdim, causal):
    last = [row for row in TABLES[headdim] if row.causal == causal][-1]

    assert (last.max_seqlen, last.max_tiles) == (configs.ANY, configs.ANY)


@pytest.mark.parametrize("headdim", [64, 128])
def test_every_row_names_a_configuration_that_the_sweep_measures(headdim):
    named = {row.hopper for row in TABLES[headdim]} - {None}

    assert named <= set(forward_hopper.HOPPER_CONFIGS[headdim])


@pytest.mark.parametrize(
    ("seqlen", "batch", "causal", "name"),
    [
        (128, 8, False, "solo1-n128-s1-d1"),
        (256, 8, False, "solo1-n128-s1-r128-serial-d1"),
        (256, 16, False, "solo1-n128-s1-r128-serial-d1"),
        (512, 16, False, "solo1-n128-s1-r128-serial-d1"),
        (512, 32, False, "solo1-n128-s1-r128-serial-d1"),
        (256, 32, False, "solo1-n128-s2-d1"),
        (128, 32, True, "solo1-n64-s2-d1"),
        (512, 8, True, "solo1-n128-s1-r128-serial-d1"),
        (1024, 32, True, "solo1-n64-s2-r96-serial-d1"),
    ],
)
def test_the_shapes_of_the_report_get_the_measured_winner(seqlen, batch, causal, name):
    row = configs.select(HOPPER, 64, causal, seqlen, seqlen, batch * 8)

    assert name == row.hopper.name


@pytest.mark.parametrize("seqlen", [1, 17, 100, 127, 129, 257, 384, 500, 513, 1000])
def test_an_odd_length_gets_the_kernel_of_the_next_multiple_of_64(seqlen):
    """So that it costs no more than that, up to the mask on its last block."""
    rounded = -(-seqlen // 64) * 64

    odd, even = (configs.select(HOPPER, 64, False, n, n, 128) for n in (seqlen, rounded))

    assert odd.hopper is not None
    assert even == odd


@pytest.mark.parametrize("headdim", [64, 128])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("seqlen", [128, 512])
def test_a_lone_small_call_takes_bare_addresses(headdim, causal, seqlen):
    """Each tensor map is encoded by the host, for every new tensor, while its caller waits."""
    assert configs.select(HOPPER, headdim, causal, seqlen, seqlen, 8).hopper is None
    assert configs.select(HOPPER, headdim, causal, seqlen, seqlen, 136).hopper is not None


def test_few_queries_do_not_get_tall_tiles():
    """One query row on a long cache: 191 of 192 rows would be padding."""
    row = configs.select(HOPPER, 64, False, 1, 8192, 2048)

    assert row.hopper.block_m == 64


@pytest.mark.parametrize("seqlen", [129, 192, 320])
def test_a_length_just_over_a_tall_tile_gets_narrow_ones(seqlen):
    """192 rows take two tiles of 128, a third of them padding."""
    row = configs.select(HOPPER, 128, False, seqlen, seqlen, 512)

    assert row.hopper.block_m == 64
    assert configs.select(HOPPER, 128, False, 256, 256, 512).hopper.block_m == 128


@pytest.mark.parametrize("case", EVERY_ROW, ids=str)
def test_older_gpus_get_the_plain_kernel(case):
    row = _select(case, AMPERE)

    assert row.hopper is None
    assert configs.BEFORE_HOPPER == row.tile


# --- where Gluon can't be used -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "version", "expected"),
    [
        (HOPPER, "3.6.0", True),
        (HOPPER, "3.6.1+git", True),
        (HOPPER, "3.5.1", False),
        (HOPPER, "3.7.0", False),
        (AMPERE, "3.6.0", False),
        (BLACKWELL, "3.6.0", False),
        ((9, 1), "3.6.0", False),
    ],
)
def test_gluon_runs_on_one_gpu_generation_with_one_triton(
    monkeypatch, capability, version, expected
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(triton, "__version__", version)

    assert expected is forward_hopper._hopper_with_gluon.__wrapped__(0)


@pytest.fixture
def on_an_h100(monkeypatch):
    """Pretend that Gluon is there."""
    monkeypatch.setattr(forward_hopper, "_hopper_with_gluon", lambda index: True)


def _cuda_tensor(shape=(2, 4, 64, 64), stride=None, dtype=torch.float16, address=0x1000):
    strides = stride or torch.empty(shape).stride()
    return SimpleNamespace(
        device=SimpleNamespace(type="cuda", index=0),
        dtype=dtype,
        shape=torch.Size(shape),
        stride=lambda: strides,
        element_size=lambda: 2,
        data_ptr=lambda: address,
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"dtype": torch.bfloat16}, True),
        ({"dtype": torch.float32}, False),
        ({"address": 0x1002}, False),  # TMA wants 16 bytes
        ({"shape": (2, 4, 64, 32)}, False),
        ({"shape": (2, 4, 1, 64)}, True),
        ({"stride": (64 * 256, 64, 256, 1)}, True),  # heads inside a row
        ({"stride": (4 * 64 * 65, 64 * 65, 65, 1)}, False),
        ({"stride": (0, 64 * 64, 64, 1)}, False),  # expanded
        ({"shape": (1, 4, 64, 64), "stride": (0, 64 * 64, 64, 1)}, True),  # never stepped over
        ({"stride": (4 * 64 * 128, 64 * 128, 128, 2)}, False),
    ],
)
@pytest.mark.usefixtures("on_an_h100")
def test_what_the_hopper_kernels_can_read(changes, expected):
    tensor = _cuda_tensor(**changes)

    assert expected is forward_hopper.is_supported(tensor, tensor, tensor, scale=0.125)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.usefixtures("on_an_h100")
def test_the_hopper_kernels_take_positive_scales_only(scale):
    tensor = _cuda_tensor()

    assert not forward_hopper.is_supported(tensor, tensor, tensor, scale=scale)


@pytest.mark.parametrize("gluon", [True, False])
def test_the_row_decides_and_plain_triton_stands_in(monkeypatch, gluon):
    """The same call goes to the row's Hopper configuration, or to its plain tile."""
    launched = []
    monkeypatch.setattr(forward_hopper, "is_supported", lambda *args, **kwargs: gluon)
    monkeypatch.setattr(
        dispatch, "_launch_hopper", lambda *_, config, **__: launched.append(config)
    )
    monkeypatch.setattr(forward, "plain_forward", lambda *_, config, **__: launched.append(config))
    q = torch.empty(8, 8, 128, 64, dtype=torch.float16)

    dispatch.run(q, q, q, q, None, scale=0.125, causal=False, causal_offset=0)

    row = configs.select(HOPPER, 64, False, 128, 128, 64)
    assert launched == [row.hopper if gluon else row.tile]


def test_a_result_that_tma_cannot_write_goes_to_plain_triton(monkeypatch):
    """`out` is checked as `q` is: it may lie anywhere and have any strides."""
    launched = []
    q, out = (torch.empty(8, 8, 128, 64, dtype=torch.float16) for _ in range(2))
    monkeypatch.setattr(forward_hopper, "is_supported", lambda q, *args, **kwargs: q is not out)
    monkeypatch.setattr(forward, "plain_forward", lambda *_, config, **__: launched.append(config))

    dispatch.run(q, q, q, out, None, scale=0.125, causal=False, causal_offset=0)

    assert launched == [configs.select(HOPPER, 64, False, 128, 128, 64).tile]
