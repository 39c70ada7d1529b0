"""
What a call does, counted from its arguments, and what holds its time to it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.measure import CallShape, Subject
from pytest_kernelperf.model import Ceilings, Environment, Gpu, Peaks, Work
from pytest_kernelperf.options import Options
from pytest_kernelperf.store.ceilings import keep_ceilings
from pytest_kernelperf.work import count_work, held_to

pytestmark = pytest.mark.usefixtures("own_cache")

CARD = Gpu("NVIDIA Scripted", "GPU-1", 132, "9.0", 80 << 30, 50 << 20)
CUDA = CallShape(inputs=("float16[8] cuda",), device="cuda:0", footprint_bytes=1000)
CEILINGS = Ceilings(2500.0, {"float16": 600.0}, 1.5, "2026-09-01")


class Room:
    """
    Knows one card and its peaks.
    """

    def environment(self, device):
        return Environment(gpu=CARD, cpu="Xeon")

    def peaks(self, device):
        return Peaks(1000.0, 3000.0)


def counted(shape=CUDA, args=(3, 4), kwargs=None, **keywords):
    return count_work(Options(**keywords), Subject(pow, args, kwargs or {}), shape, Room())


def test_a_test_that_counts_nothing_has_no_work():
    assert counted() is None


def test_numbers_are_taken_as_they_are():
    assert Work(flops=5.0, peaks=Peaks(1000.0, 3000.0)) == counted(flops=5.0)


def test_what_the_call_multiplies_in_goes_into_the_record():
    assert ("float16",) == counted(replace(CUDA, operands=("float16",)), flops=5.0).operands


def test_functions_count_from_the_arguments_of_the_call():
    found = counted(
        args=(3,),
        kwargs={"exp": 4},
        flops=lambda base, exp: base * exp,
        moved_bytes=lambda *_, **k: 7,
    )

    assert (12.0, 7.0) == (found.flops, found.moved_bytes)


@pytest.mark.parametrize(("moved_bytes", "cold"), [(400.0, 400.0), (5000.0, 1000.0)])
def test_no_more_is_cold_than_the_arguments_hold(moved_bytes, cold):
    """
    Outputs are written to memory that the call before has left in the cache.
    """
    assert cold == counted(moved_bytes=moved_bytes).cold_bytes


def test_ceilings_that_were_kept_for_this_card_go_into_the_record():
    keep_ceilings("GPU-1", CEILINGS)

    assert CEILINGS == counted(flops=5.0).ceilings


def test_another_cards_ceilings_do_not():
    keep_ceilings("GPU-2", CEILINGS)

    assert counted(flops=5.0).ceilings is None


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda base, exp: base.numel(), "AttributeError: 'int' object has no attribute 'numel'"),
        (lambda base: base, "TypeError: "),
        (lambda base, exp: 0, "expected a number above 0, got 0"),
        (lambda base, exp: "many", "expected a number above 0, got 'many'"),
    ],
)
def test_a_function_that_can_not_count_is_named_with_its_error(function, said):
    with pytest.raises(OptionsError, match=r"bytes=.* must count one call of pow") as raised:
        counted(moved_bytes=function)

    assert said in str(raised.value)


def test_an_impossible_time_makes_a_measurement_invalid(make):
    work = Work(flops=1e12, peaks=Peaks(1000.0, 3000.0))

    found = held_to(work, make.measurement())

    assert work == found.work
    assert "FASTER_THAN_PHYSICS" == found.problem.code


def test_warm_inputs_are_not_held_to_the_memory(make):
    work = Work(moved_bytes=1e9, cold_bytes=1e9, peaks=Peaks(1000.0, 3000.0))
    warm = make.measurement(case=make.case(l2="warm"))

    assert held_to(work, make.measurement()).problem is not None
    assert held_to(work, warm).problem is None


def test_a_measurement_without_work_stays_as_it_is(make):
    measurement = make.measurement()

    assert measurement is held_to(None, measurement)
