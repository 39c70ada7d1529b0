"""
The host fast path: launch a kernel that Triton has compiled before, without asking Triton again.

`kernel[grid](...)` binds and specialises every argument on every call: 20.3 us of host time for 15
arguments on the H100 host, 11.5 us through the compiled handle. A lone attention call at seqlen 128
needs 3.4 us of GPU time, so the host decides how long its caller waits.

This is the only module that touches Triton's private launcher (3.6: `CompiledKernel.run.launch`,
the C function beneath it). Wherever that interface is not the one known here, or someone watches
launches (profiler hooks, debug mode), callers are told so and take the public path.

A handle is right only under the conditions that it was specialised for. The caller's guard tells
dtypes, shapes, strides, devices and scalars; pointer alignment is checked here for every address.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import chain
from operator import getitem
from typing import Any

import torch
import triton

KNOWN_TRITON = "3.6."
ALIGNMENT_BYTES = 16  # what Triton specialises pointers for, and what 16-byte copies need
_OFF = ALIGNMENT_BYTES - 1  # the bits of an address that are zero where it is aligned

# What torch.cuda.current_device and Triton's own driver call, without the Python around it: a plan
# exists only once CUDA is initialised. A CPU build of torch has neither, and makes no plan.
current_device: Callable[[], int] = getattr(torch._C, "_cuda_getDevice", torch.cuda.current_device)
current_stream: Callable[[int], int] = getattr(torch._C, "_cuda_getCurrentRawStream", int)
# How torch.compile's generated code allocates on the current device: torch.empty_like without its
# way through the dispatcher, 0.9 us instead of 1.8 (for the CPU's twin, on one slow CPU).
_EMPTY_STRIDED: dict[str, Any] = {
    device: getattr(torch._C._dynamo.guards, f"_empty_strided_{device}", None)
    for device in ("cpu", "cuda")
}

# Triton before 3.4 has no knobs; `prepare` refuses it before they are read. The hook chains are
# kept as Triton made them: a replaced chain counts as somebody watching.
_knobs: Any = getattr(triton, "knobs", None)
_ENTER_HOOKS: Any = _knobs and getattr(_knobs.runtime, "launch_enter_hook", None)
_EXIT_HOOKS: Any = _knobs and getattr(_knobs.runtime, "launch_exit_hook", None)


class PointerLaunch:
    """
    One compiled kernel that takes bare addresses, with everything else bound.

    Built by `prepare`. Holds for one device, grid and set of scalar arguments. Nothing is kept of a
    call: putting the argument list together takes 0.37 us, on one slow CPU.
    """

    __slots__ = ("_after_stream", "_grid", "_launch", "_scalars")

    def __init__(
        self,
        launch: Callable[..., None],
        grid: tuple[int, int, int],
        after_stream: tuple[Any, ...],
        scalars: tuple[Any, ...],
    ) -> None:
        self._launch = launch
        self._grid = grid
        self._after_stream = after_stream
        self._scalars = scalars

    def __call__(self, stream: int, q: int, k: int, v: int, out: int, lse: int | None) -> bool:
        """
        Launch on a stream.

        Args:
            stream: The raw handle, of the device that the kernel was prepared on.
            q: A device address, as those that follow, in the kernel's order.
            k: Likewise.
            v: Likewise.
            out: Likewise.
            lse: Likewise; None where the kernel was compiled without it.

        Returns:
            False, and nothing launched, if an address is not 16-byte aligned.
        """
        # One by one: `|` of two addresses makes a third number. 0.12 us, not 0.21.
        if q & _OFF or k & _OFF or v & _OFF or out & _OFF or (lse is not None and lse & _OFF):
            return False
        self._launch(*self._grid, stream, *self._after_stream, q, k, v, out, lse, *self._scalars)
        return True


class PreparedLaunch:
    """
    One compiled kernel that reads by TMA, with everything bound but its addresses and its stream.

    As `PointerLaunch`, but what an address becomes is a tensor map with its shape and strides. It
    depends on the address alone, so the whole argument list is remembered per stream and set of
    addresses: handed over as it is, its some 70 values are not copied.
    """

    __slots__ = ("_after_stream", "_arguments", "_bound", "_grid", "_launch", "_scalars")
    MAX_BOUND = 1024

    def __init__(
        self,
        launch: Callable[..., None],
        grid: tuple[int, int, int],
        after_stream: tuple[Any, ...],
        arguments: tuple[AddressArguments, ...],
        scalars: tuple[Any, ...],
    ) -> None:
        self._launch = launch
        self._grid = grid
        self._after_stream = after_stream
        self._arguments = arguments
        self._scalars = scalars
        self._bound: dict[tuple[int | None, ...], tuple[Any, ...]] = {}

    def __call__(self, *stream_and_addresses: int | None) -> bool:
        """
        Launch on a stream.

        Args:
            stream_and_addresses: The raw stream handle, of the device that the kernel was prepared
                on, then device addresses in the kernel's order, descriptors' included; None where
                the kernel was compiled without that tensor.

        Returns:
            False, and nothing launched, if an address is not 16-byte aligned.
        """
        values = self._bound.get(stream_and_addresses) or self._bind(*stream_and_addresses)
        if not values:
            return False
        self._launch(*values)
        return True

    def _bind(self, stream: int | None, *addresses: int | None) -> tuple[Any, ...]:
        """Return, and keep, all arguments; none if an address is misaligned."""
        if any(address is not None and address % ALIGNMENT_BYTES for address in addresses):
            return ()
        if len(self._bound) >= self.MAX_BOUND:
            self._bound.clear()
        values = chain.from_iterable(map(getitem, self._arguments, addresses))
        bound = (*self._grid, stream, *self._after_stream, *values, *self._scalars)
        self._bound[(stream, *addresses)] = bound
        return bound


AnyLaunch = PointerLaunch | PreparedLaunch


class AddressArguments(dict[Any, tuple[Any, ...]]):
    """What the launcher takes for an address: the address, as it is."""

    def __missing__(self, address: int | None) -> tuple[Any, ...]:
        """Return the argument without keeping it."""
        return (address,)


class TensorMaps(AddressArguments):
    """
    The descriptor argument of one tensor, encoded once per address.

    A tensor map holds the address, shape, strides, block and swizzle. All but the address are
    fixed here, so the address is the whole key, and whatever lies there later has the same shape.
    The launcher passes the map to the kernel by value: a launch, or a graph that captured one,
    keeps nothing of what lies here.
    """

    MAX_ADDRESSES = 1024  # as many as a launch keeps sets of

    def __init__(self, encode: Callable[[int], Any], dimensions: tuple[int, ...]) -> None:
        super().__init__()
        self._encode = encode
        self._dimensions = dimensions

    def __missing__(self, address: int) -> tuple[Any, ...]:
        """
        Encode and keep what the launcher takes for a descriptor: the tensor map, shape, strides.

        Args:
            address: Where the tensor starts, 16-byte aligned.

        Returns:
            The arguments in the launcher's order.
        """
        if len(self) >= self.MAX_ADDRESSES:
            self.clear()
        argument = (self._encode(address), *self._dimensions)
        self[address] = argument
        return argument


def launch(
    kernel: Any,
    grid: tuple[int, int, int],
    args: Sequence[Any],
    options: Mapping[str, Any],
) -> Any:
    """
    Launch through Triton's public interface, on the current device and stream.

    Args:
        kernel: A `triton.jit` function.
        grid: Programs along x, y, z.
        args: All positional arguments.
        options: Constexprs by name, num_warps, num_stages.

    Returns:
        The compiled kernel, or None in Triton's interpreter.
    """
    return kernel[grid](*args, **options)


def prepare(
    handle: Any,
    grid: tuple[int, int, int],
    addressed: Sequence[Any],
    scalars: Sequence[Any],
) -> AnyLaunch | None:
    """
    Make a fast launch from a kernel that has just been launched with these very arguments.

    Args:
        handle: What `launch` returned.
        grid: The grid it was launched with.
        addressed: The tensors, tensor descriptors or None that come first in the kernel's order:
            q, k, v, out, lse.
        scalars: Everything after them, constexprs included (Triton 3.6 keeps their positions in
            the argument list).

    Returns:
        The prepared launch, or None where the private interface is not the known one, the kernel
        needs scratch memory, launches are watched, or an address was not 16-byte aligned.
    """
    if not triton.__version__.startswith(KNOWN_TRITON) or handle is None or is_watched():
        return None
    tensors = [getattr(argument, "base", argument) for argument in addressed]
    if any(tensor is not None and tensor.data_ptr() % ALIGNMENT_BYTES for tensor in tensors):
        return None
    runner: Any = getattr(handle, "run", None)
    launcher = getattr(runner, "launch", None)
    if launcher is None or runner.global_scratch_size or runner.profile_scratch_size:
        return None
    after_stream = (
        handle.function,
        runner.launch_cooperative_grid,
        runner.launch_pdl,
        None,  # global scratch
        None,  # profile scratch
        handle.packed_metadata,
        None,  # launch metadata, read by hooks only
        None,  # enter hook
        None,  # exit hook
    )
    if not any(_is_descriptor(argument) for argument in addressed):
        return PointerLaunch(launcher, grid, after_stream, tuple(scalars))
    # Triton wraps the C function of such kernels in one that encodes every descriptor every time.
    inner = inspect.getclosurevars(launcher).nonlocals
    metadata = inner.get("tensordesc_meta")
    if "launcher" not in inner or not metadata or None in metadata:
        return None
    arguments = _arguments(addressed, metadata)
    return PreparedLaunch(inner["launcher"], grid, after_stream, arguments, tuple(scalars))


def _is_descriptor(argument: Any) -> bool:
    return hasattr(argument, "block_shape")


def _arguments(
    addressed: Sequence[Any], metadata: Sequence[Mapping[str, Any]]
) -> tuple[AddressArguments, ...]:
    """Return, per argument, what turns its address into what the launcher takes."""
    remaining = iter(metadata)
    return tuple(
        _tensor_maps(argument, next(remaining)) if _is_descriptor(argument) else AddressArguments()
        for argument in addressed
    )


def _tensor_maps(descriptor: Any, metadata: Mapping[str, Any]) -> TensorMaps:
    """Bind a descriptor's encoding to all but its address, as Triton's driver would encode it."""
    from triton.backends.nvidia.driver import TMA_DTYPE_DEVICE_TO_HOST

    fill = triton.runtime.driver.active.utils.fill_tma_descriptor
    fixed = (
        metadata["swizzle"],
        metadata["elem_size"],
        TMA_DTYPE_DEVICE_TO_HOST[metadata["elem_type"]],
        metadata["block_size"],
        list(descriptor.shape),
        list(descriptor.strides),
        1 if descriptor.padding == "nan" else 0,
    )
    return TensorMaps(
        lambda address: fill(address, *fixed), (*descriptor.shape, *descriptor.strides)
    )


def allocator(model: torch.Tensor) -> Callable[[], torch.Tensor]:
    """
    Return what allocates a tensor like `model` whenever it is called.

    Args:
        model: A tensor on the current device.

    Returns:
        A function without arguments; what it returns has the shape, strides and dtype of `model`.
    """
    shape, strides, dtype = tuple(model.shape), model.stride(), model.dtype
    private = _EMPTY_STRIDED.get(model.device.type)
    if private is not None and _allocates(private, model.device):
        return partial(private, shape, strides, dtype)
    return partial(torch.empty_strided, shape, strides, dtype=dtype, device=model.device)


@cache
def _allocates(private: Callable[..., torch.Tensor], device: torch.device) -> bool:
    """Try torch's private allocation on a few bytes: it may differ in another release."""
    model = torch.empty_strided((2, 3, 5), (1, 10, 2), dtype=torch.float16, device=device)
    try:
        made = private((2, 3, 5), (1, 10, 2), torch.float16)
    except (TypeError, RuntimeError):
        return False
    return _alike(made, model)


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (a.shape, a.stride(), a.dtype, a.device) == (b.shape, b.stride(), b.dtype, b.device)


def is_watched() -> bool:
    """
    Say whether a profiler or a debugging mode wants to see launches pass through Triton.

    Returns:
        True if the public path must be taken.
    """
    runtime = _knobs.runtime
    enter, leave = runtime.launch_enter_hook, runtime.launch_exit_hook
    return bool(
        enter is not _ENTER_HOOKS
        or leave is not _EXIT_HOOKS
        or enter.calls
        or leave.calls
        or runtime.debug
        or _knobs.compilation.instrumentation_mode
    )
