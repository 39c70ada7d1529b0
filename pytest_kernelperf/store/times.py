"""
The text form of one round's times: short, readable in a diff, and exact enough for any percentile.

Four forms, chosen by the times alone (docs/baseline-format.md shows each):

* plain: `6.016*120 6.048*300 6.08`, value*count, ascending, microseconds;
* rises: `6.016*120 ns 32*300 32`, the same where many values are whole nanoseconds: after
  the first, how much each is above the one before;
* either with values on a relative grid, where there would be too many distinct values;
* steps: `69.01~ 0*2 3 1 12`, the first value and then how many grid steps each next one is higher.

Writing what was read gives the same text again, so an untouched round never shows in a diff.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, pairwise

from pytest_kernelperf.units import is_time

#: More distinct values than this are put on the grid. Launch rounds of 500 on 32 ns ticks have
#: 15 to 90; wall times in nanoseconds have as many as samples.
MAX_DISTINCT = 120
#: From this many distinct values on nobody reads them one by one, and rises take half the room.
#: Device rounds have 20 and stay plain.
MIN_RISES = 30
#: What parts the first value of a round from the rises above it.
RISES = "ns"
#: One grid step, in log time. A value moves by at most half a step, 0.04 %; with the rounding of
#: the text (0.005 %) that keeps every order statistic, and so every percentile and every
#: order-statistic interval, within 0.05 %.
GRID_STEP = 0.0008
#: 1e15 us is thirty years; what lies beyond is damage.
MAX_GRID_INDEX = int(math.log(1e15) / GRID_STEP)
#: Beyond this a reader would allocate gigabytes for a damaged count.
MAX_SAMPLES = 10_000_000


def format_times(times_us: Sequence[float]) -> str:
    """
    Return the text form of a round's times.

    Args:
        times_us: Positive finite microseconds, any order, at least one.

    Returns:
        One line, within 0.05 % of each time; exact for whole nanoseconds below 1 ms as long as
        there are at most `MAX_DISTINCT` distinct values.
    """
    ordered = sorted(times_us)
    if not ordered or not all(map(is_time, ordered)):
        raise ValueError(f"times must be positive and finite, got {list(times_us)[:3]!r} ...")
    texts = [_digits(time) for time in ordered]
    if len(set(texts)) <= MAX_DISTINCT:
        return _values_text(texts)
    steps = [_grid_index(time) for time in ordered]
    if len(set(steps)) <= MAX_DISTINCT:
        return _values_text([_digits(_grid_value(step)) for step in steps])
    rises = [str(high - low) for low, high in pairwise(steps)]
    return f"{_digits(_grid_value(steps[0]))}~ {_counted(rises)}"


def parse_times(text: str) -> tuple[float, ...]:
    """
    Return the times that `format_times` wrote, ascending, microseconds.

    Raises:
        ValueError: If the text is none of the forms; the message says which part.
    """
    head, *rest = text.split(" ")
    if head.endswith("~"):
        times = tuple(_climb(_number(head[:-1]), rest))
    elif rest[:1] == [RISES]:
        times = tuple(_repeat(_values(head, rest[1:]), _number))
    else:
        times = tuple(_repeat(text.split(" "), _number))
    if any(low > high for low, high in pairwise(times)):
        raise ValueError("times must ascend")
    return times


def _counted(texts: Sequence[str]) -> str:
    return " ".join(_times_of(text, len(list(same))) for text, same in groupby(texts))


def _values_text(texts: Sequence[str]) -> str:
    """
    Return ascending values as counts, or as rises where these take less room.
    """
    runs = [(text, len(list(same))) for text, same in groupby(texts)]
    whole = [_nanoseconds(text) for text, _ in runs]
    if len(runs) < MIN_RISES or not all(whole):
        return _counted(texts)
    (first, count), *rest = runs
    rises = (high - low for low, high in pairwise(whole))
    steps = (_times_of(str(rise), count) for rise, (_, count) in zip(rises, rest, strict=True))
    return " ".join([_times_of(first, count), RISES, *steps])


def _times_of(text: str, count: int) -> str:
    return text if count == 1 else f"{text}*{count}"


def _nanoseconds(text: str) -> int:
    """
    Return a value's whole nanoseconds; 0 if it has a fraction of one, or is 1 ms or more.
    """
    count = round(float(text) * 1000)
    return count if count < 1_000_000 and _digits(count / 1000) == text else 0


def _values(head: str, rises: Sequence[str]) -> Iterator[str]:
    """
    Return the parts of the plain form that rises stand for.
    """
    yield head
    count = round(_number(head.partition("*")[0]) * 1000)
    for part in rises:
        rise, star, repeats = part.partition("*")
        count += _whole(rise)
        yield f"{_digits(count / 1000)}{star}{repeats}"


def _digits(time_us: float) -> str:
    # Five digits hold a device time to 0.005 %; from 100 us on six keep the 32 ns ticks apart.
    rounded = float(f"{time_us:.{5 if time_us < 100 else 6}g}")
    return f"{rounded:.0f}" if rounded.is_integer() else repr(rounded)


def _grid_index(time_us: float) -> int:
    return round(math.log(time_us) / GRID_STEP)


def _grid_value(index: int) -> float:
    return math.exp(index * GRID_STEP)


def _climb(first_us: float, rises: Sequence[str]) -> Iterator[float]:
    index = _grid_index(first_us)
    yield float(_digits(_grid_value(index)))
    for rise in _repeat(rises, _whole):
        index += int(rise)
        if index > MAX_GRID_INDEX:
            raise ValueError(f"a step of {int(rise)} leads beyond any time")
        yield float(_digits(_grid_value(index)))


def _repeat(parts: Iterable[str], read: Callable[[str], float]) -> Iterator[float]:
    total = 0
    for part in parts:
        value, star, count = part.partition("*")
        repeats = _whole(count) if star else 1
        total += repeats
        if not repeats >= 1 or total > MAX_SAMPLES:
            raise ValueError(f"{part!r} has a count out of range")
        yield from [read(value)] * repeats


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not is_time(value):
        raise ValueError(f"{text!r} is not a positive time")
    return value


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)
