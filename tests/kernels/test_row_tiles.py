"""Where the row tiles of the warp-specialised kernel lie, by its own functions run as Python."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest

from flashcore_kernels import launch

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs triton", allow_module_level=True)

import triton

if not triton.__version__.startswith(launch.KNOWN_TRITON):
    pytest.skip("another Triton: no Gluon kernels", allow_module_level=True)

from flashcore_kernels import forward_hopper_tiles as tiles

LENGTHS = (1, 63, 64, 65, 128, 191, 192, 193, 300, 1000, 4096, 8192, 16384)


def first_rows(seqlen: int, consumers: int, short_first: bool) -> list[int]:
    num_m = -(-seqlen // (64 * consumers))
    problem = SimpleNamespace(num_m=num_m, seqlen_q=seqlen)
    plan = SimpleNamespace(CONSUMERS=consumers, SHORT_FIRST=short_first)
    found = [tiles._first_row.fn(m, problem, plan) for m in range(num_m)]
    return [getattr(row, "value", row) for row in found]


@pytest.mark.parametrize("short_first", [False, True])
@pytest.mark.parametrize("consumers", [2, 3, 4])
@pytest.mark.parametrize("seqlen", LENGTHS)
def test_every_row_lies_in_one_tile(seqlen, consumers, short_first):
    starts = first_rows(seqlen, consumers, short_first)
    covered = [row for start in starts for row in range(start, start + 64 * consumers)]

    assert list(range(seqlen)) == [row for row in covered if 0 <= row < seqlen]


@pytest.mark.parametrize("consumers", [2, 3, 4])
@pytest.mark.parametrize("seqlen", LENGTHS)
def test_a_short_first_tile_starts_64_rows_too_early_or_a_multiple_of_it(seqlen, consumers):
    """Each warpgroup's rows then meet the diagonal as they do without: in one block of keys."""
    starts = first_rows(seqlen, consumers, True)

    assert [0] * len(starts) == [start % 64 for start in starts]
    assert starts[-1] + 64 * consumers < seqlen + 64


@pytest.mark.parametrize(("seqlen", "before", "after"), [(4096, 384, 363), (16384, 5632, 5547)])
def test_a_short_first_tile_leaves_fewer_blocks_of_keys(seqlen, before, after):
    """Blocks of 128 keys up to the diagonal of each tile's last row, over one head."""

    def blocks(short_first: bool) -> int:
        starts = first_rows(seqlen, 3, short_first)
        return sum(-(-min(seqlen, start + 192) // 128) for start in starts)

    assert (before, after) == (blocks(False), blocks(True))
