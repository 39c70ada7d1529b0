"""
The gate of this repository where there is no GPU: its kernels are compiled and judged.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import needs

needs.triton()
needs.no_gpu()

ROOT = Path(__file__).parents[2]
CASE = "tests/perf/test_attention_kernels.py::test_attention_kernel[64-False-128-8]"


def test_tests_that_interpret_do_not_keep_the_gate_from_compiling(triton_cache) -> None:
    """`pytest --kernelperf` collects both; Triton is one or the other in a process."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}

    options = ("-q", "-rs", "-p", "no:cacheprovider", "--kernelperf")

    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/kernels/test_configs.py", CASE],
        cwd=ROOT,
        env={**environment, "TRITON_CACHE_DIR": str(triton_cache)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == run.returncode, run.stdout
    assert "these tests interpret: run them without it" in run.stdout
    assert "1 passed" in run.stdout
    assert "DOES_NOT_COMPILE" not in run.stdout
