"""
A machine of pretended GPUs: enough of `torch.cuda` and of Triton's driver to compile for them.

Each target has a card of its own, because programs remember by device what they found out: kernels
that Triton compiled, a capability, a launch plan.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from pytest_kernelperf.resources.occupancy import MULTIPROCESSORS

#: Target to multiprocessors of the card that is pretended; grids of persistent kernels ask.
_CARDS = {"sm_80": 108, "sm_90": 132, "sm_100": 148}
TARGETS = tuple(_CARDS)
_THREADS_PER_SM = 2048
_MEMORY_BYTES = 80 << 30
_L2_BYTES = 50 << 20


class Machine:
    """
    The pretended machine, with one card per target and one of them current.

    Attributes:
        opaque: Registered operators that were called and could not be followed to their kernels.
    """

    def __init__(self) -> None:
        self.index = 0
        self.opaque: set[str] = set()

    @property
    def target(self) -> str:
        """
        The current card's target.
        """
        return TARGETS[self.index]

    @contextlib.contextmanager
    def on(self, target: str) -> Iterator[int]:
        """
        Make a target's card the current one in the block; its index is given.
        """
        before, self.index = self.index, TARGETS.index(target)
        try:
            yield self.index
        finally:
            self.index = before

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """
        Let torch and Triton find this machine in the block.
        """
        from unittest import mock

        import torch
        import triton

        from pytest_kernelperf.resources.tensors import stand_in_tensors

        driver = triton.runtime.driver
        with contextlib.ExitStack() as stack:
            for name, value in _torch_cuda(self).items():
                stack.enter_context(mock.patch.object(torch.cuda, name, value, create=True))
            stack.enter_context(mock.patch.object(torch, "Generator", _host_generator()))
            stack.enter_context(mock.patch.object(driver, "_active", _Driver(self)))
            # What torch compiles would be for a card that torch can't find: it runs as written.
            stack.enter_context(mock.patch.object(torch, "compile", _as_written))
            if "torch._dynamo" in sys.modules:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(stand_in_tensors(lambda: self.index, self.opaque))
            yield

    def index_of(self, device: Any) -> int:
        """
        Return the card that a device, an index or None (the current card) means.
        """
        if isinstance(device, int):
            return device if device >= 0 else self.index
        if isinstance(device, str):
            _, _, number = device.partition(":")
            return int(number) if number else self.index
        index = getattr(device, "index", None)
        return self.index if index is None else int(index)

    def capability(self, device: Any = None) -> tuple[int, int]:
        """
        Return a card's compute capability.
        """
        return divmod(int(TARGETS[self.index_of(device)].removeprefix("sm_")), 10)

    def properties(self, device: Any = None) -> SimpleNamespace:
        """
        Return what `torch.cuda.get_device_properties` would.
        """
        target = TARGETS[self.index_of(device)]
        major, minor = self.capability(device)
        sm = MULTIPROCESSORS[target]
        return SimpleNamespace(
            name=f"pretended {target}",
            major=major,
            minor=minor,
            multi_processor_count=_CARDS[target],
            total_memory=_MEMORY_BYTES,
            L2_cache_size=_L2_BYTES,
            warp_size=32,
            max_threads_per_multi_processor=_THREADS_PER_SM,
            regs_per_multiprocessor=sm.registers,
            shared_memory_per_multiprocessor=sm.shared_bytes,
            shared_memory_per_block=48 << 10,
            shared_memory_per_block_optin=sm.shared_bytes_per_block,
            gcnArchName="",
        )


def _as_written(model: Any = None, **options: Any) -> Any:
    """
    Take the arguments of `torch.compile` and compile nothing.
    """
    return model if model is not None else lambda decorated: decorated


def _host_generator() -> Any:
    """
    Return a class that makes the host's generator for every device: nobody sees its numbers.
    """
    import torch

    host = torch.Generator

    class Generator(host):  # type: ignore[misc,valid-type]
        def __new__(cls, device: Any = None) -> Any:
            return host()

    return Generator


class _Context:
    """
    A device, stream or event that does nothing but be entered, waited for and recorded.
    """

    cuda_stream = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __enter__(self) -> _Context:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        pass

    record = wait = wait_event = wait_stream = synchronize = record_event = _nothing


def _idle() -> Any:
    return lambda *args, **kwargs: None


def _torch_cuda(machine: Machine) -> dict[str, Any]:
    """
    Return what stands in for the functions of `torch.cuda`.
    """

    class Device(_Context):
        def __init__(self, device: Any) -> None:
            self._index = machine.index_of(device)

        def __enter__(self) -> _Context:
            self._before, machine.index = machine.index, self._index
            return self

        def __exit__(self, *exc: object) -> None:
            machine.index = self._before

    def set_device(device: Any) -> None:
        machine.index = machine.index_of(device)

    return {
        "is_available": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "is_current_stream_capturing": lambda: False,
        "device_count": lambda: len(TARGETS),
        "current_device": lambda: machine.index,
        "set_device": set_device,
        "device": Device,
        "get_device_capability": machine.capability,
        "get_device_properties": machine.properties,
        "get_device_name": lambda device=None: machine.properties(device).name,
        "mem_get_info": lambda device=None: (_MEMORY_BYTES, _MEMORY_BYTES),
        "current_stream": lambda device=None: _Context(),
        "default_stream": lambda device=None: _Context(),
        **{name: type(name, (_Context,), {}) for name in ("stream", "Stream", "Event")},
        # One object each: dynamo, if somebody imports it, refuses two names of one function.
        **{
            name: _idle()
            for name in ("synchronize", "empty_cache", "manual_seed", "manual_seed_all")
        },
    }


class _Driver:
    """
    What Triton asks of a GPU's driver in order to compile and to launch; nothing is launched.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.utils = SimpleNamespace(
            get_device_properties=self._properties,
            load_binary=lambda name, binary, shared, device: (0, 0, 0, 0, 1024),
        )

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", int(self._machine.target.removeprefix("sm_")), 32)

    def get_current_device(self) -> int:
        return self._machine.index

    def set_current_device(self, index: int) -> None:
        self._machine.index = index

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cuda", self._machine.index)

    def get_device_interface(self) -> Any:
        import torch

        return torch.cuda

    def get_benchmarker(self) -> Any:
        """
        Return what "times" an autotuner's choices: the first one is the fastest.
        """
        turns = iter(range(1, 1 << 30))

        def benchmark(kernel_call: Any, *, quantiles: Any = None, **_: Any) -> Any:
            time = float(next(turns))
            return [time] * len(quantiles) if quantiles else time

        return benchmark

    def launcher_cls(self, src: Any, metadata: Any) -> Any:
        return lambda *args: None

    def _properties(self, device: int) -> dict[str, int]:
        sm = MULTIPROCESSORS[TARGETS[device]]
        return {
            "max_shared_mem": sm.shared_bytes_per_block,
            "max_num_regs": sm.registers,
            "multiprocessor_count": _CARDS[TARGETS[device]],
            "warpSize": 32,
            "sm_clock_rate": 0,
            "mem_clock_rate": 0,
            "mem_bus_width": 0,
        }
