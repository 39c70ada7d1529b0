"""
Words of a command line, before and after pytest knows our options.
"""

from __future__ import annotations

from pytest_kernelperf.command_line import joined


def test_output_files_are_joined_to_their_options_for_fresh_processes():
    given = ["tests", "--kernelperf", "--kernelperf-record", "../run.gz", "-k", "a"]

    assert ["tests", "--kernelperf", "--kernelperf-record=../run.gz", "-k", "a"] == joined(given)
