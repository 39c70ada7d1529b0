"""
`kernelperf.data_independence`: verdicts, exit status, record and documents.
"""

from __future__ import annotations

import subprocess
import sys

import needs
import pytest

TEST = """
    from pytest_kernelperf import NotMeasuredError

    def test_it(kernelperf):
        found = kernelperf.data_independence(abs, {"zeros": (0,), "random": (-3,)}, bound=0.02)
        assert found.outputs == {"zeros": 0, "random": 3}
        assert found.measured == kernelperf.measured
        if found.measured:
            assert 0 < found.supported_bound() < 1
            assert len(found.contrasts) == 1
"""


@pytest.mark.parametrize(
    ("random_us", "ret", "verdict", "last"),
    [
        (10.0, 0, "UNCHANGED", "kernelperf: 1 judged"),
        (11.0, 1, "MISSED_TARGET", "kernelperf: 1 judged"),
        (10.2, 0, "INCONCLUSIVE", "kernelperf: 0 judged, 1 NOT judged (1 INCONCLUSIVE)"),
    ],
)
def test_the_verdict_is_shown_counted_and_fails_what_depends(
    project, random_us, ret, verdict, last
):
    project.times(10.0, zeros=10.0, random=random_us)
    project.write(TEST)

    result = project.run("--kernelperf")

    assert ret == result.ret
    result.stdout.fnmatch_lines([f"*P50*2.00 %*{verdict}*"])
    assert last == result.outlines[-1]


def test_unmeasured_it_calls_the_function_once_per_input(project):
    project.write(
        """
        import pytest
        from pytest_kernelperf import NotMeasuredError

        def test_it(kernelperf):
            calls = []
            found = kernelperf.data_independence(calls.append, {"a": (1,), "b": (2,)})
            assert calls == [1, 2]
            with pytest.raises(NotMeasuredError, match="--kernelperf"):
                found.supported_bound()
        """
    )

    assert project.run().ret == pytest.ExitCode.OK


def test_record_document_and_judge_tell_what_the_run_told(project):
    project.times(10.0, zeros=10.0, random=11.0)
    project.write(TEST)

    live = project.run(
        "--kernelperf", "--kernelperf-record", "run.jsonl", "--kernelperf-json", "run.json"
    )

    assert live.ret == pytest.ExitCode.TESTS_FAILED
    run = project.read_run()
    assert (True, ()) == (run.complete, run.failed)
    (independence,) = run.independences
    assert ["DATA_DEPENDENT"] == [verdict.reason for verdict in independence.verdicts]
    document = project.read_json()
    assert {"judged": 1, "not_judged": 0, "statuses": {"MISSED_TARGET": 1}} == document["counts"]
    (shown,) = document["data_independence"]
    assert (["zeros", "random"], {"50": 0.02}) == (shown["inputs"], shown["bounds"])
    command = [sys.executable, "-m", "pytest_kernelperf", "judge", "run.jsonl"]
    judged = subprocess.run(
        [*command, "--json", "judged.json"], cwd=project.path, capture_output=True, text=True
    )
    assert 1 == judged.returncode
    assert live.outlines[-1] == judged.stdout.splitlines()[-1]
    assert [shown] == project.read_json("judged.json")["data_independence"]


def test_an_invalid_measurement_fails_and_is_counted(project):
    project.script(problem="POISON_LEFT")
    project.write(TEST)

    result = project.run("--kernelperf")

    result.assert_outcomes(failed=1)
    assert "kernelperf: 0 judged, 1 NOT judged (1 INVALID)" == result.outlines[-1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("abs, {'a': (1,)}", "expected a dictionary of at least two inputs*"),
        ("abs, [(1,), (2,)]", "expected a dictionary of at least two inputs*got list"),
        ("abs, {'a': (1,), 'b': 2}", "'b': expected the positional arguments as a tuple, got int*"),
        ("abs, {'a': (1,), 'b': (2,)}, bound=0", "bound: expected a fraction above 0*got 0"),
        ("abs, {'a': (1,), 'b': (2,)}, bound={100: 0.1}", "bound: expected percentiles*got 100"),
        ("abs, {'a': (1,), 'b': (2,)}, target_us=3", "target_us= judges against a target*"),
    ],
)
def test_a_wrong_call_is_refused(project, call, message):
    project.write(f"def test_it(kernelperf): kernelperf.data_independence({call})")

    result = project.run()

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"E *OptionsError: kernelperf.data_independence: {message}"])


@needs.TORCH
def test_inputs_of_other_shapes_are_refused(real_project):
    real_project.write(
        """
        import torch

        def test_it(kernelperf):
            kernelperf.data_independence(
                torch.neg, {"a": (torch.zeros(3),), "b": (torch.zeros(4),)}
            )
        """
    )

    result = real_project.run("--kernelperf")

    result.stdout.fnmatch_lines(["E *OptionsError: *'a' and 'b' differ in more than their data: *"])


EARLY_EXIT = """
    import torch

    torch.set_num_threads(1)

    def early_exit(x):
        if not bool(x.any()):
            return x.clone()
        return torch.sort(x).values

    def steady(x):
        return torch.sort(x + torch.linspace(0, 1e-3, x.numel())).values

    def test_it(kernelperf):
        x = torch.linspace(0, 1, 1 << 14)
        kernelperf.data_independence(
            {function}, {{"zeros": (torch.zeros_like(x),), "ramp": (x,)}}, bound=0.5
        )
"""


@needs.TORCH
def test_a_real_early_exit_on_zeros_is_told_apart(real_project):
    real_project.write(EARLY_EXIT.format(function="early_exit"))

    result = real_project.run("--kernelperf")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*'ramp' +* over 'zeros' at P50, bound *: the time depends*"])


@needs.TORCH
def test_a_real_function_without_one_is_not(real_project):
    real_project.write(EARLY_EXIT.format(function="steady"))

    result = real_project.run("--kernelperf")

    assert result.ret == pytest.ExitCode.OK
