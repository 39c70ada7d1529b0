"""
Turns marks, and what ini keys and command line said, into one frozen, validated `Options`.

Layers are plain dictionaries of checked values and merge keyword by keyword; what only makes sense
together (a percentile and its target) is checked once, on the merged result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.keywords import CHECKS, Count, unknown

if TYPE_CHECKING:
    from pytest_kernelperf.model import ResourceLimits

MARKER = "kernel_perf"

#: What people ask of the mark, and a call of the fixture takes: keyword to method.
_OF_CALLS = {
    "name": "measure",
    "setup": "measure",
    "min_speedup": "compare",
    "bound": "data_independence",
}

#: Checked values by keyword: what one marker, the ini file or the command line says.
Layer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """
    What a test asks for, merged from all layers.

    Attributes:
        percentiles: Judged against the baseline, ascending.
        targets_us: Percentile to limit, microseconds per item.
        per: Items per call, or the name of the parameter or fixture that holds it.
        max_regression: Percentile to margin as a fraction.
        timers: As named; empty = device for CUDA tensors, wall for the rest.
        l2: "cold", "warm", or None where nobody asked (cold where tensors can rotate).
        requires: "cuda" or "sm_90"; the test is skipped where one is missing.
        flops: Operations of one call, or a function of its arguments that counts them.
        moved_bytes: Bytes that one call reads and writes, or a function likewise.
        resources: What the compiler may use; None where the test does not ask.
    """

    percentiles: tuple[float, ...] = (50.0,)
    targets_us: Mapping[float, float] = field(default_factory=dict)
    per: float | str = 1.0
    max_regression: Mapping[float, float] = field(default_factory=dict)
    timers: tuple[str, ...] = ()
    l2: str | None = None
    pace: str = "paced"
    rounds: int | None = None
    samples: int | None = None
    max_time_s: float | None = None
    mutates: tuple[str | int, ...] = ()
    check: Callable[[Any], Any] | None = None
    deterministic: bool = True
    requires: tuple[str, ...] = ()
    flops: Count | None = None
    moved_bytes: Count | None = None
    resources: ResourceLimits | None = None


def parse_keywords(keywords: Mapping[str, Any], *, where: str = MARKER) -> dict[str, Any]:
    """
    Check one set of marker keywords.

    Args:
        keywords: Keyword to value, as written.
        where: What the message calls the place ("kernel_perf", "kernelperf.measure").

    Returns:
        The same keywords with values in one form each.

    Raises:
        OptionsError: For the first unknown keyword or wrong value, naming it and what is right.
    """
    parsed = {}
    for name, value in keywords.items():
        check = CHECKS.get(name)
        if check is None and name in _OF_CALLS:
            raise OptionsError(
                f"{where}: unknown keyword {name!r}: it is given to "
                f"kernelperf.{_OF_CALLS[name]}(...) in the test's body"
            )
        if check is None:
            raise OptionsError(f"{where}: {unknown('keyword', name, CHECKS)}")
        try:
            parsed[name] = check(value)
        except OptionsError as error:
            raise OptionsError(f"{where}: {name}: {error}") from None
    return parsed


def merge(layers: Iterable[Layer]) -> Options:
    """
    Merge checked layers keyword by keyword; a later layer wins.

    Raises:
        OptionsError: If what was merged contradicts itself.
    """
    merged: dict[str, Any] = {}
    depth: dict[str, int] = {}
    for position, layer in enumerate(layers):
        merged.update(layer)
        depth.update(dict.fromkeys(layer, position))
    targets = _merged_targets(merged, depth)
    max_regression = merged.get("max_regression", {})
    percentiles = {*merged.get("percentiles", (50.0,)), *targets, *max_regression}
    plain = ("per", "l2", "pace", "rounds", "samples", "mutates", "check", "deterministic", "flops")
    return Options(
        percentiles=tuple(sorted(percentiles)),
        targets_us=targets,
        max_regression=max_regression,
        timers=merged.get("timer", ()),
        max_time_s=merged.get("max_time"),
        requires=merged.get("requires", ()),
        moved_bytes=merged.get("bytes"),
        resources=merged.get("resources"),
        **{name: merged[name] for name in plain if name in merged},
    )


def parse_value(name: str, value: Any) -> Any:
    """
    Check the value of one known keyword.

    Raises:
        OptionsError: If it is wrong; the message does not repeat the keyword.
    """
    return CHECKS[name](value)


def parse_mark(name: str, args: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """
    Check one mark of a test.

    Args:
        name: The mark's name: `kernel_perf`, or the fixture's name, which is a slip.
        args: Its positional arguments; none are allowed.
        keywords: Its keywords.

    Raises:
        OptionsError: If the mark is not right, naming what is.
    """
    if name != MARKER:
        raise OptionsError(
            f"the mark is called {MARKER!r}, got {name!r}, which is the fixture: "
            f"write @pytest.mark.{MARKER}"
        )
    if args:
        given = ", ".join(repr(value) for value in args)
        raise OptionsError(
            f"{MARKER}: expected keywords only, got the positional {given}: "
            f"write for example @{MARKER}(target_us=5)"
        )
    return parse_keywords(keywords)


def _merged_targets(merged: Layer, depth: Mapping[str, int]) -> dict[float, float]:
    targets = dict(merged.get("targets", {}))
    if "target_us" not in merged:
        if "percentile" in merged:
            raise OptionsError(
                f"{MARKER}: percentile={merged['percentile']:g} says which percentile target_us "
                "limits, and there is no target_us: give it, or use percentiles="
            )
        return targets
    percentile, limit = merged.get("percentile", 50.0), merged["target_us"]
    if targets.get(percentile, limit) == limit or depth["target_us"] > depth["targets"]:
        return {**targets, percentile: limit}
    if depth["target_us"] == depth["targets"]:
        raise OptionsError(
            f"{MARKER}: target_us={limit:g} and targets={targets!r} both limit "
            f"P{percentile:g}: keep one of them"
        )
    return targets
