"""
Turns verdicts into terminal text and JSON; returns text, prints nothing.
"""

from pytest_kernelperf.report.calibration import calibration_line
from pytest_kernelperf.report.checkup import checkup_json, checkup_text
from pytest_kernelperf.report.contests import comparisons, tables
from pytest_kernelperf.report.json_document import run_json
from pytest_kernelperf.report.limits import ceilings_text, limits_lines, peaks_text
from pytest_kernelperf.report.resources_table import kernels_table
from pytest_kernelperf.report.tables import baseline_table, table
from pytest_kernelperf.report.texts import (
    first_launches,
    headline,
    last_line,
    reasons,
    update_lines,
)

__all__ = [
    "baseline_table",
    "calibration_line",
    "ceilings_text",
    "checkup_json",
    "checkup_text",
    "comparisons",
    "first_launches",
    "headline",
    "kernels_table",
    "last_line",
    "limits_lines",
    "peaks_text",
    "reasons",
    "run_json",
    "table",
    "tables",
    "update_lines",
]
