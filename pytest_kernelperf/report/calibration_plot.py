"""
Draws detection against slowdown as SVG, where matplotlib is installed.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from pytest_kernelperf.analysis.proof import Proof
from pytest_kernelperf.report.svg import svg_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def can_draw() -> bool:
    """
    Return whether matplotlib is there (the extra `plot`).
    """
    return find_spec("matplotlib") is not None


def detection_svg(proof: Proof) -> str:
    """
    Return the figure as an SVG; the same proof gives the same picture.
    """
    return svg_text(detection_figure(proof))


def detection_figure(proof: Proof) -> Figure:
    """
    Return the share of injected slowdowns that were found.

    A line per case, at the sizes that its slowdowns have in truth; the total, at those asked for,
    with 95 % limits.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    each_test: str | None = "one test, at what its slowdowns are in truth"
    for each in proof.cases:
        points = [
            (100 * (one.size if one.real is None else one.real), 100 * (one.found.share or 0))
            for one in each.injected
        ]
        if points:
            axes.plot(*zip(*points, strict=True), color="0.8", lw=1, label=each_test)
            each_test = None
    rates = list(proof.power.values())
    shares = [100 * (rate.share or 0) for rate in rates]
    low = [share - 100 * rate.at_least for share, rate in zip(shares, rates, strict=True)]
    high = [100 * rate.at_most - share for share, rate in zip(shares, rates, strict=True)]
    sizes = [100 * size for size in proof.power]
    label = "all tests, at the sizes asked for, 95 % limits"
    axes.errorbar(sizes, shares, yerr=(low, high), color="C0", marker="o", capsize=3, label=label)
    axes.legend(loc="lower right", fontsize="small")
    axes.set(xlabel="slowdown, %", ylabel="found, %", title=proof.device_name, ylim=(-3, 103))
    return figure
