"""
`kernelperf show`, `prune`, `rename` and `judge`, of compiled kernels beside times.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_kernelperf.model import Kernel
from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.resources import load_resources, store_resources

SLUG = "nvidia-h100-80gb-hbm3"
FILE = "tests/perf/test_attention.py"
KERNEL = Kernel("copy_kernel", registers=33, code_hash="abcd", target="sm_90")
TIMED = "test_copy[8] | device cold paced"


@pytest.fixture
def root(project: Path, make) -> Path:
    """
    Return baselines with times of one test, and kernels of two for two targets.
    """
    (project / FILE).write_text("def test_copy(kernelperf): ...\n")
    root = project / "baselines"
    Baselines(root).write(SLUG, FILE, {TIMED: make.entry("a")})
    kernels = {"test_copy[8]": (KERNEL,), "test_copy[8] bwd": (KERNEL,), "test_lost": (KERNEL,)}
    for target in ("sm_80", "sm_90"):
        store_resources(root, target, FILE, kernels)
    return root


def names_of(root: Path, target: str = "sm_90") -> set[str]:
    return set(load_resources(root, target, FILE))


def test_show_lists_the_kernels_of_each_target(kernelperf, root) -> None:
    result = kernelperf("show")

    assert 0 == result.exit_code
    for text in (SLUG, f"{FILE} on sm_80", f"{FILE} on sm_90", "test_copy[8] bwd", "copy_kernel"):
        assert text in result.output
    assert "33" in result.output


def test_show_lists_the_kernels_of_one_file(kernelperf, root) -> None:
    output = kernelperf("show", root / "sm_90" / "tests").output

    assert f"{FILE} on sm_90" in output
    assert SLUG not in output
    assert "sm_80" not in output


def test_prune_removes_the_kernels_of_a_test_that_is_gone(kernelperf, root) -> None:
    dry = kernelperf("prune", "--dry-run")

    assert "test_lost" in names_of(root)
    result = kernelperf("prune")

    assert "kernelperf: would remove 2 of 7 entries" == dry.output.splitlines()[-1]
    assert f"removed {FILE}::test_lost | compile sm_90 - (sm_90): " in result.output
    for target in ("sm_80", "sm_90"):
        assert {"test_copy[8]", "test_copy[8] bwd"} == names_of(root, target=target)
    assert {TIMED} == set(Baselines(root).load(SLUG, FILE))


def test_prune_of_a_test_takes_times_and_kernels_and_their_empty_files(kernelperf, root) -> None:
    kernelperf("prune", "--tests", f"{FILE}::test_copy[8]", "--tests", f"{FILE}::test_lost")

    assert [] == [path for path in root.rglob("*") if path.is_file()]
    assert [] == Baselines(root).targets()


def test_prune_of_a_key_takes_the_kernels_alone(kernelperf, root) -> None:
    result = kernelperf("prune", "--tests", f"{FILE}::test_copy[8] | compile sm_90 -")

    assert "kernelperf: removed 1 of 7 entries" == result.output.splitlines()[-1]
    assert {"test_copy[8] bwd", "test_lost"} == names_of(root)
    assert {TIMED} == set(Baselines(root).load(SLUG, FILE))


def test_rename_moves_times_and_kernels_of_a_test(kernelperf, root) -> None:
    result = kernelperf("rename", f"{FILE}::test_copy", f"{FILE}::test_twin")

    assert "kernelperf: renamed 5 entries" == result.output.splitlines()[-1]
    for target in ("sm_80", "sm_90"):
        assert {"test_twin[8]", "test_twin[8] bwd", "test_lost"} == names_of(root, target=target)
    assert (KERNEL,) == load_resources(root, "sm_90", FILE)["test_twin[8] bwd"]
    assert {"test_twin[8] | device cold paced"} == set(Baselines(root).load(SLUG, FILE))


def test_renaming_a_file_moves_its_kernels(kernelperf, root) -> None:
    before = (root / "sm_90" / "tests/perf/test_attention.json").read_bytes()

    kernelperf("rename", FILE, "tests/gpu/test_new.py")

    assert before == (root / "sm_90" / "tests/gpu/test_new.json").read_bytes()
    assert not (root / "sm_90" / "tests/perf").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (f"{FILE}::test_lost", f"{FILE}::test_copy[8]", "has a baseline already"),
        (
            f"{FILE}::test_lost | compile sm_90 -",
            f"{FILE}::test_lost | device cold paced",
            "of one kind",
        ),
        (
            f"{FILE}::test_lost | compile sm_90 -",
            f"{FILE}::test_lost | compile sm_80 -",
            "of one kind",
        ),
        (f"{FILE}::test_lost", "../test_x.py::test_lost", "not a path below the anchor"),
    ],
)
def test_a_rename_of_kernels_that_cannot_be_changes_nothing(
    kernelperf, root, old, new, message
) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*.json")}
    result = kernelperf("rename", old, new)

    assert 2 == result.exit_code
    assert message in result.output
    assert before == {path: path.read_bytes() for path in root.rglob("*.json")}


@pytest.mark.parametrize("command", [("show",), ("prune",), ("rename", FILE, "tests/test_y.py")])
def test_a_damaged_file_of_kernels_is_named(kernelperf, root, command) -> None:
    path = root / "sm_90" / "tests/perf/test_attention.json"
    path.write_text('{ "schema')
    result = kernelperf(*command)

    assert 2 == result.exit_code
    assert str(path) in result.output
    assert '{ "schema' == path.read_text()
