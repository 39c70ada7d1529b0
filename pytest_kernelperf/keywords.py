"""
What each keyword of a marker accepts: one check per keyword.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from pytest_kernelperf.errors import OptionsError

if TYPE_CHECKING:
    from pytest_kernelperf.model import ResourceLimits

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


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """
    Return the message on a name that is none, with the one that was meant where that is clear.
    """
    import difflib  # only for people who mistyped

    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    # `target` is nearer to `targets`, and as often meant for target_us.
    near = sorted({*near, *(one for one in names if one.startswith(f"{name}_"))})
    meant = " or ".join(repr(one) for one in near)
    cure = f"did you mean {meant}?" if near else f"expected one of {', '.join(names)}"
    if not names:
        cure = "there is none"
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
            raise OptionsError(unknown(kind, value, known))
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
            raise OptionsError(unknown("resource", str(name), checks))
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
            raise OptionsError(unknown("instruction class", str(name), INSTRUCTIONS))
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


#: Keyword to what checks its value and brings it into one form.
CHECKS: dict[str, Callable[[Any], Any]] = {
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
