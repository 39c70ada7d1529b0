"""
Callables that can't be measured, for real on the CPU: each a clear error, and nothing stored.
"""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

HEAD = """
    import pytest
    import torch

    x = torch.ones(64)

    def zero_in_place(a):
        a.zero_()

    def bump(a):
        a += 1
        return a.sum()

    def resize(a):
        a.resize_(128)
        return a.sum()

    def free(a):
        a.untyped_storage().resize_(0)
        return torch.zeros(1)

    async def coroutine(a):
        return a

    def generator(a):
        yield a

    def nothing(a):
        pass

    def random(a):
        return torch.rand(64)

    def broken(a):
        raise ZeroDivisionError("from the kernel")
"""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("kernelperf(broken, x)", "ZeroDivisionError: from the kernel"),
        ("kernelperf(nothing, x)", "SubjectError: *nothing*"),
        ("kernelperf(torch.add, x, torch.ones(0))", "SubjectError: *no elements*"),
        ("kernelperf(torch.add, x, torch.ones(64, device='meta'))", "SubjectError: *'meta'*"),
        ("kernelperf(coroutine, x)", "SubjectError: *coroutine*"),
        ("kernelperf(generator, x)", "SubjectError: *generator*"),
        ("kernelperf(5)", "SubjectError: *must be the function to measure*"),
        ("kernelperf(bump, x)", "KernelPerfFailure: INVALID *(UNDECLARED_MUTATION)*"),
        ("kernelperf(resize, x)", "KernelPerfFailure: INVALID *(INPUT_RESIZED)*"),
        ("kernelperf(free, x)", "KernelPerfFailure: INVALID *(INPUT_RESIZED)*"),
        ("kernelperf(random, x)", "KernelPerfFailure: INVALID *(NOT_DETERMINISTIC)*"),
        (
            "kernelperf.measure(zero_in_place, (x,), mutates='b')",
            "SubjectError: *mutates names 'b'*expected one of 'a'*",
        ),
        (
            "kernelperf.measure(torch.abs, (x,), timer='device')",
            "TimerUnavailableError: timer 'device' times a GPU*",
        ),
        ("kernelperf.measure(torch.abs, (x,), l2='cold')", "OptionsError: l2='cold'*on the CPU*"),
        (
            "kernelperf.measure(torch.abs, (x,), check=lambda out: 1 / 0)",
            "*ZeroDivisionError*",
        ),
    ],
)
def test_a_callable_that_cannot_be_measured_is_a_clear_error(real_project, call, message):
    real_project.write(HEAD + f"\n    def test_it(kernelperf):\n        {call}")

    result = real_project.run("--kernelperf-update", "--kernelperf-max-time", "0.2")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f">*{call.split('(')[0]}*", f"E *{message}"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert real_project.baseline_files() == []


def test_declared_mutation_is_measured(real_project):
    real_project.write(
        HEAD
        + """
    def test_it(kernelperf):
        kernelperf.measure(zero_in_place, (x,), mutates="a")
    """
    )

    result = real_project.run("--kernelperf", "--kernelperf-max-time", "0.2")

    assert result.ret == pytest.ExitCode.OK


@pytest.fixture
def hanging(real_project):
    """
    Return a project whose second of three tests never returns.
    """
    real_project.pytester.makeini("[pytest]\nkernelperf_hang_timeout = 2")
    real_project.write(
        """
        import time

        def sleep_for_ever(x):
            while True:
                time.sleep(0.05)

        def test_first(kernelperf):
            kernelperf.measure(abs, (-1,), max_time=0.1)

        def test_hangs(kernelperf):
            kernelperf(sleep_for_ever, 1)

        def test_last(kernelperf):
            kernelperf.measure(abs, (-1,), max_time=0.1)
        """
    )
    return real_project


def test_a_callable_that_never_returns_is_named_and_what_was_measured_is_kept(hanging):
    files = "--kernelperf-record=run.jsonl", "--kernelperf-json=run.json"

    result = hanging.run_apart("--kernelperf-update", *files)

    assert result.ret == 70
    result.stderr.fnmatch_lines(
        [
            "*test_it.py::test_hangs did not return within 2 s*",
            "*sleep_for_ever*",
            "test_first *NO_BASELINE*",
            "added *test_it.py::test_first *",
            "kernelperf: stopped early, 2 not measured: *::test_hangs, *::test_last",
            "kernelperf: 0 judged, 1 test failed without a verdict, 1 NOT judged (1 NO_BASELINE)",
        ]
    )
    run = hanging.read_run()
    assert [one.measurement.case.test for one in run.recorded] == ["test_first"]
    assert run.failed == ("test_it.py::test_hangs",)
    assert not run.complete
    assert hanging.read_json()["exit_failed"]
    stored = json.loads(hanging.baseline_text())["entries"]
    assert list(stored) == ["test_first | wall warm paced"]


@pytest.mark.parametrize("args", [("-q",), ("-q", "-p", "xdist", "-n", "1")], ids=["", "xdist"])
def test_a_run_that_hangs_stores_what_it_has_whoever_measures(hanging, args):
    if "xdist" in args:
        pytest.importorskip("xdist")

    hanging.run_apart("--kernelperf-update", *args)

    assert "test_first | wall warm paced" in hanging.baseline_text()
