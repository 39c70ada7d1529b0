"""
Fresh processes on a real card: measured alike, and no strangers to one another.
"""

from __future__ import annotations

from statistics import median

import pytest

from pytest_kernelperf.store.runs import read_run

pytestmark = pytest.mark.h100

SOURCE = """
    import os

    import torch
    from pytest_kernelperf import kernel_perf

    def kernel(x):
        for _ in range(int(os.environ.get("PASSES", "10"))):
            x = x + 1
        return x

    @kernel_perf(timer=("device", "launch"), percentiles=(50, 99))
    def test_add(kernelperf):
        kernelperf(kernel, torch.zeros(1 << 24, device="cuda"))
"""


def test_a_slower_kernel_is_found_by_three_processes_that_do_not_disturb_each_other(
    pytester, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "200")
    pytester.makeini("[pytest]")
    pytester.makepyfile(SOURCE)
    run = ("-p", "kernelperf", "--kernelperf-record", "run.jsonl")
    many = ("--kernelperf-processes", "3")

    stored = pytester.runpytest_subprocess(*run, "--kernelperf-update", *many, timeout=300)
    baseline = read_run(pytester.path / "run.jsonl").recorded
    same = pytester.runpytest_subprocess(*run, "--kernelperf", timeout=300)
    monkeypatch.setenv("PASSES", "14")
    slower = pytester.runpytest_subprocess(*run, "--kernelperf", timeout=300)
    recorded = read_run(pytester.path / "run.jsonl").recorded

    assert stored.ret == pytest.ExitCode.OK
    assert same.ret == pytest.ExitCode.OK
    assert slower.ret == pytest.ExitCode.TESTS_FAILED
    slower.stdout.fnmatch_lines(["FAILED *test_add - REGRESSED *"])
    for one in (baseline, recorded):
        processes = one[0].measurement.processes
        assert 3 == len(processes)
        assert len({process.environment.card for process in processes}) == 1
        rounds = [each for process in processes for each in process.rounds]
        assert max(each.foreign_processes for each in rounds) == 0
        medians = [median(each.times_us) for each in rounds]
        assert max(medians) < 1.05 * min(medians)
    assert not any("missing" in note for one in recorded for note in one.measurement.notes)
