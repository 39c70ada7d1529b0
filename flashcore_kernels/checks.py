"""
Argument checks: each raises naming the argument, what was expected, what was got, and the cure.

Only metadata is read, never data, so nothing here synchronises with a GPU.
"""

from __future__ import annotations

import math

import torch

MAX_HEADDIM = 128
MAX_SCALE = 1e38  # times log2(e) it still is a number in the kernels' float32
CUDA_DTYPES = (torch.float16, torch.bfloat16)
CPU_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_tensor(name: str, value: object, ndim: int, layout: str) -> None:
    """
    Require a dense tensor with a number of dimensions.

    Args:
        name: The argument's name, for the message.
        value: What was passed.
        ndim: The number of dimensions wanted.
        layout: Those dimensions in words, such as "[batch, nheads, seqlen, headdim]".

    Raises:
        TypeError: If `value` is no dense tensor.
        ValueError: If it has another number of dimensions.
    """
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} is not a tensor: expected {layout}, got {type(value).__name__}")
    if value.layout is not torch.strided:
        raise TypeError(f"{name} is not dense: expected layout torch.strided, got {value.layout}")
    if value.ndim != ndim:
        raise ValueError(
            f"{name} has the wrong number of dimensions: expected {ndim} {layout}, "
            f"got {value.ndim} with shape {tuple(value.shape)}"
        )


def check_same(name: str, value: torch.Tensor, other: str, model: torch.Tensor) -> None:
    """
    Require two tensors of one dtype on one device.

    Args:
        name: The argument that is checked.
        value: Its tensor.
        other: The argument it must agree with.
        model: That one's tensor.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the devices differ.
    """
    if value.dtype != model.dtype:
        raise TypeError(
            f"{name} has another dtype than {other}: expected {model.dtype}, got {value.dtype}; "
            f"convert one of them"
        )
    if value.device != model.device:
        raise ValueError(
            f"{name} is on another device than {other}: expected {model.device}, "
            f"got {value.device}; move one of them"
        )


def check_dtype(name: str, value: torch.Tensor) -> None:
    """
    Require a dtype that this package computes on the tensor's device.

    Args:
        name: The argument's name.
        value: Its tensor.

    Raises:
        TypeError: If the dtype has no kernel there.
    """
    supported = CUDA_DTYPES if value.is_cuda else CPU_DTYPES
    if value.dtype not in supported:
        names = ", ".join(str(dtype) for dtype in supported)
        raise TypeError(
            f"{name} has an unsupported dtype on {value.device.type}: expected one of {names}, "
            f"got {value.dtype}"
        )


def check_attention_inputs(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    """
    Require queries, keys and values that fit together.

    Args:
        q: [batch, nheads, seqlen_q, headdim].
        k: [batch, nheads_k, seqlen_k, headdim].
        v: The same shape as `k`.

    Raises:
        TypeError: For something that is no dense tensor, or a dtype without a kernel.
        ValueError: For shapes or devices that do not fit together.
    """
    layout = "[batch, nheads, seqlen, headdim]"
    check_tensor("q", q, 4, layout)
    for name, value in (("k", k), ("v", v)):
        check_tensor(name, value, 4, layout)
        check_same(name, value, "q", q)
    check_dtype("q", q)
    if q.device.type not in ("cpu", "cuda", "meta"):
        raise ValueError(f"q is on an unsupported device: expected cpu or cuda, got {q.device}")
    _check_shapes(q, k, v)


def _check_shapes(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    batch, nheads, _, headdim = q.shape
    if k.shape != v.shape:
        raise ValueError(
            f"v has another shape than k: expected {tuple(k.shape)}, got {tuple(v.shape)}"
        )
    if k.shape[0] != batch:
        raise ValueError(f"k has another batch size than q: expected {batch}, got {k.shape[0]}")
    if k.shape[3] != headdim:
        raise ValueError(f"k has another headdim than q: expected {headdim}, got {k.shape[3]}")
    check_headdim(headdim)
    check_grouped_heads(nheads, k.shape[1])


def check_headdim(headdim: int) -> None:
    """
    Require a head dimension that the kernels' tiles hold.

    Args:
        headdim: Elements per row.

    Raises:
        ValueError: If it is 0 or more than `MAX_HEADDIM`.
    """
    if not 1 <= headdim <= MAX_HEADDIM:
        raise ValueError(
            f"headdim is out of range: expected 1 to {MAX_HEADDIM} (64 and 128 at full speed), "
            f"got {headdim}"
        )


def check_grouped_heads(nheads: int, nheads_k: int) -> None:
    """
    Require that every key/value head serves the same number of query heads.

    Args:
        nheads: Query heads.
        nheads_k: Key/value heads.

    Raises:
        ValueError: If `nheads` is no multiple of `nheads_k`.
    """
    fits = nheads == 0 if nheads_k == 0 else nheads % nheads_k == 0
    if not fits:
        raise ValueError(
            f"q's heads can't be grouped over k's: expected a multiple of nheads_k={nheads_k}, "
            f"got nheads={nheads}; check that the layout is [batch, nheads, seqlen, headdim]"
        )


def softmax_scale(scale: float | None, headdim: int) -> float:
    """
    Return the factor on the scores, 1/sqrt(headdim) by default.

    Args:
        scale: What the caller passed.
        headdim: Elements per row.

    Returns:
        A finite number, dimensionless.

    Raises:
        TypeError: If `scale` is no real number (a tensor would need a synchronisation to read).
        ValueError: If it is infinite or NaN, or would be in the kernels.
    """
    if scale is None:
        return 1.0 / math.sqrt(headdim)
    if not isinstance(scale, (int, float)):
        raise TypeError(f"scale is not a number: expected a float, got {type(scale).__name__}")
    if not abs(scale) <= MAX_SCALE:
        raise ValueError(
            f"scale is out of range: expected at most {MAX_SCALE:g} in magnitude, got {scale}"
        )
    return float(scale)


def check_flag(name: str, value: object) -> None:
    """
    Require a plain bool: a tensor would need a synchronisation to read.

    Args:
        name: The argument's name.
        value: What was passed.

    Raises:
        TypeError: If it is anything else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} is not a bool: expected True or False, got {value!r}")


def check_out(out: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    """
    Require an output tensor that can be written while the inputs are read.

    Args:
        out: Where the caller wants the result.
        q: The queries, whose shape, dtype and device `out` must have.
        k: The keys.
        v: The values.

    Raises:
        TypeError: If `out` is no dense tensor, or of another dtype.
        ValueError: If shape or device differ, if several of its elements share memory, if it
            requires a gradient, or if its memory range meets an input's.
    """
    check_tensor("out", out, 4, "[batch, nheads, seqlen_q, headdim]")
    check_same("out", out, "q", q)
    if out.shape != q.shape:
        raise ValueError(
            f"out has the wrong shape: expected {tuple(q.shape)}, got {tuple(out.shape)}"
        )
    if out.shape[3] > 1 and out.stride(3) != 1:
        raise ValueError(
            f"out is not dense in its last dimension: expected stride 1, got {out.stride(3)}"
        )
    if _has_inner_overlap(out):
        raise ValueError(
            f"out has elements that share memory: expected distinct elements, "
            f"got strides {out.stride()} for shape {tuple(out.shape)}; pass a contiguous tensor"
        )
    check_out_needs_no_gradient(out)
    check_no_overlap(out, q, k, v)


def check_out_needs_no_gradient(out: torch.Tensor) -> None:
    """
    Require an output whose gradient nobody waits for: writing would cut it from its history.

    Args:
        out: The tensor that will be written.

    Raises:
        ValueError: If it requires a gradient while gradients are recorded.
    """
    if out.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "out requires a gradient: expected requires_grad=False, got True; pass out.detach(), "
            "or call under torch.no_grad()"
        )


def check_no_overlap(out: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    """
    Require that the memory range of `out` meets none of the inputs'.

    Ranges are compared, not elements: interleaved views of one buffer are refused too.

    Args:
        out: The tensor that will be written.
        q: The queries.
        k: The keys.
        v: The values.

    Raises:
        ValueError: Naming the input it meets.
    """
    for name, value in (("q", q), ("k", k), ("v", v)):
        if ranges_meet(out, value):
            ranges = (f"{a:#x}-{b:#x}" for a, b in map(memory_range_bytes, (out, value)))
            raise ValueError(
                f"out overlaps {name} in memory: expected a separate tensor, "
                f"got ranges {' and '.join(ranges)}; pass torch.empty_like(q)"
            )


def ranges_meet(a: torch.Tensor, b: torch.Tensor) -> bool:
    """
    Say whether two tensors' address ranges have a byte in common.

    Args:
        a: Any dense tensor.
        b: Likewise.
    """
    a_start, a_end = memory_range_bytes(a)
    b_start, b_end = memory_range_bytes(b)
    return a_start < b_end and b_start < a_end


def memory_range_bytes(tensor: torch.Tensor) -> tuple[int, int]:
    """
    Return the addresses that a tensor spans: the first byte, and one past the last.

    Args:
        tensor: Any dense tensor with non-negative strides.

    Returns:
        (start, end); equal when the tensor is empty.
    """
    start = tensor.data_ptr()
    if tensor.numel() == 0:
        return start, start
    span = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (span + 1) * tensor.element_size()


def _has_inner_overlap(tensor: torch.Tensor) -> bool:
    """Say whether two elements may share memory: whether a dimension reaches into the next."""
    extent = 1
    dims = sorted((stride, n) for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    for stride, n in dims:
        if n <= 1:
            continue
        if stride < extent:
            return True
        extent = stride * (n - 1) + extent
    return False
