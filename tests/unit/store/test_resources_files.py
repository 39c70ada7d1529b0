"""
Stored kernels: what is written is read back, others stay, and cards never see them.
"""

from __future__ import annotations

import json
import re

import pytest

from pytest_kernelperf.errors import BaselineFormatError, BaselineVersionError
from pytest_kernelperf.model import Kernel
from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.resources import load_resources, resources_path, store_resources

FILE = "tests/test_x.py"
KERNEL = Kernel(
    "softmax",
    registers=32,
    spills=0,
    code_hash="a",
    target="sm_90",
    instructions={"total": 99},
    warnings=("C7510: serialized",),
    grid=(4, 1, 1),
    constants={"BLOCK": "64"},
)


def test_what_was_stored_is_read_back(tmp_path):
    path = store_resources(tmp_path, "sm_90", FILE, {"test_x[8]": (KERNEL,)})

    assert {"test_x[8]": (KERNEL,)} == load_resources(tmp_path, "sm_90", FILE)
    assert tmp_path / "sm_90" / "tests" / "test_x.json" == path


def test_the_same_kernels_are_the_same_bytes(tmp_path):
    path = store_resources(tmp_path, "sm_90", FILE, {"a": (KERNEL,), "b": (KERNEL,)})
    before = path.read_bytes()

    store_resources(tmp_path, "sm_90", FILE, {"b": (KERNEL,)})

    assert before == path.read_bytes()
    assert before.startswith(b'{\n "schema_version": 1,')


def test_nothing_stored_is_no_kernels(tmp_path):
    assert {} == load_resources(tmp_path, "sm_90", FILE)


def test_cards_do_not_see_the_folders_of_targets(tmp_path):
    store_resources(tmp_path, "sm_90", FILE, {"a": (KERNEL,)})

    assert [] == Baselines(tmp_path).slugs()


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"schema_version": 99}, BaselineVersionError),
        ({"schema_version": 1, "kernels": {"a": [{"registers": 3}]}}, BaselineFormatError),
        ([], BaselineFormatError),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_left(tmp_path, document, error):
    path = resources_path(tmp_path, "sm_90", FILE)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document))

    with pytest.raises(error, match=r"test_x\.json"):
        store_resources(tmp_path, "sm_90", FILE, {"a": (KERNEL,)})

    assert document == json.loads(path.read_text())


def test_a_damaged_file_of_kernels_is_found_with_those_of_times(tmp_path):
    path = store_resources(tmp_path, "sm_90", FILE, {"a": (KERNEL,)})
    Baselines(tmp_path).check_all()
    path.write_text('{ "schema')

    with pytest.raises(BaselineFormatError, match=re.escape(str(path))):
        Baselines(tmp_path).check_all()


def test_removing_the_last_kernels_removes_their_file(tmp_path):
    store_resources(tmp_path, "sm_90", FILE, {"a": (KERNEL,), "b": (KERNEL,)})
    path = store_resources(tmp_path, "sm_90", FILE, {"a": None})

    assert {"b": (KERNEL,)} == load_resources(tmp_path, "sm_90", FILE)
    store_resources(tmp_path, "sm_90", FILE, {"b": None})

    assert not path.exists()
    assert [] == list(tmp_path.iterdir())


def test_kernels_that_stand_twice_are_refused(tmp_path):
    path = store_resources(tmp_path, "sm_90", FILE, {"a": (KERNEL,)})
    path.write_bytes(path.read_bytes().replace(b'"a": ', b'"a": [],\n "a": '))

    with pytest.raises(BaselineFormatError, match="'a' twice"):
        load_resources(tmp_path, "sm_90", FILE)
