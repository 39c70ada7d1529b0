"""
Says what is a time, and writes times, fractions, counts and lists of names alike everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def is_time(time_us: float) -> bool:
    """
    Return whether a reading is a time: finite and above 0.
    """
    return 0 < time_us < math.inf


def format_us(time_us: float | None) -> str:
    """
    Return a duration with four significant digits and its unit ("3.168 µs", "1.203 ms").

    Args:
        time_us: Microseconds, or None for "-".
    """
    if time_us is None:
        return "-"
    for scale, unit in ((1.0, "µs"), (1e3, "ms"), (1e6, "s")):
        # 9999.5 µs would round to "1e+04 µs": change the unit where four digits end.
        if abs(time_us) < 999.95 * scale or unit == "s":
            return f"{_four_digits(time_us / scale)} {unit}"
    raise AssertionError("unreachable: the last unit takes all")


def format_percent(fraction: float | None, *, signed: bool = True) -> str:
    """
    Return a fraction as percent with two decimals ("+2.31 %").

    Args:
        fraction: 0.0231 for 2.31 %, or None for "-".
        signed: Whether a positive value gets its sign.
    """
    if fraction is None:
        return "-"
    sign = "+" if signed else ""
    # Rounded first, plus zero: "-0.00 %" would be read as a sign.
    return f"{round(100 * fraction, 2) + 0.0:{sign}.2f} %"


def format_percentile(percentile: float) -> str:
    """
    Return "P50" or "P99.9".
    """
    return f"P{percentile:g}"


def counted(count: int, one: str, many: str = "") -> str:
    """
    Return a number and what it counts: "1 entry", "2 entries".

    Args:
        count: Of what.
        one: The word for one.
        many: The word for another number; without it `one` with an "s".
    """
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """
    Return the first names with commas, and how many more there are: "a, b and 7 more".
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _four_digits(value: float) -> str:
    decimals = 3
    for limit in (10.0, 100.0, 1000.0):
        if abs(value) >= limit - 0.5 * 10**-decimals:
            decimals -= 1
    return f"{value:.{max(decimals, 0)}f}"
