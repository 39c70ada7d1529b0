"""
What a captured graph holds, as the driver tells it.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_kernelperf.measure import graph
from pytest_kernelperf.measure.blocker import BlockerUnavailableError
from pytest_kernelperf.measure.graph import (
    NAME_LENGTH,
    Captured,
    CaptureFailedError,
    Nodes,
    nodes_of,
)
from pytest_kernelperf.model import Kernel

KERNEL, MEMSET, GRAPH = 0, 2, 4


class Driver:
    """
    A driver whose graphs are lists of nodes; graph 7 is the captured one.
    """

    CUresult = SimpleNamespace(CUDA_SUCCESS=0)
    CUgraphNodeType = SimpleNamespace(
        CU_GRAPH_NODE_TYPE_KERNEL=KERNEL, CU_GRAPH_NODE_TYPE_GRAPH=GRAPH
    )
    CUfunction_attribute = SimpleNamespace(
        CU_FUNC_ATTRIBUTE_NUM_REGS="registers", CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES="shared"
    )

    def __init__(self, graphs, broken=()):
        self._graphs, self._broken = graphs, broken

    def CUgraph(self, raw):  # noqa: N802 - the driver's name
        return raw

    def cuGraphGetNodes(self, handle, count):  # noqa: N802
        if "nodes" in self._broken:
            return (700, None, 0)
        nodes = self._graphs[handle]
        return (0, [*nodes[:count], *[None] * (count - len(nodes))], len(nodes))

    def cuGraphNodeGetType(self, node):  # noqa: N802
        return (0, node.type)

    def cuGraphChildGraphNodeGetGraph(self, node):  # noqa: N802
        return (0, node.graph)

    def cuGraphKernelNodeGetParams(self, node):  # noqa: N802
        return (0, node)

    def cuKernelGetFunction(self, kernel):  # noqa: N802
        return (0, kernel)

    def cuFuncGetName(self, function):  # noqa: N802
        return (0, f"kernel_{function}".encode() * (50 if function == 99 else 1))

    def cuFuncGetAttribute(self, attribute, function):  # noqa: N802
        return (0, {"registers": function, "shared": 1024}[attribute])


def kernel(function, library_kernel=0):
    return SimpleNamespace(type=KERNEL, func=function, kern=library_kernel, sharedMemBytes=2048)


def found(monkeypatch, driver):
    monkeypatch.setattr(graph, "driver_api", lambda: driver)
    return nodes_of(Captured(SimpleNamespace(raw_cuda_graph=lambda: 7), ()))


def test_a_memset_and_a_kernel_are_two_nodes_and_one_kernel(monkeypatch):
    driver = Driver({7: [SimpleNamespace(type=MEMSET), kernel(40)]})

    assert found(monkeypatch, driver) == Nodes(2, (Kernel("kernel_40", 40, None, 3072),))


def test_a_librarys_kernel_is_asked_for_its_function(monkeypatch):
    driver = Driver({7: [kernel(0, library_kernel=64)]})

    assert found(monkeypatch, driver).kernels[0].registers == 64


def test_the_nodes_of_a_graph_inside_count(monkeypatch):
    """
    A callable that replays a graph of its own enqueues all of it.
    """
    inner = SimpleNamespace(type=GRAPH, graph=8)
    driver = Driver({7: [kernel(40), inner, kernel(42)], 8: [kernel(41), kernel(41)]})

    nodes = found(monkeypatch, driver)

    assert nodes.count == 4
    assert [one.registers for one in nodes.kernels] == [40, 41, 41, 42]


def test_endless_names_are_cut(monkeypatch):
    assert len(found(monkeypatch, Driver({7: [kernel(99)]})).kernels[0].name) == NAME_LENGTH


def test_a_driver_that_refuses_leaves_the_number_unknown(monkeypatch):
    assert found(monkeypatch, Driver({7: []}, broken=("nodes",))) is None


def test_a_torch_that_kept_no_graph_leaves_the_number_unknown(monkeypatch):
    def refuse():
        raise RuntimeError("keep_graph was False")

    monkeypatch.setattr(graph, "driver_api", lambda: Driver({7: []}))

    assert nodes_of(Captured(SimpleNamespace(raw_cuda_graph=refuse), ())) is None


def test_without_the_bindings_the_number_is_unknown(monkeypatch):
    def missing():
        raise BlockerUnavailableError("cuda-bindings is not installed")

    monkeypatch.setattr(graph, "driver_api", missing)

    assert nodes_of(Captured(SimpleNamespace(raw_cuda_graph=lambda: 7), ())) is None


@pytest.mark.parametrize(
    ("error", "ended", "unjoined"),
    [
        (RuntimeError("CUDA error: capturing stream has unjoined work\nCompile with"), True, True),
        (RuntimeError("the word unjoined in the callable's own error"), False, False),
        (RuntimeError("operation not permitted when stream is capturing"), True, False),
        (ValueError(), False, False),
    ],
    ids=["forked", "its own", "synchronises", "empty"],
)
def test_only_the_end_of_a_capture_says_that_work_was_not_joined(error, ended, unjoined):
    failure = graph._failure(error, ended=ended)

    assert failure.unjoined is unjoined
    assert type(error).__name__ in str(failure)
    assert "\n" not in str(failure)


class Torn:
    """
    Stands for `torch.cuda.graph`: enters a side stream, and may fail to end the capture.
    """

    current = "the user's stream"
    calls: list[str] = []  # noqa: RUF012 - set anew by each test
    end_error: str | None = None

    def __init__(self, captured, pool=None, stream=None):
        self._captured, self._stream = captured, stream

    def __enter__(self):
        Torn.current = self._stream

    def __exit__(self, *_):
        if self._stream == "recovery":
            Torn.current = "the user's stream"
            return
        if Torn.end_error:
            raise RuntimeError(Torn.end_error)
        self._captured.ended = True
        Torn.current = "the user's stream"


class FakeGraph:
    ended = False

    def pool(self):
        if not self.ended:
            raise RuntimeError("Called CUDAGraph::pool() without a preceding successful capture")


@pytest.fixture
def torn(monkeypatch):
    torch = pytest.importorskip("torch")
    Torn.current, Torn.calls, Torn.end_error = "the user's stream", [], None
    side = SimpleNamespace(wait_stream=lambda _: None)
    user = SimpleNamespace(wait_stream=lambda _: None)

    def set_stream(stream):
        Torn.current = "the user's stream" if stream is user else stream

    def remember(name):
        return lambda *_: Torn.calls.append(name)

    for name, fake in {
        "current_device": lambda: 0,
        "current_stream": lambda: user,
        "set_stream": set_stream,
        "graph_pool_handle": lambda: (0, 1),
        "graph": Torn,
        "synchronize": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(
        torch, "zeros", lambda *_, **__: SimpleNamespace(add_=remember("recapture"))
    )
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        monkeypatch.setattr(torch._C, name, remember(name), raising=False)
    monkeypatch.setattr(graph, "_new_graph", FakeGraph)
    monkeypatch.setattr(graph, "_failed_graphs", [])
    streams = iter([side, "recovery"])
    monkeypatch.setattr(graph, "_side_stream", lambda _: next(streams))
    return Torn


def test_the_outputs_of_the_first_a_middle_and_the_last_call_are_held(torn):
    assert graph.capture(lambda index: index, 9).outputs == (0, 4, 8)
    assert torn.current == "the user's stream"


@pytest.mark.parametrize(("calls", "outputs"), [(1, (0,)), (2, (0, 1)), (3, (0, 1, 2))])
def test_no_output_is_held_twice(torn, calls, outputs):
    assert graph.capture(lambda index: index, calls).outputs == outputs


def test_a_capture_that_can_not_be_ended_is_cleaned_up_after(torn):
    """
    The stream, the allocator's pool and, by a capture that succeeds, the random generator.
    """
    torn.end_error = "capturing stream has unjoined work"

    with pytest.raises(CaptureFailedError) as failure:
        graph.capture(lambda index: index, 1)

    assert failure.value.unjoined
    assert torn.current == "the user's stream"
    assert torn.calls == ["_cuda_endAllocateToPool", "_cuda_releasePool", "recapture"]
    assert len(graph._failed_graphs) == 1


def test_a_callable_that_raises_in_a_sound_capture_needs_no_cleaning(torn):
    """
    Its graph releases the pool itself; done twice, torch would end the process.
    """
    with pytest.raises(CaptureFailedError, match="ZeroDivisionError") as failure:
        graph.capture(lambda index: 1 // index, 1)

    assert not failure.value.unjoined
    assert (torn.current, torn.calls, graph._failed_graphs) == ("the user's stream", [], [])


def test_the_callables_error_explains_a_capture_that_then_could_not_be_ended(torn):
    torn.end_error = "operation failed due to a previous error during capture"

    with pytest.raises(CaptureFailedError, match="ZeroDivisionError"):
        graph.capture(lambda index: 1 // index, 1)

    assert torn.calls[-1] == "recapture"


def test_an_interrupt_while_capturing_stays_an_interrupt(torn):
    def interrupted(index):
        raise KeyboardInterrupt

    torn.end_error = "operation failed due to a previous error during capture"

    with pytest.raises(KeyboardInterrupt):
        graph.capture(interrupted, 1)

    assert torn.current == "the user's stream"
