"""
Kernels that were compiled and can't be read: Triton's own tools read them, and a failure is told.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pytest_kernelperf.compiled import compiled_of, judged, read_launches
from pytest_kernelperf.errors import FiguresUnreadableError
from pytest_kernelperf.gpuless import missing_compiler
from pytest_kernelperf.model import Kernel, ResourceLimits, Status
from pytest_kernelperf.resources import Launch, reading, watch_launches

REFUSED = "ptxas /tmp/kernel.ptx, line 5; fatal   : Unsupported .version 9.4; current is '8.8'"
READ = Kernel("copy", 32, code_hash="a", target="sm_90")


def launch(**asm: object) -> Launch:
    metadata = SimpleNamespace(name="copy_kernel", target=SimpleNamespace(arch=90))
    return Launch(SimpleNamespace(metadata=metadata, asm=asm), (1, 1, 1), {})


def with_triton(monkeypatch, **compiler):
    """
    Put a stand-in for Triton's compiler of NVIDIA targets where it is imported from.
    """
    nvidia = SimpleNamespace(compiler=SimpleNamespace(**compiler))
    for name in ("triton", "triton.backends"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, "triton.backends.nvidia", nvidia)


@pytest.mark.parametrize(("arch", "path"), [(80, "/bin/ptxas"), (90, "/bin/ptxas-blackwell")])
def test_the_assembler_is_the_one_that_triton_takes_for_the_target(monkeypatch, arch, path):
    def as_in_triton_3_9(arch):
        return SimpleNamespace(path="/bin/ptxas" if arch < 90 else "/bin/ptxas-blackwell")

    with_triton(monkeypatch, get_ptxas=as_in_triton_3_9)

    assert path == reading._assembler(arch)


def test_an_assembler_that_triton_does_not_find_is_named(monkeypatch):
    def missing(arch):
        raise RuntimeError("Cannot find ptxas")

    with_triton(monkeypatch, get_ptxas=missing)

    with pytest.raises(FiguresUnreadableError, match=r"no ptxas .*Cannot find ptxas"):
        reading._assembler(90)


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        (FileNotFoundError(2, "No such file"), "nvdisasm failed: .*No such file"),
        (subprocess.TimeoutExpired("nvdisasm", 300), "nvdisasm failed: .*timed out"),
    ],
)
def test_a_tool_that_does_not_end_well_is_named(monkeypatch, fails, said):
    def run(*args, **kwargs):
        raise fails

    monkeypatch.setattr(subprocess, "run", run)

    with pytest.raises(FiguresUnreadableError, match=said):
        reading._run("/bin/nvdisasm", "kernel.cubin")


@pytest.fixture
def older_triton(monkeypatch):
    """
    Make Triton one before 3.4, which has no `knobs`.
    """
    triton = pytest.importorskip("triton")
    monkeypatch.delattr(triton, "knobs")
    monkeypatch.setitem(sys.modules, "triton.knobs", None)


@pytest.mark.usefixtures("older_triton")
def test_with_an_older_triton_calls_are_measured_and_their_kernels_are_not_read():
    with watch_launches() as seen:
        pass

    assert [] == seen
    with pytest.raises(FiguresUnreadableError, match="no nvdisasm"):
        reading._tool("nvdisasm")


@pytest.mark.usefixtures("older_triton")
def test_with_an_older_triton_nothing_can_be_compiled_and_the_missing_one_is_named():
    assert "triton>=3.4" == missing_compiler()


def test_a_launch_that_cannot_be_read_is_told_and_not_left_out(monkeypatch):
    def refuse(compiled, log):
        raise FiguresUnreadableError(REFUSED)

    monkeypatch.setattr(reading, "_words", refuse)

    kernels, why = read_launches([launch(cubin=b""), launch(cubin=b""), launch(hsaco=b"")])

    assert () == kernels
    assert why == (
        f"kernel copy_kernel: {REFUSED}; "
        "kernel copy_kernel: expected a cubin, which Triton makes for CUDA targets; got hsaco"
    )


def test_a_damaged_cubin_is_unreadable_too(monkeypatch):
    monkeypatch.setattr(reading, "_words", lambda compiled, log: {})

    with pytest.raises(FiguresUnreadableError, match=r"copy_kernel: expected a cubin"):
        reading.read_kernel(launch(cubin=b"no ELF file"))


@pytest.mark.parametrize("read", [(), (READ,)], ids=["none", "another"])
def test_a_measured_kernel_that_cannot_be_read_is_neither_judged_nor_called_absent(make, read):
    found = judged(
        compiled_of(make.measurement(), read, REFUSED), ResourceLimits(registers=1), (READ,)
    )

    assert (Status.INCONCLUSIVE, "FIGURES_UNREADABLE") == (
        found.verdict.status,
        found.verdict.reason,
    )
    assert REFUSED in found.verdict.sentence
    assert "No launch" not in found.verdict.sentence


def test_a_measured_call_without_a_launch_is_told_so(make):
    found = compiled_of(make.measurement(), (), "")

    assert found.failure.startswith("No launch of a Triton kernel was seen")


def test_a_cubin_that_is_cut_off_is_unreadable(monkeypatch):
    monkeypatch.setattr(reading, "_read", lambda launch: struct.unpack("<I", b""))

    with pytest.raises(FiguresUnreadableError, match="copy_kernel"):
        reading.read_kernel(launch())
