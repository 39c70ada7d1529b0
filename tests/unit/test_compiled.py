"""
Which stored kernels belong to a test.
"""

from __future__ import annotations

import pytest

from pytest_kernelperf.compiled import stored_cases, stored_kernels, stored_key
from pytest_kernelperf.model import Case, Kernel
from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.resources import store_resources

TESTS = ("test_copy", "test_copy[a]", "test_copy[a b]", "test_copy_2")
KEYS = [key for test in TESTS for key in (test, f"{test} first")]


@pytest.mark.parametrize("test", TESTS)
def test_the_stored_cases_of_a_test_are_its_own_by_all_their_names(tmp_path, test):
    stored = {key: (Kernel(key),) for key in KEYS}
    store_resources(tmp_path, "sm_90", "test_it.py", stored)

    cases = stored_cases(Case("test_it.py", test, "", "compile", "sm_90", "-"), tmp_path)

    assert ["", "first"] == [case.name for case in cases]
    assert [stored[test], stored[f"{test} first"]] == [
        stored_kernels(case, tmp_path) for case in cases
    ]


@pytest.mark.parametrize("name", ["", "first"])
def test_what_is_stored_of_a_case_has_the_key_that_messages_give_it(tmp_path, name):
    case = Case("test_it.py", "test_copy[a]", name, "compile", "sm_90", "-")
    store_resources(tmp_path, "sm_90", "test_it.py", {stored_key(case): (Kernel("copy"),)})

    (stored,) = Baselines(tmp_path).kernels("sm_90")

    assert case.key == stored.key
