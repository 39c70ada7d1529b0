"""
An H100's limits and what doctor says of it: some seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from pytest_kernelperf.analysis import judge, noise_from  # noqa: E402 - torch may be missing
from pytest_kernelperf.measure import Job, Subject, environment, inspect_call, measure  # noqa: E402
from pytest_kernelperf.measure.ceilings import measure_ceilings, peaks  # noqa: E402
from pytest_kernelperf.model import Case, Ceilings, Limits, Measurement, Work  # noqa: E402
from pytest_kernelperf.work import held_to  # noqa: E402

pytestmark = pytest.mark.h100


@pytest.fixture(scope="module")
def ceilings() -> Ceilings:
    return measure_ceilings(0)


def taken(subject: Subject) -> Measurement:
    """
    Return a device measurement of two rounds.
    """
    shape = inspect_call(subject)
    case = Case("test_x.py", "test_x", "", "device", "cold", "paced", shape.inputs)
    _, (found,) = measure(subject, [Job(case, rounds=2)])
    assert found.problem is None
    return found


def test_peaks_are_the_datasheets_at_the_highest_clock():
    """
    SXM5: 132 SMs, 1980 MHz at most, 4096 operations a clock; 5120 bits of HBM3 at 2619 MHz.
    """
    found = peaks(0)

    assert found.tflops == pytest.approx(1070.5, rel=0.05)
    assert found.gbs == pytest.approx(3352.0, rel=0.05)


def test_ceilings_are_plausible(ceilings):
    assert 2200 < ceilings.copy_gbs < 3100
    assert 500 < ceilings.matmul_tflops["float16"] < 850
    assert 500 < ceilings.matmul_tflops["bfloat16"] < 850
    assert 250 < ceilings.matmul_tflops["float32"] < 500
    assert 0.5 < ceilings.empty_kernel_us < 4


def test_ceilings_are_below_the_peaks_and_repeat(ceilings):
    again, limit = measure_ceilings(0), peaks(0)

    assert ceilings.copy_gbs < limit.gbs
    assert max(ceilings.matmul_tflops.values()) < limit.tflops
    assert again.copy_gbs == pytest.approx(ceilings.copy_gbs, rel=0.03)
    assert again.matmul_tflops == pytest.approx(ceilings.matmul_tflops, rel=0.05)
    assert again.empty_kernel_us == pytest.approx(ceilings.empty_kernel_us, rel=0.25)


@pytest.mark.parametrize(("factor", "code"), [(1, None), (50, "FASTER_THAN_PHYSICS")])
def test_a_product_is_held_to_its_operations(ceilings, factor, code):
    left, right = (torch.randn(4096, 4096, device="cuda", dtype=torch.float16) for _ in range(2))
    work = Work(flops=2.0 * 4096**3 * factor, peaks=peaks(0), ceilings=ceilings)

    found = held_to(work, taken(Subject(torch.mm, (left, right))))

    assert code == (found.problem.code if found.problem else None)
    if code is None:
        verdict = judge(found, None, Limits(), noise_from(()))[0]
        assert ("compute", "measured") == (verdict.roofline.limit, verdict.roofline.against)
        assert 0.7 < verdict.roofline.share < 1.3


@pytest.mark.parametrize(("factor", "code"), [(1, None), (3, "FASTER_THAN_PHYSICS")])
def test_a_copy_is_held_to_its_bytes(ceilings, factor, code):
    source = torch.ones(64 * 2**20, device="cuda")
    moved = 2.0 * source.nbytes * factor
    work = Work(moved_bytes=moved, cold_bytes=moved, peaks=peaks(0), ceilings=ceilings)

    found = held_to(work, taken(Subject(torch.clone, (source,))))

    assert code == (found.problem.code if found.problem else None)
    if code is None:
        verdict = judge(found, None, Limits(), noise_from(()))[0]
        assert "memory" == verdict.roofline.limit
        assert 0.8 < verdict.roofline.share < 1.1


def test_a_single_empty_kernel_is_bound_by_its_launch(ceilings):
    cell = torch.zeros(1, device="cuda")
    work = Work(moved_bytes=8.0, peaks=peaks(0), ceilings=ceilings)

    found = held_to(work, taken(Subject(torch.neg, (cell,))))

    verdict = judge(found, None, Limits(), noise_from(()))[0]
    assert "launch" == verdict.roofline.limit
    assert 0.3 < verdict.roofline.share < 1.3


def test_the_command_looks_at_the_card_and_keeps_its_ceilings(tmp_path: Path):
    command = [sys.executable, "-m", "pytest_kernelperf", "doctor", "--ceilings"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "doctor.json")],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    print(done.stdout)
    document = json.loads((tmp_path / "doctor.json").read_text())
    bad = {each["topic"] for each in document["findings"] if each["level"] == "BAD"}
    # This very test run is on the card too, and doctor may take it for the stranger that it is.
    assert set() == bad - {"neighbours"}
    assert (1 if bad else 0) == done.returncode, done.stderr
    kept = json.loads((tmp_path / "kernelperf" / "ceilings.json").read_text())
    assert [environment("cuda:0").card] == list(kept["cards"])
    assert {"blocker", "graphs", "profiler", "clock", "power", "neighbours"} <= {
        each["topic"] for each in document["findings"]
    }
