"""
The text of single table cells: numbers with their intervals, and what a verdict is called.
"""

from __future__ import annotations

from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.model import Interval, Roofline, Status, Verdict
from pytest_kernelperf.units import format_percent, format_percentile, format_us

#: What a percentile that is only shown has instead of a status.
NOT_JUDGED_TEXT = "not judged"
# Reasons that qualify a verdict which otherwise looks like any other.
_QUALIFYING = frozenset({Reason.OTHER_CARD.value, Reason.PROVISIONAL.value})


def status_text(verdict: Verdict) -> str:
    """
    Return the status as every report shows it.
    """
    return verdict.status.value if verdict.judged else NOT_JUDGED_TEXT


def verdict_text(verdict: Verdict) -> str:
    """
    Return the status, with the reason where that is a reservation.
    """
    text = status_text(verdict)
    shown = verdict.reason in _QUALIFYING or is_compiled(verdict)
    return f"{text} {verdict.reason}" if shown and verdict.reason != text else text


def is_compiled(verdict: Verdict) -> bool:
    """
    Return whether a verdict is on what the compiler made, and so on no percentile.
    """
    return verdict.case.timer == "compile"


def percentile_text(verdict: Verdict) -> str:
    """
    Return "P50", or "-" where nothing was timed.
    """
    return "-" if is_compiled(verdict) else format_percentile(verdict.percentile)


def time_interval(interval: Interval | None) -> str:
    """
    Return "3.160…3.176" in the unit that the time beside it has, or nothing.
    """
    if interval is None:
        return ""
    low, high = format_us(interval.low).split(" "), format_us(interval.high).split(" ")
    return f"{low[0]}…{high[0]}" if low[1] == high[1] else f"{' '.join(low)}…{' '.join(high)}"


def time_with_interval(time_us: float | None, interval: Interval | None) -> str:
    """
    Return "3.168 µs (3.160…3.176)".
    """
    return _beside(format_us(time_us), time_interval(interval))


def change_with_interval(change: float | None, interval: Interval | None) -> str:
    """
    Return "+2.31 % (+1.90…+2.72)".
    """
    if interval is None:
        return format_percent(change)
    return _beside(format_percent(change), f"{100 * interval.low:+.2f}…{100 * interval.high:+.2f}")


def speedup_with_interval(speedup: float, interval: Interval) -> str:
    """
    Return "1.25x (1.24…1.26)"; an interval without width is the reference's and not shown.
    """
    if interval.low == interval.high:
        return f"{speedup:.3f}x"
    return f"{speedup:.3f}x ({interval.low:.3f}…{interval.high:.3f})"


def target_text(verdict: Verdict) -> str:
    """
    Return the limit per item and whether it is met: "5.000 µs met"; "-" where there is none.
    """
    if verdict.target_us is None:
        return "-"
    result = {True: "met", False: "missed", None: "unsure"}[verdict.target_met]
    if verdict.status is Status.INVALID:
        return format_us(verdict.target_us)
    return f"{format_us(verdict.target_us)} {result}"


def limit_text(roofline: Roofline | None) -> str:
    """
    Return the rate of the limit that binds, and the share of it: "412 TFLOP/s, 61 % compute".
    """
    if roofline is None:
        return "-"
    operations = operations_text(roofline.tflops)
    moved = rate_text(roofline.gbs, "GB/s")
    first = {"": f"{operations} {moved}".strip(), "memory": moved}.get(roofline.limit, operations)
    return ", ".join(text for text in (first or moved, share_text(roofline)) if text)


def share_text(roofline: Roofline | None) -> str:
    """
    Return "61 % compute"; nothing where no limit is known.
    """
    if roofline is None or roofline.share is None:
        return ""
    return f"{100 * roofline.share:.0f} % {roofline.limit}"


def operations_text(tflops: float | None) -> str:
    """
    Return "412 TFLOP/s", or "19.2 GFLOP/s" below one; nothing for None.
    """
    if tflops is not None and tflops < 1:
        return rate_text(1e3 * tflops, "GFLOP/s")
    return rate_text(tflops, "TFLOP/s")


def rate_text(rate: float | None, unit: str) -> str:
    """
    Return "412 TFLOP/s", three digits; nothing for None.
    """
    if rate is None:
        return ""
    return f"{rate:.0f} {unit}" if rate >= 99.95 else f"{rate:.3g} {unit}"


def _beside(text: str, interval: str) -> str:
    return f"{text} ({interval})" if interval else text
