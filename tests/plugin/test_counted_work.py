"""
Counted work in a run: shares of the card's limits, and times that no card can reach.
"""

from __future__ import annotations

import pytest

from pytest_kernelperf.model import Ceilings
from pytest_kernelperf.store.ceilings import keep_ceilings

COUNTED = """
    from pytest_kernelperf import kernel_perf

    @kernel_perf(flops=1e9, bytes=lambda x: 4e6 * abs(x))
    def test_kernel(kernelperf):
        assert kernelperf(abs, -1) == 1
"""


def test_a_run_shows_rate_share_and_limit(project):
    """
    The scripted card: 10 µs, 1000 TFLOP/s, 3000 GB/s.
    """
    project.write(COUNTED)

    result = project.run("--kernelperf", "--kernelperf-json", "run.json")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "*of limit*",
            "test_kernel * 13 % memory *NO_BASELINE",
            "of limit (NVIDIA Scripted GPU-1): theoretical peaks 3000 GB/s, 1000 TFLOP/s*doctor*",
        ]
    )
    (measurement,) = project.read_json()["measurements"]
    roofline = measurement["verdicts"][0]["roofline"]
    assert ("memory", "theoretical") == (roofline["limit"], roofline["against"])
    assert [100.0, 400.0] == pytest.approx([roofline["tflops"], roofline["gbs"]], rel=1e-3)
    assert 1e9 == measurement["work"]["flops"]


def test_kept_ceilings_are_the_limits_and_travel_in_the_record(project):
    keep_ceilings("GPU-1", Ceilings(2000.0, {"float16": 50.0}, 1.5, "2026-09-01"))
    project.write(COUNTED)

    result = project.run("--kernelperf", "--kernelperf-record", "run.jsonl")

    result.stdout.fnmatch_lines(
        ["test_kernel * 200 % compute *", "of limit *copy 2000 GB/s*2026-09-01"]
    )
    (recorded,) = project.read_run().recorded
    assert 2000.0 == recorded.measurement.work.ceilings.copy_gbs


def test_a_time_faster_than_physics_fails_at_once_and_is_not_stored(project):
    """
    Nobody sees what `abs` multiplies in, so it may be six times as fast as 1000 TFLOP/s.
    """
    project.times(0.1)
    project.write(COUNTED)

    result = project.run("--kernelperf-update")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*INVALID *test_kernel*(FASTER_THAN_PHYSICS)*"])
    result.stdout.fnmatch_lines(["*fastest products of any number format*can't be seen*"])
    assert [] == project.baseline_files()


def test_counting_leaves_the_baseline_as_it_is(project):
    project.write()
    project.run("--kernelperf-update")
    before = project.baseline_text()
    project.write(COUNTED)

    result = project.run("--kernelperf")

    result.stdout.fnmatch_lines(["test_kernel *UNCHANGED*", "kernelperf: 1 judged"])
    assert before == project.baseline_text()


def test_a_function_that_can_not_count_is_an_error_of_its_test(project):
    project.write(COUNTED.replace("abs(x)", "x.numel()"))

    result = project.run("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*OptionsError: bytes=* must count one call of abs*numel*"])


def test_an_unreadable_file_of_ceilings_is_named(project):
    path = keep_ceilings("GPU-1", Ceilings(2000.0, {}, 1.5, "2026-09-01"))
    path.write_text("{")
    project.write(COUNTED)

    result = project.run("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*CeilingsError: *ceilings.json can't be read*doctor --ceilings*"])


def test_on_a_cpu_there_are_rates_and_no_limits(project):
    project.script(device="cpu")
    project.write(COUNTED)

    result = project.run("--kernelperf")

    result.stdout.fnmatch_lines(
        ["test_kernel *100 TFLOP/s 400 GB/s *", "of limit (CPU): no limits*"]
    )
