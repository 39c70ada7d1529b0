"""
What passed because it was to be stored, and then was not, is no pass.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_kernelperf.compiled import judged
from pytest_kernelperf.model import Case, Compiled, Kernel, ResourceLimits
from pytest_kernelperf.outcome import Outcome
from pytest_kernelperf.settings import Settings
from pytest_kernelperf.store.resources import store_resources
from pytest_kernelperf.storing import store

CASE = Case("test_x.py", "test_x", "", "compile", "sm_90", "-")
STORED = Kernel("copy", spills=0, code_hash="a", target="sm_90", compiler="triton 3.6.0")
WORSE = replace(STORED, spills=8, code_hash="b")
NOT_ACCEPTED = "test_x.py::test_x (compile): code REGRESSED and not stored, so not accepted"


@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("is_gone", [True, False])
def test_accepted_code_that_is_refused_storage_fails_the_run(tmp_path, accepts, is_gone):
    if not is_gone:
        store_resources(tmp_path, CASE.l2, CASE.file, {"test_x": (STORED,)})
    one = judged(Compiled(CASE, (WORSE,)), ResourceLimits(), (STORED,))
    outcome = Outcome("test_x.py::test_x", str(tmp_path / "test_x.py"), compiled=(one,))
    settings = Settings(measuring=True, update=True, accept_regressions=accepts, baselines=tmp_path)
    failed = {} if accepts else {outcome.nodeid: False}

    (kernels,) = store([outcome], failed, settings)

    (change,) = kernels.changes
    is_moved = accepts and not is_gone
    assert ("moved" if is_moved else "refused") == change.action
    told = [text.startswith(NOT_ACCEPTED) for text in kernels.errors]
    assert ([True] if accepts and is_gone else []) == told
