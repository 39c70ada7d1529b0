"""
`kernelperf resources`: what it could not compile is told, and fails it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import needs
import pytest
from failing_tool import failing_tool

from pytest_kernelperf.cli.compiling import _marked_files

needs.triton()
needs.no_gpu()

TESTS = """
import torch, triton
import triton.language as tl
from pytest_kernelperf import kernel_perf

@triton.jit
def fill_kernel(y, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, 1.0, mask=at < n)

def fill(y):
    fill_kernel[(triton.cdiv(y.numel(), 256),)](y, y.numel(), BLOCK=256)

@kernel_perf(resources={"targets": ("sm_90",)}, mutates=("y",))
def test_fill(kernelperf):
    kernelperf(fill, torch.zeros(1000, device="cuda"))

@kernel_perf(resources={"targets": ("sm_90",)}, mutates=("y",))
def test_asks_first(kernelperf):
    y = torch.zeros(1000, device="cuda")
    assert y.sum().item() == 0
    kernelperf(fill, y)

def fill_and_ask(y):
    fill(y)
    assert torch.cuda.get_device_capability()[0] != 9 or y.sum() > 0

@kernel_perf(resources={"targets": ("sm_90", "sm_80")}, mutates=("y",))
def test_asks_on_hopper(kernelperf):
    kernelperf(fill_and_ask, torch.zeros(1000, device="cuda"))

@kernel_perf(resources={"targets": ("sm_90",)}, mutates=("y",))
def test_has_a_slip(kernelperf):
    kernelperf(fil, torch.zeros(1000, device="cuda"))
"""


def resources(folder: Path, *words: str, broken: bool = False) -> subprocess.CompletedProcess[str]:
    """
    Run the command in a project of one file.
    """
    (folder / "pytest.ini").write_text("[pytest]")
    (folder / "test_it.py").write_text(TESTS.replace("1.0,", "nowhere,") if broken else TESTS)
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "pytest_kernelperf", "resources", "--workers", "1"]
    return subprocess.run(
        [*command, *words],
        cwd=folder,
        env={**environment, "TRITON_CACHE_DIR": str(folder / "triton")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_path_that_is_not_there_is_said_so_in_a_line(tmp_path):
    done = resources(tmp_path, "test_it.py::test_fill", "nope/test_it.py::test_fill")

    assert 2 == done.returncode
    expected = "Error: there is no nope/test_it.py; expected test files, folders or file::test\n"
    assert expected == done.stderr
    assert not done.stdout


def test_a_test_that_fails_before_its_kernel_fails_the_command(tmp_path):
    done = resources(tmp_path, "test_it.py::test_fill", "test_it.py::test_has_a_slip")

    assert 1 == done.returncode, done.stdout + done.stderr
    assert "FAILED test_it.py::test_has_a_slip: not for what was compiled" in done.stdout
    assert "kernelperf: 1 compiled, 1 failed" == done.stdout.splitlines()[-1]


def test_a_test_that_could_not_be_followed_to_its_kernel_is_named(tmp_path):
    done = resources(tmp_path, "test_it.py::test_fill", "test_it.py::test_asks_first")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "not compiled: SKIPPED test_it.py::test_asks_first - " in done.stdout
    assert "kernelperf: 1 compiled, 0 failed, 1 NOT compiled" == done.stdout.splitlines()[-1]


def test_a_target_whose_call_asks_for_a_value_is_named(tmp_path):
    done = resources(tmp_path, "test_it.py::test_asks_on_hopper")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "not compiled: test_it.py::test_asks_on_hopper [sm_90] - " in done.stdout
    assert "kernelperf: 1 compiled, 0 failed, 1 NOT compiled" == done.stdout.splitlines()[-1]


def test_what_was_compiled_and_cannot_be_read_does_not_read_as_not_compiling(tmp_path, monkeypatch):
    failing_tool(tmp_path, monkeypatch)

    done = resources(tmp_path, "test_it.py::test_fill")

    assert 2 == done.returncode, done.stdout + done.stderr
    assert "test_fill [sm_90] - The kernels were compiled, and" in done.stderr
    assert "kernel fill_kernel: nvdisasm failed: no such format" in done.stderr
    assert "DOES_NOT_COMPILE" not in done.stdout + done.stderr


def test_under_strict_it_fails_the_command(tmp_path):
    done = resources(tmp_path, "--strict", "test_it.py::test_fill", "test_it.py::test_asks_first")

    assert 1 == done.returncode, done.stdout + done.stderr


def test_a_kernel_that_does_not_compile_is_told_where_nothing_else_was_compiled(tmp_path):
    done = resources(tmp_path, "test_it.py::test_fill", broken=True)

    assert 1 == done.returncode, done.stdout + done.stderr
    assert done.stdout.startswith("INVALID test_it.py::test_fill [sm_90] (DOES_NOT_COMPILE): ")
    assert 1 == done.stdout.count("nowhere is not defined")
    assert "kernelperf: 1 compiled, 1 failed" == done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("test_it.py", "@pytest.mark.kernel_perf(resources={})"),
        ("it_test.py", "@kernel_perf(resources={})"),
    ],
)
def test_marked_files_are_found_however_they_and_the_mark_are_named(tmp_path, name, mark):
    (tmp_path / "below").mkdir()
    path = tmp_path / "below" / name
    path.write_text(mark)
    (tmp_path / "test_other.py").write_text("@kernel_perf(target_us=5)")

    assert [path] == list(_marked_files(tmp_path))
