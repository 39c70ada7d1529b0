"""
The example project, copied out of the repository and gated as its own users would.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import needs

needs.triton()
needs.no_gpu()

EXAMPLE = Path(__file__).parents[2] / "examples" / "triton_kernels"


def test_three_kernels_are_stored_pass_unchanged_and_fail_when_one_loses_the_tensor_cores(
    real_project, monkeypatch, tmp_path_factory
):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
    shutil.copytree(EXAMPLE, real_project.path, dirs_exist_ok=True)
    (real_project.path / "tox.ini").unlink()

    stored = real_project.run_apart("--kernelperf-update")
    unchanged = real_project.run_apart("--kernelperf")
    kernels = real_project.path / "kernels.py"
    text = kernels.read_text()
    dot = "acc = tl.dot(left, right, acc)"
    assert text.count(dot) == 1
    kernels.write_text(
        text.replace(
            dot, 'acc += tl.dot(left.to(tl.float32), right.to(tl.float32), input_precision="ieee")'
        )
    )
    worse = real_project.run_apart("--kernelperf")

    stored.assert_outcomes(passed=3)
    assert [f"{t}/test_kernels.json" for t in ("sm_100", "sm_80", "sm_90")] == (
        real_project.baseline_files()
    )
    unchanged.assert_outcomes(passed=3)
    unchanged.stdout.fnmatch_lines(["kernelperf: 9 judged"])
    worse.assert_outcomes(passed=2, failed=1)
    worse.stdout.fnmatch_lines(["*at least 1 wanted*"])
