"""
What was measured and how much of it: the identity of a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """
    What was measured: the identity under which a baseline is stored.

    Attributes:
        file: The test file, relative to the anchor, with forward slashes.
        test: The test's name with parameters, inside the file (`Class::test_x[8-fp16]`).
        name: The measurement's name within the test; "" for the only one.
        timer: "device", "launch" or "wall"; "compile" where nothing was timed.
        l2: "cold" or "warm" ("warm" on a CPU, where it means nothing); compiled kernels' target.
        pace: "paced" or "sustained".
        inputs: One line per tensor argument: dtype, shape, stride, device type.
    """

    file: str
    test: str
    name: str
    timer: str
    l2: str
    pace: str
    inputs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """
        The entry's key in its baseline file.
        """
        name = f" {self.name}" if self.name else ""
        return f"{self.test}{name} | {self.timer} {self.l2} {self.pace}"

    @property
    def regime(self) -> str:
        """
        What shares one kind of noise: the timer, or "sustained" whatever the timer.
        """
        return self.pace if self.pace == "sustained" else self.timer

    @property
    def label(self) -> str:
        """
        What tables and messages call the case.
        """
        name = f" {self.name}" if self.name else ""
        return f"{self.file}::{self.test}{name}"


@dataclass(frozen=True, slots=True)
class Plan:
    """
    How much is measured and how: part of the identity, pinned by the baseline and reused.

    Attributes:
        calls_per_sample: Calls between the two events of one sample (1 for launch and wall).
        burst: Calls enqueued between two idle gaps (equals calls_per_sample for device).
        gap_us: Idle time between bursts.
        samples: Samples kept per round.
        rounds: Rounds per process; each has new tensors and a new graph.
        input_sets: Rotating copies of the tensor arguments (1 = always the same memory).
    """

    calls_per_sample: int
    burst: int
    gap_us: float
    samples: int
    rounds: int
    input_sets: int

    @property
    def pinned(self) -> tuple[tuple[str, float], ...]:
        """
        The parts that change a time, by name: samples and rounds only change how well it is known.
        """
        return (
            ("calls_per_sample", self.calls_per_sample),
            ("burst", self.burst),
            ("gap_us", self.gap_us),
            ("input_sets", self.input_sets),
        )


@dataclass(frozen=True, slots=True)
class Way:
    """
    How times were taken: those taken in different ways are of different quantities.

    Attributes:
        inputs: As in `Case`.
        method: As in `Measurement`.
        pinned: As in `Plan`.
    """

    inputs: tuple[str, ...]
    method: str
    pinned: tuple[tuple[str, float], ...]
