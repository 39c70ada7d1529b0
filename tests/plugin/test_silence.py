"""
What the plugin costs a run that does not use it: nothing.
"""

from __future__ import annotations

import pytest

HEAVY = ("torch", "numpy", "scipy", "rich", "msgspec", "click")


@pytest.mark.parametrize(
    ("args", "lines"), [((), []), (("--kernelperf",), ["kernelperf: 0 judged"])]
)
def test_a_run_without_kernel_tests_loads_nothing_heavy(real_project, args, lines):
    real_project.write(
        f"""
        import sys

        def test_plain():
            assert [] == [name for name in {HEAVY!r} if name in sys.modules]
        """
    )

    result = real_project.run_apart(*args)

    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1)
    shown = [line for line in result.outlines if "plugins:" not in line]
    assert lines == [line for line in shown if "kernelperf" in line]
    assert real_project.baseline_files() == []


def test_an_unmeasured_kernel_test_loads_neither_statistics_nor_torch(real_project):
    real_project.write(
        f"""
        import sys
        from pytest_kernelperf import kernel_perf

        @kernel_perf(target_us=5)
        def test_it(kernelperf):
            kernelperf(abs, -1)
            assert [] == [name for name in {HEAVY!r} if name in sys.modules]
        """
    )

    result = real_project.run_apart()

    assert result.ret == pytest.ExitCode.OK
    assert not any("kernelperf" in line for line in result.outlines if "plugins:" not in line)


def test_the_plugin_can_be_switched_off(real_project):
    real_project.write("def test_plain(): pass")

    result = real_project.run_apart("-p", "no:kernelperf")

    assert result.ret == pytest.ExitCode.OK


def test_collecting_only_writes_nothing(project):
    project.write()

    result = project.run("--kernelperf-update", "--kernelperf-json", "run.json", "--collect-only")

    assert result.ret == pytest.ExitCode.OK
    assert not (project.path / "run.json").exists()
    assert project.baseline_files() == []


def test_a_run_without_pytests_faulthandler_measures_all_the_same(project):
    project.write()

    result = project.run("--kernelperf", "-p", "no:faulthandler")

    assert result.ret == pytest.ExitCode.OK
