"""
Captures calls into a CUDA graph, and says what is in it.

A failed capture must leave torch as it was: the current stream, the allocator's pools and the
random generators. torch's own context manager restores none of the three when ending the capture
fails.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_kernelperf.measure.blocker import BlockerUnavailableError, driver_api
from pytest_kernelperf.model import Kernel

#: C++ kernels' names run to thousands of letters; what tells two apart comes first.
NAME_LENGTH = 120

#: Graphs whose capture failed. torch's allocator keeps a pointer to them, so they must not die.
_failed_graphs: list[Any] = []


class CaptureFailedError(Exception):
    """
    A callable could not be captured.

    Attributes:
        unjoined: It left work on another stream that its own stream does not wait for.
    """

    def __init__(self, why: str, *, unjoined: bool) -> None:
        super().__init__(why)
        self.unjoined = unjoined


@dataclass(frozen=True)
class Captured:
    """
    A graph of calls, with the outputs of some of them.
    """

    graph: Any
    outputs: tuple[Any, ...]

    def run(self) -> None:
        """
        Enqueue all calls on the current stream.
        """
        self.graph.replay()


@dataclass(frozen=True)
class Nodes:
    """
    What one call puts on the device: number of nodes, and its kernels in order of capture.
    """

    count: int
    kernels: tuple[Kernel, ...]


def capture(call: Callable[[int], Any], calls: int) -> Captured:
    """
    Capture calls 0 to `calls - 1` on a side stream that is joined to the current one.

    The outputs of the first, a middle and the last call are held, so that nothing else gets their
    memory.

    Raises:
        CaptureFailedError: With the first line of the reason.
    """
    import torch

    device = torch.cuda.current_device()
    held = {0, calls // 2, calls - 1}
    outputs: list[Any] = []

    def body() -> None:
        for index in range(calls):
            output = call(index)
            if index in held:
                outputs.append(output)

    graph = _capture_body(body, device)
    return Captured(graph, tuple(outputs))


def warm_side_stream(call: Callable[[], Any]) -> None:
    """
    Make a call on the stream that captures: libraries allocate a workspace per stream.
    """
    import torch

    current = torch.cuda.current_stream()
    side = _side_stream(torch.cuda.current_device())
    side.wait_stream(current)
    with torch.cuda.stream(side):
        call()
    current.wait_stream(side)


def _capture_body(body: Callable[[], None], device: int) -> Any:
    import torch

    current = torch.cuda.current_stream()
    side = _side_stream(device)
    side.wait_stream(current)
    pool = torch.cuda.graph_pool_handle()
    graph = _new_graph()
    raised: list[BaseException] = []
    try:
        # An empty graph (all work hidden) is warned about; the guard says it better.
        with warnings.catch_warnings(), torch.cuda.graph(graph, pool=pool, stream=side):
            warnings.simplefilter("ignore")
            try:
                body()
            except BaseException as error:
                raised.append(error)
                raise
    except BaseException as error:
        _recover(graph, pool, device, current)
        # What the callable raised says more than the end of the capture that it spoiled.
        first = raised[0] if raised else error
        if not isinstance(first, Exception):
            raise first from None
        raise _failure(first, ended=not raised) from error
    finally:
        # Or this frame, its error and the inputs would keep each other alive while gc is off.
        raised.clear()
    current.wait_stream(side)
    return graph


def _failure(error: BaseException, *, ended: bool) -> CaptureFailedError:
    lines = str(error).strip().splitlines()
    why = f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
    return CaptureFailedError(why, unjoined=ended and "unjoined" in str(error).lower())


def _new_graph() -> Any:
    import torch

    try:
        # Kept, so that its nodes can be counted; instantiated at the first (unblocked) replay.
        return torch.cuda.CUDAGraph(keep_graph=True)
    except TypeError:  # Before torch 2.8.
        return torch.cuda.CUDAGraph()


@functools.cache
def _side_stream(device: int) -> Any:
    import torch

    return torch.cuda.Stream(device=device)


def _recover(graph: Any, pool: Any, device: int, stream: Any) -> None:
    """
    Put back what a failed capture left behind.
    """
    import torch

    # `torch.cuda.graph` leaves its side stream current if ending the capture fails.
    torch.cuda.set_stream(stream)
    if _has_ended(graph):
        return  # The callable raised, nothing more: the graph cleans up when it dies.
    _failed_graphs.append(graph)
    # What a finished capture does when it ends and when it dies.
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        with contextlib.suppress(AttributeError, RuntimeError):
            getattr(torch._C, name)(device, pool)
    torch.cuda.synchronize()
    # A capture that succeeds ends what the failed one began in the default random generator, which
    # would otherwise refuse every later random number ("offset increment outside graph capture").
    scrap = torch.zeros(1, device=f"cuda:{device}")
    with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=_side_stream(device)):
        scrap.add_(1)


def _has_ended(graph: Any) -> bool:
    """
    Return whether a graph's capture was ended; only then has it a pool to tell of, and to release.
    """
    try:
        graph.pool()
    except RuntimeError:
        return False
    return True


def nodes_of(captured: Captured) -> Nodes | None:
    """
    Count a graph's nodes and name its kernels, through the driver; None where it can't tell.
    """
    try:
        driver = driver_api()
        nodes = _graph_nodes(driver, driver.CUgraph(captured.graph.raw_cuda_graph()))
        kind = driver.CUgraphNodeType.CU_GRAPH_NODE_TYPE_KERNEL
        kernels = [node for node in nodes if _ok(driver, driver.cuGraphNodeGetType(node)) == kind]
        return Nodes(len(nodes), tuple(_kernel(driver, node) for node in kernels))
    except (BlockerUnavailableError, AttributeError, RuntimeError, TypeError, ValueError):
        return None


def _graph_nodes(driver: Any, graph: Any) -> list[Any]:
    """
    Return a graph's nodes, those of graphs inside it in their place.
    """
    _, count = _ok(driver, driver.cuGraphGetNodes(graph, 0))
    nodes, count = _ok(driver, driver.cuGraphGetNodes(graph, count))
    child = driver.CUgraphNodeType.CU_GRAPH_NODE_TYPE_GRAPH
    found: list[Any] = []
    for node in nodes[:count]:
        if _ok(driver, driver.cuGraphNodeGetType(node)) == child:
            found += _graph_nodes(driver, _ok(driver, driver.cuGraphChildGraphNodeGetGraph(node)))
        else:
            found.append(node)
    return found


def _kernel(driver: Any, node: Any) -> Kernel:
    parameters = _ok(driver, driver.cuGraphKernelNodeGetParams(node))
    function = parameters.func
    if not int(function):
        # Kernels of a library have no function until one asks for it.
        function = _ok(driver, driver.cuKernelGetFunction(parameters.kern))
    name = _ok(driver, driver.cuFuncGetName(function))
    attribute = driver.CUfunction_attribute
    registers = _ok(
        driver, driver.cuFuncGetAttribute(attribute.CU_FUNC_ATTRIBUTE_NUM_REGS, function)
    )
    static_bytes = _ok(
        driver, driver.cuFuncGetAttribute(attribute.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function)
    )
    return Kernel(
        name=(name.decode() if isinstance(name, bytes) else str(name))[:NAME_LENGTH],
        registers=int(registers),
        shared_bytes=int(static_bytes) + int(parameters.sharedMemBytes),
    )


def _ok(driver: Any, answer: tuple[Any, ...]) -> Any:
    """
    Return what a driver call answered, without its status.
    """
    status, *values = answer
    if status != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"the CUDA driver said {status}")
    return values[0] if len(values) == 1 else tuple(values)
