"""
The lines that say what "of limit" in the tables refers to.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_kernelperf.model import Ceilings, Measurement, Peaks, Work
from pytest_kernelperf.report.cells import rate_text

_CURE = "measure this card's own with `kernelperf doctor --ceilings`"


def limits_lines(measurements: Iterable[Measurement]) -> str:
    """
    Return a line per set of limits that shares in the table refer to; empty without any.
    """
    lines: dict[str, None] = {}
    for measurement in measurements:
        if measurement.work is not None and measurement.processes:
            environment = measurement.processes[0].environment
            card = (
                f"{environment.device_name} {environment.card[:12]}" if environment.gpu else "CPU"
            )
            lines[f"of limit ({card}): {_limits(measurement.work)}"] = None
    return "\n".join(lines)


def ceilings_text(ceilings: Ceilings) -> str:
    """
    Return what a card reached: "copy 2710 GB/s; matmul 689 (float16) TFLOP/s; ...".
    """
    products = ", ".join(
        f"{rate:.0f} ({dtype})" for dtype, rate in sorted(ceilings.matmul_tflops.items())
    )
    return (
        f"copy {rate_text(ceilings.copy_gbs, 'GB/s')}; matmul {products} TFLOP/s; "
        f"empty kernel {ceilings.empty_kernel_us:.3g} µs"
    )


def peaks_text(peaks: Peaks) -> str:
    """
    Return what a card can't exceed, as far as it is known.
    """
    known = (
        rate_text(peaks.gbs, "GB/s"),
        f"{rate_text(peaks.tflops, 'TFLOP/s')} (16-bit)" if peaks.tflops else "",
    )
    return ", ".join(text for text in known if text)


def _limits(work: Work) -> str:
    if work.ceilings is not None:
        return f"{ceilings_text(work.ceilings)}; measured {work.ceilings.taken}"
    theory = peaks_text(work.peaks) if work.peaks else ""
    if theory:
        return f"theoretical peaks {theory}, which no kernel reaches: {_CURE}"
    if work.peaks is None:
        return "no limits are known of a CPU: rates only, and no time is held to them"
    return f"no limits are known of this card: rates only, and no time is held to them: {_CURE}"
