"""
What attention has to do at least: multiplications, exponentials and bytes, as plain integers.

Pure arithmetic, no torch: benchmarks divide these by measured times and by measured ceilings.
"""

from __future__ import annotations


def visible_pairs(
    seqlen_q: int, seqlen_k: int, *, causal: bool = False, causal_offset: int = 0
) -> int:
    """
    Count the (row, key) pairs that the mask lets through.

    Args:
        seqlen_q: Number of query rows.
        seqlen_k: Number of keys.
        causal: Whether row i sees only keys j <= i + causal_offset.
        causal_offset: The diagonal's offset in keys (0 is top-left,
            seqlen_k - seqlen_q is bottom-right).

    Returns:
        The exact number of pairs for one head; seqlen_q * seqlen_k without a mask.
    """
    if not causal:
        return seqlen_q * seqlen_k
    # Row i sees clamp(i + 1 + offset, 0, seqlen_k) keys: a run of zeros, a ramp, a plateau.
    first = min(max(-causal_offset, 0), seqlen_q)
    full = min(max(seqlen_k - causal_offset, first), seqlen_q)
    ramp_low = first + 1 + causal_offset
    ramp_high = full + causal_offset
    ramp = (ramp_low + ramp_high) * (full - first) // 2
    return ramp + (seqlen_q - full) * seqlen_k


def attention_flops(
    batch: int,
    nheads: int,
    seqlen_q: int,
    seqlen_k: int,
    headdim: int,
    *,
    causal: bool = False,
    causal_offset: int = 0,
) -> int:
    """
    Count the floating-point operations of the two matrix products of a forward pass.

    Formula: 4 * batch * nheads * headdim * visible pairs (two products, a multiply and an add
    each). Softmax is left out, as everywhere in the literature. Causal counts the visible pairs
    exactly, which for square shapes is a little more than the usual half.

    Args:
        batch: Sequences.
        nheads: Query heads (grouped heads do not change the count).
        seqlen_q: Query rows per sequence.
        seqlen_k: Keys per sequence.
        headdim: Elements per row.
        causal: Whether the mask is causal.
        causal_offset: The diagonal's offset in keys.

    Returns:
        FLOPs of the whole call.
    """
    pairs = visible_pairs(seqlen_q, seqlen_k, causal=causal, causal_offset=causal_offset)
    return 4 * batch * nheads * headdim * pairs


def attention_exponentials(
    batch: int,
    nheads: int,
    seqlen_q: int,
    seqlen_k: int,
    *,
    causal: bool = False,
    causal_offset: int = 0,
) -> int:
    """
    Count the exponentials: one per visible pair; an H100 SM computes 16 of them per clock.

    Args:
        batch: Sequences.
        nheads: Query heads.
        seqlen_q: Query rows per sequence.
        seqlen_k: Keys per sequence.
        causal: Whether the mask is causal.
        causal_offset: The diagonal's offset in keys.

    Returns:
        Exponentials of the whole call.
    """
    pairs = visible_pairs(seqlen_q, seqlen_k, causal=causal, causal_offset=causal_offset)
    return batch * nheads * pairs


def attention_bytes(
    batch: int,
    nheads: int,
    nheads_k: int,
    seqlen_q: int,
    seqlen_k: int,
    headdim: int,
    *,
    itemsize_bytes: int = 2,
    return_lse: bool = False,
) -> int:
    """
    Count the bytes that must cross the memory bus: q, k and v read once, out written once.

    Args:
        batch: Sequences.
        nheads: Query heads.
        nheads_k: Key/value heads.
        seqlen_q: Query rows per sequence.
        seqlen_k: Keys per sequence.
        headdim: Elements per row.
        itemsize_bytes: Bytes per element: 2 for fp16 and bf16.
        return_lse: Whether the float32 log-sum-exp is written too.

    Returns:
        Bytes of the whole call, with cold caches and every tensor touched once.
    """
    query_rows = batch * nheads * seqlen_q
    key_rows = batch * nheads_k * seqlen_k
    tensors = (2 * query_rows + 2 * key_rows) * headdim * itemsize_bytes
    return tensors + (4 * query_rows if return_lse else 0)
