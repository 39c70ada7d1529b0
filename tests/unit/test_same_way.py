"""
Everything that puts processes together, or compares them, asks the same: measured in one way?
"""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from pytest_kernelperf.analysis.comparability import find_difference
from pytest_kernelperf.model import Plan, Recorded, Reference, Status, UpdateMode
from pytest_kernelperf.report.pooled import pool
from pytest_kernelperf.side_by_side import read_side
from pytest_kernelperf.store.runs import Run, RunWriter
from pytest_kernelperf.store.update import decide_update, join_runs

#: How much was measured, not how.
AMOUNTS = {"samples", "rounds"}


def changed(recorded: Recorded, part: str) -> Recorded:
    """
    Return a record with another method, other inputs, or one other part of the plan.
    """
    measurement = recorded.measurement
    if part == "method":
        other = replace(measurement, method="another")
    elif part == "inputs":
        other = replace(measurement, case=replace(measurement.case, inputs=("another",)))
    else:
        more = getattr(measurement.plan, part) + 1
        other = replace(measurement, plan=replace(measurement.plan, **{part: more}))
    return replace(recorded, measurement=other)


@pytest.mark.parametrize("part", ["method", "inputs", *(each.name for each in fields(Plan))])
def test_all_agree_on_what_was_measured_in_the_same_way(make, tmp_path, part):
    one = make.recorded(Status.UNCHANGED, name="a" * 32)
    other = changed(make.recorded(Status.UNCHANGED, name="b" * 32), part)
    path = tmp_path / "run.jsonl"
    writer = RunWriter(path)
    writer.append(one)
    writer.append(other)
    writer.close(True)

    reference = Reference.of(one.measurement, one.measurement.processes)
    entry = decide_update(one, None, UpdateMode()).entry
    same = {
        "compared": find_difference(other.measurement, reference) is None,
        "joined": len(join_runs([one, other]).recorded.measurement.processes) == 2,
        "extended": decide_update(other, entry, UpdateMode()).action == "extended",
        "side by side": not read_side(path).left_out,
        "pooled": len(pool([Run("run", (one, other))]).kept[0].measurement.processes) == 2,
    }

    assert {part in AMOUNTS} == set(same.values()), same
