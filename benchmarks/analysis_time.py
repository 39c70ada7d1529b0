"""
Measure what judging a large suite costs: 500 tests, three percentiles each, on one core.

Each test is a recorded one (launch timer, five rounds of 500 launches; the shapes in turn) with a
baseline of five processes and a candidate of one, in memory of its own. Timed is what follows on
reading: the suite's noise, then every verdict. Exits with status 1 if it takes longer than allowed.

    python benchmarks/analysis_time.py [--tests 500] [--budget-s 5]
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from pytest_kernelperf.analysis import judge, noise_from
from pytest_kernelperf.model import Entry, Limits, Measurement, Reference
from pytest_kernelperf.store.runs import read_run

RECORD = Path(__file__).parents[1] / "tests/data/h100/unchanged_13ab5362.run.gz"
LIMITS = Limits(percentiles=(50.0, 95.0, 99.0))
BASELINE_PROCESSES = 5


def suite(tests: int) -> list[tuple[Measurement, Entry]]:
    """
    Return so many candidates and their baselines, none of which shares memory with another.
    """
    recorded = [each.measurement for each in read_run(RECORD).recorded]
    launches = [each for each in recorded if each.case.timer == "launch"]
    return [
        copy.deepcopy(_sides(replace(each, case=replace(each.case, test=f"test_{number}"))))
        for number, each in enumerate(islice(cycle(launches), tests))
    ]


def _sides(measurement: Measurement) -> tuple[Measurement, Entry]:
    baseline = measurement.processes[:BASELINE_PROCESSES]
    candidate = measurement.processes[BASELINE_PROCESSES : BASELINE_PROCESSES + 1]
    return replace(measurement, processes=candidate), Entry(Reference.of(measurement, baseline))


def main() -> int:
    """
    Print processor seconds and verdicts; return the exit status.
    """
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--tests", type=int, default=500)
    parser.add_argument("--budget-s", type=float, default=5.0)
    asked = parser.parse_args()
    sides = suite(asked.tests)
    start = time.process_time()
    noise = noise_from((each.case.regime, entry.reference) for each, entry in sides)
    learned = time.process_time()
    verdicts = [judge(each, entry, LIMITS, noise) for each, entry in sides]
    end = time.process_time()
    print(
        f"{sum(map(len, verdicts))} verdicts on {asked.tests} tests: {end - start:.2f} s of "
        f"processor time, {learned - start:.2f} s of it for the suite's noise"
    )
    return int(end - start > asked.budget_s)


if __name__ == "__main__":
    sys.exit(main())
