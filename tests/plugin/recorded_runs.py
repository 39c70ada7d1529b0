"""
Runs that measure in three processes, and what their records say of these.
"""

from __future__ import annotations

RECORD = ("--kernelperf-record", "run.jsonl")
THREE = ("--kernelperf", "--kernelperf-processes", "3", *RECORD)


def counts(project) -> dict[str, int]:
    """
    Return how many processes measured each test.
    """
    recorded = project.read_run().recorded
    return {one.measurement.case.test: len(one.measurement.processes) for one in recorded}


def notes(project) -> str:
    """
    Return all notes of a recorded run.
    """
    return "\n".join(note for one in project.read_run().recorded for note in one.measurement.notes)
