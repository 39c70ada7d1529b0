"""
Turns marks, and what ini keys and command line said, into one frozen, validated `Options`.

Layers are plain dictionaries of checked values and merge keyword by keyword; what only makes sense
together (a percentile and its target) is checked once, on the merged result.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

from pytest_kernelperf.errors import OptionsError

if TYPE_CHECKING:
    from pytest_kernelperf.model import ResourceLimits

MARKER = "kernel_perf"
TIMERS = ("device", "launch", "wall")
L2_STATES = ("cold", "warm")
PACES = ("paced", "sustained")
#: What kernels can be compiled for without a GPU.
TARGETS = ("sm_80", "sm_90", "sm_100")
#: Classes of machine instructions that `resources=` can limit.
INSTRUCTIONS = (
    *("tensor_core", "warpgroup", "special_function", "local_memory", "global_memory"),
    *("shared_memory", "barrier", "total"),
)

#: How much one call does: a number, or a function of the measured callable's arguments.
Count = float | Callable[..., Any]
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
        check = _CHECKS.get(name)
        if check is None:
            raise OptionsError(f"{where}: {_unknown('keyword', name, _CHECKS)}")
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
    return _CHECKS[name](value)


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


# --- checks of single values -------------------------------------------------------------------


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    import difflib  # only for people who mistyped

    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    cure = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(names)}"
    return f"unknown {kind} {name!r}: {cure}"


def number(value: Any, expected: str = "a number above 0") -> float:
    """
    Return a positive finite number as float.

    Raises:
        OptionsError: If it is none, saying what was expected.
    """
    # bool is an int to Python, but `target_us=True` is never meant.
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        raise OptionsError(f"expected {expected}, got {value!r}")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionsError(f"expected a whole number of at least 1, got {value!r}")
    return value


def _percentile(value: Any) -> float:
    percentile = number(value, "a percentile between 0 and 100")
    if percentile >= 100:
        raise OptionsError(f"expected a percentile between 0 and 100, got {value!r}")
    return percentile


def _percentiles(value: Any) -> tuple[float, ...]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        value = (value,)
    found = tuple(sorted({_percentile(item) for item in value}))
    if not found:
        raise OptionsError("expected at least one percentile, got none")
    return found


def _targets(value: Any) -> dict[float, float]:
    if not isinstance(value, Mapping) or not value:
        raise OptionsError(
            f"expected a dictionary of percentile to microseconds such as {{50: 5, 99: 8}}, "
            f"got {value!r}"
        )
    return {_percentile(q): number(limit, "microseconds above 0") for q, limit in value.items()}


def _margin(value: Any) -> float:
    margin = number(value, "a fraction above 0 such as 0.02")
    if margin > 1:
        raise OptionsError(f"expected a fraction of at most 1, got {value!r}: 2 % is written 0.02")
    return margin


def _max_regression(value: Any) -> dict[float, float]:
    if isinstance(value, Mapping):
        if not value:
            raise OptionsError("expected at least one percentile, got {}")
        return {_percentile(q): _margin(margin) for q, margin in value.items()}
    return {50.0: _margin(value)}


def _per(value: Any) -> float | str:
    if isinstance(value, str):
        if not value.isidentifier():
            raise OptionsError(
                f"expected a number above 0 or the name of a parameter or fixture, got {value!r}"
            )
        return value
    return number(value, "a number above 0 or the name of a parameter or fixture")


def _one_of(kind: str, known: Sequence[str]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise OptionsError(f"expected one of {', '.join(known)}, got {value!r}")
        if value not in known:
            raise OptionsError(_unknown(kind, value, known))
        return value

    return check


def _timers(value: Any) -> tuple[str, ...]:
    names = _sequence(value)
    found = tuple(_one_of("timer", TIMERS)(name) for name in names)
    if not found or len(set(found)) < len(found):
        raise OptionsError(f"expected each timer once, got {value!r}")
    return found


def _sequence(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _mutates(value: Any) -> tuple[str | int, ...]:
    found = _sequence(value)
    for item in found:
        is_position = isinstance(item, int) and not isinstance(item, bool) and item >= 0
        is_name = isinstance(item, str) and item.isidentifier()
        if not (is_position or is_name):
            raise OptionsError(
                f"expected names or positions of arguments such as ('out',) or (0,), got {item!r}"
            )
    return found


def _callable(value: Any) -> Callable[[Any], Any]:
    if not callable(value):
        raise OptionsError(f"expected a function of the output, got {value!r}")
    return value  # type: ignore[no-any-return]


def _count(value: Any) -> Count:
    return value if callable(value) else number(value, "a number above 0 or a function")


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise OptionsError(f"expected True or False, got {value!r}")
    return value


def _requires(value: Any) -> tuple[str, ...]:
    found = _sequence(value)
    for item in found:
        if item != "cuda" and not (isinstance(item, str) and re.fullmatch(r"sm_\d{2,3}", item)):
            raise OptionsError(
                f"expected 'cuda' or a compute capability like 'sm_90', got {item!r}"
            )
    return found


def _resources(value: Any) -> ResourceLimits:
    # Here, because every pytest run loads this module, and the records take longer than all of it.
    from pytest_kernelperf.model import ResourceLimits

    if not isinstance(value, Mapping):
        raise OptionsError(
            "expected a dictionary such as {'spills': 0, 'registers': 168} (an empty one compares "
            f"with what is stored), got {value!r}"
        )
    checks: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(("spills", "registers", "shared_bytes", "warnings"), _limit),
        "instructions": _instructions,
        "targets": _targets_compiled,
    }
    found = {}
    for name, limit in value.items():
        if name not in checks:
            raise OptionsError(_unknown("resource", str(name), checks))
        try:
            found[name] = checks[name](limit)
        except OptionsError as error:
            raise OptionsError(f"{name}: {error}") from None
    return ResourceLimits(**found)


def _limit(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise OptionsError(f"expected a whole number of at least 0, got {value!r}")
    return value


def _instructions(value: Any) -> dict[str, tuple[int | None, int | None]]:
    if not isinstance(value, Mapping) or not value:
        raise OptionsError(
            "expected a dictionary of class to the most allowed, or to (least, most) with None "
            f"for open, such as {{'local_memory': 0, 'warpgroup': (1, None)}}, got {value!r}"
        )
    found: dict[str, tuple[int | None, int | None]] = {}
    for name, limit in value.items():
        if name not in INSTRUCTIONS:
            raise OptionsError(_unknown("instruction class", str(name), INSTRUCTIONS))
        pair = limit if isinstance(limit, tuple) else (None, limit)
        if len(pair) != 2 or pair == (None, None):
            raise OptionsError(f"{name}: expected a number or (least, most), got {limit!r}")
        least, most = (None if part is None else _limit(part) for part in pair)
        found[name] = (least, most)
    return found


def _targets_compiled(value: Any) -> tuple[str, ...]:
    found = tuple(_one_of("target", TARGETS)(name) for name in _sequence(value))
    if not found:
        raise OptionsError(f"expected at least one of {', '.join(TARGETS)}, got none")
    return tuple(dict.fromkeys(found))


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "target_us": lambda value: number(value, "microseconds above 0"),
    "percentile": _percentile,
    "targets": _targets,
    "per": _per,
    "percentiles": _percentiles,
    "max_regression": _max_regression,
    "timer": _timers,
    "l2": _one_of("l2 state", L2_STATES),
    "pace": _one_of("pace", PACES),
    "rounds": _whole,
    "samples": _whole,
    "max_time": lambda value: number(value, "seconds above 0"),
    "mutates": _mutates,
    "check": _callable,
    "deterministic": _bool,
    "requires": _requires,
    "flops": _count,
    "bytes": _count,
    "resources": _resources,
}


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
