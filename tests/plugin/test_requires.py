"""
`requires=`: a skip at set-up with the reason, and one line that says how many.
"""

from __future__ import annotations

import sys

import pytest

from pytest_kernelperf.requires import find_missing

pytest.importorskip("torch")

TESTS = """
    import pytest
    from pytest_kernelperf import kernel_perf

    @pytest.fixture
    def costly():
        raise RuntimeError("set up for nothing")

    @pytest.mark.parametrize("n", [1, 2])
    @kernel_perf(requires="cuda")
    def test_gpu(kernelperf, costly, n): pass

    @kernel_perf
    def test_anywhere(kernelperf): kernelperf(abs, -1)
"""


@pytest.fixture
def no_cuda(monkeypatch):
    """
    Make torch find no CUDA device, whatever this machine has.
    """
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.mark.parametrize("args", [(), ("--kernelperf",)])
@pytest.mark.usefixtures("no_cuda")
def test_a_test_is_skipped_at_setup_where_cuda_is_missing(project, args):
    project.write(TESTS)

    result = project.run(*args, "-rs")

    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED *requires cuda: torch finds no CUDA device"])


@pytest.mark.usefixtures("no_cuda")
def test_one_line_says_what_was_skipped_and_what_ran_on_the_cpu(project):
    project.write(TESTS)
    project.script(device="cpu")

    result = project.run("--kernelperf")

    result.stdout.fnmatch_lines(
        [
            "kernelperf: 2 skipped (requires cuda: torch finds no CUDA device); "
            "1 measured on the CPU, with the wall timer"
        ]
    )
    result.stdout.no_fnmatch_line("*stopped early*")


@pytest.mark.usefixtures("no_cuda")
def test_the_last_line_and_the_document_tell_what_was_skipped_even_when_quiet(project):
    """
    A driver that broke would else look like a run that judged all there is.
    """
    project.write(TESTS)
    project.script(device="cpu")

    result = project.run("--kernelperf", "-q", "--kernelperf-json=run.json")

    assert result.outlines[-1].endswith(", 2 tests skipped for what this machine lacks")
    skipped = project.read_json("run.json")["skipped_tests"]
    assert ["requires cuda: torch finds no CUDA device"] * 2 == list(skipped.values())


@pytest.mark.parametrize(
    ("requires", "capability", "missing"),
    [
        (("cuda",), (8, 0), None),
        (("sm_90",), (9, 0), None),
        (("sm_90",), (10, 0), None),
        (("cuda", "sm_90"), (8, 6), "requires sm_90: this card is sm_86"),
        (("sm_100",), (9, 0), "requires sm_100: this card is sm_90"),
    ],
)
def test_a_compute_capability_is_a_least_one(monkeypatch, requires, capability, missing):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)

    assert missing == find_missing(requires)


@pytest.mark.usefixtures("no_cuda")
def test_no_other_process_is_asked_for_what_this_machine_lacks(project, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "pytest_kernelperf.processes.sweep.Sweep.run", lambda _, tests: asked.extend(tests)
    )
    project.write(TESTS)
    project.script(device="cpu")

    project.run("--kernelperf", "--kernelperf-processes", "3")

    assert asked == ["test_it.py::test_anywhere"]


def test_without_torch_the_reason_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)

    assert find_missing(("cuda",)) == "requires cuda: torch is not installed"


RESOURCES = """
    from pytest_kernelperf import kernel_perf

    @kernel_perf(resources={"spills": 0})
    def test_compiled(kernelperf): kernelperf(abs, -1)
"""


@pytest.mark.parametrize("package", ["torch", "triton"])
@pytest.mark.usefixtures("no_cuda")
def test_resources_without_a_gpu_and_a_compiler_are_a_skip_with_the_reason(
    project, monkeypatch, package
):
    project.write(RESOURCES)
    monkeypatch.setitem(sys.modules, package, None)

    result = project.run("--kernelperf")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines([f"kernelperf: 1 skipped (resources: {package} is not installed)"])


@pytest.mark.parametrize("package", ["torch", "triton"])
def test_to_compile_only_without_a_compiler_is_refused(project, monkeypatch, package):
    project.write(RESOURCES)
    monkeypatch.setitem(sys.modules, package, None)

    result = project.run("--kernelperf", "--kernelperf-compile-only")

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    result.stderr.fnmatch_lines([f"*{package} is not installed here: pip install {package}"])
