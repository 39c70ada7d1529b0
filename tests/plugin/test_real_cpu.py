"""
The whole way on the CPU, nothing scripted: measured, baselined, unchanged, regressed, accepted.
"""

from __future__ import annotations

import pytest

TEST = """
    from pytest_kernelperf import kernel_perf
    from waiting import wait

    @kernel_perf(max_regression=0.5, max_time=1)
    def test_wait(kernelperf):
        assert kernelperf(wait, {time_s}) == 1
        if kernelperf.measured:
            assert kernelperf.p99_us >= kernelperf.p50_us >= 1e6 * {time_s}
"""

ON_THE_REAL_CLOCK = """
    import time

    def wait(time_s):
        # Busy, because how long a sleep takes is the system's affair.
        end = time.perf_counter() + time_s
        while time.perf_counter() < end:
            pass
        return 1
"""

#: Moved by reading it and by waiting, and not by what else the machine does: under load a real
#: clock's intervals get wide, and the verdicts INCONCLUSIVE.
ON_A_CLOCK_OF_ITS_OWN = """
    now_ns = 0

    def read_ns():
        global now_ns
        now_ns += 40 + now_ns % 7
        return now_ns

    def wait(time_s):
        global now_ns
        now_ns += round(1e9 * time_s) + 1000 * (now_ns % 7)
        return 1
"""

READ_THAT_CLOCK = """
    import pytest
    import waiting
    from pytest_kernelperf.measure import host_clock

    patch = pytest.MonkeyPatch()

    def pytest_configure(config):
        patch.setattr(host_clock, "perf_counter_ns", waiting.read_ns)

    def pytest_unconfigure(config):
        patch.undo()
"""


def test_a_kernel_is_measured_baselined_unchanged_regressed_and_accepted(real_project):
    real_project.write(ON_A_CLOCK_OF_ITS_OWN, "waiting")
    real_project.write(READ_THAT_CLOCK, "conftest")
    real_project.write(TEST.format(time_s=0.001))
    first = real_project.run("--kernelperf-update")
    unchanged = real_project.run("--kernelperf")
    real_project.write(TEST.format(time_s=0.004))
    slower = real_project.run("--kernelperf")
    accepted = real_project.run("--kernelperf-update", "--kernelperf-accept-regressions")
    after = real_project.run("--kernelperf")

    assert first.ret == pytest.ExitCode.OK
    first.stdout.fnmatch_lines(["test_wait *wall*NO_BASELINE*"])
    (name,) = real_project.baseline_files()
    assert name.startswith("cpu-")
    unchanged.stdout.fnmatch_lines(["test_wait *UNCHANGED*"])
    assert slower.ret == pytest.ExitCode.TESTS_FAILED
    slower.stdout.fnmatch_lines(["test_wait *REGRESSED*"])
    assert accepted.ret == pytest.ExitCode.OK
    after.stdout.fnmatch_lines(["test_wait *UNCHANGED*"])


def test_callables_are_compared_on_the_cpu(real_project):
    pytest.importorskip("torch")
    real_project.write(
        """
        import torch

        def test_it(kernelperf):
            x = torch.randn(256, 256)
            callables = {"once": torch.abs, "thrice": lambda x: x.abs().abs().abs()}
            found = kernelperf.compare(callables, (x,), reference="thrice", max_time=1)
            assert found.speedup("once") > 1
        """
    )

    result = real_project.run("--kernelperf")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*once*", "*thrice*"])


def test_a_recorded_cpu_run_is_judged_by_the_command_as_it_was_live(real_project):
    real_project.write(ON_THE_REAL_CLOCK, "waiting")
    real_project.write(TEST.format(time_s=0.001))
    real_project.run("--kernelperf-update")
    real_project.run("--kernelperf", "--kernelperf-record", "run.jsonl")
    (live,) = real_project.read_run().recorded

    done = real_project.pytester.runpython_c(
        "import sys; from pytest_kernelperf.cli import main; "
        "sys.argv = ['kernelperf', 'judge', 'run.jsonl', '--json', 'judged.json']; main()"
    )

    assert done.ret == 0
    (judged,) = real_project.read_json("judged.json")["measurements"]
    (expected,) = [one for one in live.verdicts if one.judged]
    (found,) = [one for one in judged["verdicts"] if one["judged"]]
    assert (expected.status.value, expected.reason) == (found["status"], found["reason"])
    assert (expected.time_us, expected.change) == (found["time_us"], found["change"])


FROZEN = """
    from pytest_kernelperf import kernel_perf
    from pytest_kernelperf.measure import host_clock
    from waiting import wait

    @kernel_perf(rounds=1)
    def test_measure(kernelperf, monkeypatch):
        monkeypatch.setattr(host_clock, "perf_counter_ns", lambda: 5)
        kernelperf(wait, 0)

    def test_compare(kernelperf, monkeypatch):
        monkeypatch.setattr(host_clock, "perf_counter_ns", lambda: 5)
        kernelperf.compare({"a": wait, "b": wait}, (0,), reference="a", rounds=1)
"""


def test_a_test_that_freezes_the_clock_has_measured_nothing(real_project):
    """As freezegun does: times of 0 were IMPROVED, whatever the kernel had become."""
    real_project.write(ON_THE_REAL_CLOCK, "waiting")
    real_project.write(FROZEN)

    result = real_project.run("--kernelperf", "--kernelperf-processes", "1")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["INVALID *test_measure*(CLOCK_STOOD_STILL)", "INVALID *test_compare*(CLOCK_STOOD_STILL)"]
    )
