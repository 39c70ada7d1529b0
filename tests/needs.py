"""
What tests need that is not everywhere: without it they are skipped.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import pytest


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


#: Of a single test.
TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
#: Of a test that holds the code which one compiler makes to numbers, recorded with that one.
TRITON_3_6 = pytest.mark.skipif(
    not _version_of("triton").startswith("3.6."), reason="its numbers are of Triton 3.6"
)


def triton() -> None:
    """
    Skip the file where Triton is not installed.
    """
    # Not imported: how tests/kernels run Triton is decided by who imports it first.
    if find_spec("triton") is None:
        pytest.skip("needs triton", allow_module_level=True)


def no_gpu() -> None:
    """
    Skip the file where torch finds a GPU: there is nothing to pretend then.
    """
    if pytest.importorskip("torch").cuda.is_available():
        pytest.skip("needs a machine without a GPU", allow_module_level=True)
