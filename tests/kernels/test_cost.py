"""Counts worked by hand, and against a mask that is really built."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashcore_kernels.cost import (
    attention_bytes,
    attention_exponentials,
    attention_flops,
    visible_pairs,
)


def test_flops_of_the_reports_largest_shape():
    """Batch 32, 8 heads, 512 x 512, headdim 64: 4 * 32 * 8 * 512 * 512 * 64."""
    assert attention_flops(32, 8, 512, 512, 64) == 17_179_869_184


def test_bytes_of_the_reports_largest_shape():
    """Four tensors of 32 * 8 * 512 * 64 elements of 2 bytes."""
    assert attention_bytes(32, 8, 8, 512, 512, 64) == 67_108_864


def test_grouped_heads_shrink_keys_and_values_only():
    """8 query heads on 2: q and out stay, k and v are a quarter; lse adds 4 bytes a row."""
    rows = 2 * 8 * 16
    expected = (2 * rows + 2 * rows // 4) * 64 * 2 + 4 * rows

    assert expected == attention_bytes(2, 8, 2, 16, 16, 64, return_lse=True)


def test_a_square_causal_mask_shows_half_plus_the_diagonal():
    assert visible_pairs(4, 4, causal=True) == 10


def test_exponentials_are_one_per_visible_pair():
    assert attention_exponentials(2, 3, 4, 4, causal=True) == 60


@given(st.integers(0, 12), st.integers(0, 12), st.integers(-15, 15), st.booleans())
def test_pairs_agree_with_a_mask_counted_one_by_one(seqlen_q, seqlen_k, offset, causal):
    expected = sum(
        not causal or key <= row + offset for row in range(seqlen_q) for key in range(seqlen_k)
    )

    pairs = visible_pairs(seqlen_q, seqlen_k, causal=causal, causal_offset=offset)

    assert expected == pairs


@pytest.mark.parametrize("offset", [-3, 0, 3])
def test_causal_flops_follow_the_visible_pairs(offset):
    pairs = visible_pairs(8, 8, causal=True, causal_offset=offset)

    assert attention_flops(1, 1, 8, 8, 64, causal=True, causal_offset=offset) == 4 * 64 * pairs


def test_importing_the_package_imports_no_triton():
    """Machines without Triton use the reference on CPU tensors."""
    code = "import sys, flashcore_kernels; print('triton' in sys.modules)"

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "False"
