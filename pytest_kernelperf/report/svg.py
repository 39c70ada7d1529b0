"""
Turns a matplotlib figure into SVG text that is the same each time.
"""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def svg_text(figure: Figure) -> str:
    """
    Return the figure as SVG: no date, no random names, letters as text and not as curves.
    """
    import matplotlib

    text = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "kernelperf", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    # Matplotlib ends lines of paths with blanks.
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
