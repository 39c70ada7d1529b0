"""
Time GPU callables by paced, interleaved replays of CUDA graphs, behind a blocked stream.

Tuning compares hundreds of candidates; this is the least of `kernelperf`'s protocol that ranks
them: no canaries, no rounds, no intervals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

SAMPLE_US = 400.0  # long enough that the events' own time, about 2 us, does not matter
GAP_S = 0.002  # between samples, so that the card stays below its power limit
BLOCK_CYCLES = 2_000_000  # about a millisecond in which the host gets the graph into the queue


@dataclass(frozen=True)
class PacedGraph:
    """Several calls captured as one CUDA graph."""

    graph: torch.cuda.CUDAGraph
    calls: int

    def sample_us(self) -> float | None:
        """Time per call of one blocked replay; None if the host was not ahead of the device."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        time.sleep(GAP_S)
        torch.cuda._sleep(BLOCK_CYCLES)
        start.record()
        self.graph.replay()
        end.record()
        blocked = not start.query()
        torch.cuda.synchronize()
        return start.elapsed_time(end) * 1e3 / self.calls if blocked else None


def capture(calls: Sequence[Callable[[], object]], count: int) -> PacedGraph:
    """Capture `count` calls, going round those that are given; each must have run before."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(count):
            calls[i % len(calls)]()
    return PacedGraph(graph, count)


def calls_per_sample(call_us: float) -> int:
    """Return how many calls of so many microseconds fill a sample."""
    return max(2, min(200, round(SAMPLE_US / call_us)))


def interleaved(
    graphs: Mapping[str, PacedGraph],
    samples: int,
    on_turn: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """
    Sample all graphs in turns; the first turn warms up and does not count.

    Args:
        graphs: What is timed, by name.
        samples: Turns that count.
        on_turn: Called at the start of each turn.

    Returns:
        Microseconds per call by name; fewer than `samples` where a replay was not blocked.
    """
    taken: dict[str, list[float]] = {name: [] for name in graphs}
    for turn in range(samples + 1):
        on_turn()
        for name, graph in graphs.items():
            value = graph.sample_us()
            if turn and value is not None:
                taken[name].append(value)
    return taken
