"""
Turns verdicts into terminal text and JSON; returns text, prints nothing.
"""

from pytest_kernelperf.report.json_document import run_json
from pytest_kernelperf.report.limits import limits_lines
from pytest_kernelperf.report.tables import baseline_table, comparisons, table
from pytest_kernelperf.report.texts import headline, last_line, reasons, update_lines

__all__ = [
    "baseline_table",
    "comparisons",
    "headline",
    "last_line",
    "limits_lines",
    "reasons",
    "run_json",
    "table",
    "update_lines",
]
