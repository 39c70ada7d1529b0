"""
Outputs agree within what two calls of one callable may differ by, and poison is told from values.
"""

from __future__ import annotations

import math

import pytest

from pytest_kernelperf.measure import poison
from pytest_kernelperf.measure.agreement import Tolerance, across, compare

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("dtype", "gap", "agrees"),
    [
        (torch.float64, 1e-11, True),
        (torch.float64, 1e-9, False),
        (torch.float32, 5e-6, True),
        (torch.float32, 1e-4, False),
        (torch.float16, 3e-3, True),
        (torch.float16, 2e-2, False),
        (torch.bfloat16, 3e-2, True),
        (torch.bfloat16, 0.2, False),
        (torch.complex64, 5e-6, True),
        (torch.complex64, 1e-4, False),
        (torch.int32, 1, False),
        (torch.bool, 1, False),
    ],
)
def test_each_dtype_has_its_tolerance(dtype: torch.dtype, gap: float, agrees: bool) -> None:
    expected = torch.ones(100).to(dtype)
    expected[0] = 0

    actual = expected + torch.tensor(gap).to(dtype) if dtype != torch.bool else ~expected

    assert agrees == (compare(expected, actual).difference is None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_special_values_equal_themselves_only(value: float) -> None:
    special = torch.tensor([value, 1.0])

    assert compare(special, special.clone()).difference is None
    assert compare(special, torch.tensor([1.0, 1.0])).difference is not None
    assert compare(torch.tensor([1.0, 1.0]), special).difference is not None


def test_special_values_are_equal_beside_others_that_are_only_close() -> None:
    """
    Where not all bits are the same, elements are looked at one by one.
    """
    expected = torch.tensor([float("nan"), float("inf"), -float("inf"), 1.0])

    assert compare(expected, expected * (1 + 1e-6)).difference is None


def test_small_elements_are_compared_on_the_outputs_scale() -> None:
    """
    Reordered additions change a sum that cancels by as much as its terms' rounding.
    """
    expected = torch.tensor([1000.0] * 99 + [1e-9])

    assert compare(expected, expected + 1e-4).difference is None


def test_a_difference_names_its_element() -> None:
    expected = {"lse": torch.zeros(3), "out": torch.zeros(3)}
    actual = {"lse": torch.zeros(3), "out": torch.tensor([0.0, 2.0, 0.0])}
    found = compare(expected, actual)

    assert found.difference is not None
    assert found.difference.text == (
        "output['out']: 1 of 3 elements differ, most by 2 at [1]: expected 0.0, got 2.0"
    )
    assert 2.0 == found.max_abs


def test_large_outputs_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_kernelperf.measure.agreement._CHUNK_ELEMENTS", 2)
    expected = torch.arange(5.0)
    actual = torch.tensor([0.0, 1.0, 2.0, 7.0, 5.0])
    found = compare(expected, actual)

    assert found.difference is not None
    assert found.difference.text.startswith("2 of 5 elements differ, most by 4 at [3]:")


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
     torch.complex64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8],
)  # fmt: skip
def test_poison_is_told_from_values_of_every_dtype(dtype: torch.dtype) -> None:
    expected = torch.ones(4, 3).to(dtype)
    actual = expected.clone()

    assert poison.write(actual[1:2])
    difference = compare(expected, actual).difference
    assert difference is not None
    assert difference.poison


def test_a_computed_nan_is_no_poison() -> None:
    zero = torch.zeros(2)
    difference = compare(zero, zero / zero).difference

    assert difference is not None
    assert not difference.poison


def test_poison_reaches_expanded_and_inference_tensors() -> None:
    expanded = torch.zeros(1).expand(3)
    with torch.inference_mode():
        inference = torch.zeros(2)

    assert poison.write(expanded)
    assert poison.write(inference)
    assert (3, 2) == (poison.count(expanded), poison.count(inference))


def test_a_bool_can_not_be_poisoned() -> None:
    assert not poison.write(torch.tensor([True]))


def test_numpy_arrays_are_compared_by_value() -> None:
    np = pytest.importorskip("numpy")

    assert compare(np.ones(3), np.ones(3)).difference is None
    assert compare(np.ones(3), np.zeros(3)).difference is not None
    assert compare(np.arange(3), np.arange(3)).difference is None
    assert compare(np.float64(1), np.float64(2)).difference is not None


def test_unknown_objects_are_compared_by_type_only() -> None:
    assert compare(object(), object()).difference is None
    assert compare(object(), 1).difference is not None


def test_two_implementations_may_differ_more_than_two_calls() -> None:
    one, other = torch.ones(10), torch.ones(10) * 1.001

    assert compare(one, other).difference is not None
    assert across(one, other).difference is None
    assert across(one, one * 1.1).difference is not None


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (3.0, "1 of 24 elements differ, most by 3 at [1, 2, 3]: expected 0.0, got 3.0"),
        (math.nan, "1 of 24 elements differ, most at [1, 2, 3]: expected 0.0, got nan"),
        (math.inf, "1 of 24 elements differ, most at [1, 2, 3]: expected 0.0, got inf"),
    ],
)
def test_the_worst_element_is_named_by_its_index_with_both_values(wrong: float, text: str) -> None:
    expected = torch.zeros(2, 3, 4)
    actual = expected.clone()
    actual[1, 2, 3] = wrong

    found = compare(expected, actual).difference

    assert found is not None
    assert text == found.text


def test_the_worst_of_several_is_named_and_not_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_kernelperf.measure.agreement._CHUNK_ELEMENTS", 2)
    found = compare(torch.zeros(6), torch.tensor([0.0, 1.0, 0.0, 0.0, 5.0, 2.0])).difference

    assert found is not None
    assert found.text.startswith("3 of 6 elements differ, most by 5 at [4]:")


def test_an_element_of_a_complex_tensor_is_named_with_its_part() -> None:
    found = compare(torch.zeros(2, 2, dtype=torch.complex64), torch.tensor([[0, 0], [0, 2j]]))

    assert found.difference is not None
    assert "at [1, 1].imag" in found.difference.text


def test_a_given_tolerance_replaces_the_dtypes_own() -> None:
    one, other = torch.tensor([1.0, 2.0]), torch.tensor([1.4, 2.0])

    assert across(one, other).difference is not None
    assert across(one, other, Tolerance(0.0, 0.5)).difference is None
    assert across(one, other, Tolerance(0.5, 0.0)).difference is None
    assert across(one, other, Tolerance(0.0, 0.3)).difference is not None
    assert across(one, one + 1e-6, Tolerance(0.0, 0.0)).difference is not None


@pytest.mark.parametrize(
    ("one", "other", "agree"), [(1.0, 1.0 + 1e-9, True), (1.0, 1.1, False), (1, 2, False)]
)
def test_numbers_of_two_implementations_agree_within_the_tolerance(one, other, agree) -> None:
    assert agree is (across(one, other).difference is None)


def test_arrays_of_two_implementations_agree_within_the_wider_tolerance() -> None:
    np = pytest.importorskip("numpy")
    one = np.ones(4, dtype="float32")

    assert compare(one, one + 1e-3).difference is not None
    assert across(one, one + 1e-3).difference is None
