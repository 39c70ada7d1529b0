"""
Shares of a card's limits, and times that no card can reach.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from measured import CASE, PLAN, a_measurement, a_process, environment, judged

from pytest_kernelperf.analysis import physics_problem
from pytest_kernelperf.analysis.roofline import product_dtype, roofline
from pytest_kernelperf.model import Ceilings, Measurement, Peaks, Problem, Roofline, Work

HALF = ("float16[8, 8] strides (8, 1) cuda",)
PEAKS = Peaks(tflops=1000.0, gbs=3000.0)
CEILINGS = Ceilings(2500.0, {"float16": 500.0, "float32": 250.0}, 1.5, "2026-09-01")
MEASURED = Work(flops=1e10, moved_bytes=1e7, peaks=PEAKS, ceilings=CEILINGS)


def measured(
    time_us: float, *, inputs: tuple[str, ...] = HALF, plan: Any = PLAN, **work: Any
) -> Measurement:
    """
    Return a measurement of that P50 whose call does that work on the card with those peaks.
    """
    done = Work(**{"peaks": PEAKS, "operands": ("float16",), **work})
    case = replace(CASE, inputs=inputs)
    return a_measurement(a_process(time_us), case=case, plan=plan, work=done)


def code(problem: Problem | None) -> str | None:
    return problem.code if problem else None


def test_a_worked_example() -> None:
    """
    10 GFLOP in 40 µs are 250 TFLOP/s, half of 500; 10 MB are 250 GB/s, a tenth of 2500.
    """
    found = roofline(MEASURED, HALF, "device", 40.0)

    assert found.limit == "compute"
    assert found.against == "measured"
    assert [250.0, 250.0, 0.5] == pytest.approx([found.tflops, found.gbs, found.share])


@pytest.mark.parametrize(
    ("flops", "moved_bytes", "limit", "least_us"),
    [(1e10, 1e7, "compute", 20.0), (1e9, 1e8, "memory", 40.0), (1e6, 1e3, "launch", 1.5)],
)
def test_the_slowest_limit_binds(flops, moved_bytes, limit, least_us) -> None:
    work = replace(MEASURED, flops=flops, moved_bytes=moved_bytes)

    found = roofline(work, HALF, "device", 80.0)

    assert limit == found.limit
    assert found.share == pytest.approx(least_us / 80.0)


def test_an_empty_kernel_is_no_limit_of_what_a_caller_waits() -> None:
    work = replace(MEASURED, flops=1e6, moved_bytes=None)

    assert "compute" == roofline(work, HALF, "wall", 80.0).limit


def test_without_ceilings_the_peaks_are_the_limits_and_said_to_be() -> None:
    found = roofline(replace(MEASURED, ceilings=None), HALF, "device", 40.0)

    assert ("compute", "theoretical") == (found.limit, found.against)
    assert found.share == pytest.approx(0.25)


@pytest.mark.parametrize("peaks", [None, Peaks()])
def test_without_any_limit_there_are_rates_only(peaks) -> None:
    found = roofline(Work(flops=1e10, peaks=peaks), HALF, "device", 40.0)

    assert Roofline(tflops=pytest.approx(250.0)) == found


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (("float32[4] cpu",), "float32"),
        (("int64[4] cuda", "float16[4] cuda", "float32[4] cuda"), "float16"),
        (("int64[4] cuda",), "float16"),
        ((), "float16"),
    ],
)
def test_the_product_of_the_inputs_dtype_is_the_limit_else_the_fastest(inputs, expected) -> None:
    assert expected == product_dtype(CEILINGS.matmul_tflops, inputs)


@pytest.mark.parametrize(("time_us", "expected"), [(9.7, "FASTER_THAN_PHYSICS"), (9.9, None)])
def test_a_time_below_what_the_operations_take_is_impossible(time_us, expected) -> None:
    """
    10 GFLOP at 1000 TFLOP/s take 10 µs; 2 % are allowed for the clock.
    """
    assert expected == code(physics_problem(measured(time_us, flops=1e10)))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float8_e4m3fn", None),
        ("uint8", None),
        ("int32", "FASTER_THAN_PHYSICS"),
        ("float32", "FASTER_THAN_PHYSICS"),
    ],
)
def test_narrow_numbers_may_go_faster(dtype, expected) -> None:
    found = physics_problem(measured(5.0, flops=1e10, operands=("float16", dtype)))

    assert expected == code(found)


@pytest.mark.parametrize(
    ("operands", "least_us"),
    [(("float16",), 10.0), (("float8_e5m2",), 5.0), (("uint8",), 2.5), (None, 2.5)],
)
def test_what_can_not_be_seen_is_held_to_the_cards_fastest_products(operands, least_us) -> None:
    """
    A 16-bit input says nothing of what an opaque callable multiplies in.
    """
    known = {"flops": 1e10, "operands": operands, "peaks": Peaks(1000.0, 3000.0, 4000.0)}

    assert physics_problem(measured(0.99 * least_us, **known)) is None
    assert "FASTER_THAN_PHYSICS" == code(physics_problem(measured(0.97 * least_us, **known)))


def test_no_dtype_is_held_to_more_than_the_card_has() -> None:
    """
    Bytes may be packed FP4, which this card lacks.
    """
    known = {"flops": 1e10, "operands": ("uint8",), "peaks": Peaks(1000.0, 3000.0, 2000.0)}

    assert "FASTER_THAN_PHYSICS" == code(physics_problem(measured(4.8, **known)))


def test_where_no_fastest_product_is_known_it_is_that_of_the_fastest_card() -> None:
    assert physics_problem(measured(1.65, flops=1e10, operands=None)) is None
    assert physics_problem(measured(1.6, flops=1e10, operands=None)) is not None


@pytest.mark.parametrize(
    ("operands", "said"),
    [
        (("bfloat16",), "held to 16-bit products, since it multiplies bfloat16"),
        (("float8_e5m2",), "held to FP8 products, since it multiplies float8_e5m2"),
        (None, "held to the card's fastest products of any number format, since what"),
    ],
)
def test_the_message_names_the_products_that_it_is_held_to(operands, said) -> None:
    problem = physics_problem(measured(0.1, flops=1e10, operands=operands))

    assert problem is not None
    assert said in problem.message


@pytest.mark.parametrize(("time_us", "expected"), [(26.0, "FASTER_THAN_PHYSICS"), (27.0, None)])
def test_cold_bytes_can_not_come_faster_than_the_memory_gives_them(time_us, expected) -> None:
    """
    100 MB, less one L2 over 300 calls, at 3000 GB/s and a quarter take 26.6 µs.
    """
    found = physics_problem(measured(time_us, moved_bytes=1e8, cold_bytes=1e8))

    assert expected == code(found)


def test_warm_bytes_are_not_held_to_the_memory() -> None:
    assert physics_problem(measured(1.0, moved_bytes=1e8)) is None


def test_a_short_burst_may_find_all_its_inputs_in_the_cache() -> None:
    plan = replace(PLAN, burst=1, calls_per_sample=1)

    found = physics_problem(measured(1.0, moved_bytes=5e7, cold_bytes=5e7, plan=plan))

    assert found is None


def test_inputs_that_fit_the_cache_are_cold_once_per_burst() -> None:
    """
    Four sets of 1 MB and 300 calls: each call fetches 4/300 of them, 3.6 ns at 3750 GB/s.
    """
    held = {"moved_bytes": 1e6, "cold_bytes": 1e6}

    assert physics_problem(measured(0.01, **held)) is None
    assert "FASTER_THAN_PHYSICS" == code(physics_problem(measured(0.003, **held)))


def test_where_only_ceilings_are_known_half_more_than_those_is_impossible() -> None:
    known = {"flops": 1e10, "peaks": Peaks(), "ceilings": CEILINGS}

    assert physics_problem(measured(13.5, **known)) is None
    assert "FASTER_THAN_PHYSICS" == code(physics_problem(measured(13.0, **known)))


def test_the_message_names_time_count_and_floor() -> None:
    problem = physics_problem(measured(5.0, flops=1e10))

    assert problem is not None
    assert "took 5 µs" in problem.message
    assert "flops= counts 1e+10 operations" in problem.message
    assert "at least 9.804 µs" in problem.message


@pytest.mark.parametrize("measurement", [a_measurement(a_process(1e-3)), measured(1e-3)])
def test_what_counts_nothing_is_held_to_nothing(measurement) -> None:
    assert physics_problem(measurement) is None


def test_a_measurement_without_samples_is_held_to_nothing() -> None:
    empty = replace(a_process(5.0), rounds=())

    assert physics_problem(a_measurement(empty, work=MEASURED)) is None


def test_verdicts_of_the_median_have_their_share_and_those_of_tails_none() -> None:
    case = replace(CASE, timer="launch", inputs=HALF)
    measurement = a_measurement(a_process(40.0, samples=400), case=case, work=MEASURED)

    assert judged(measurement, None).roofline is not None
    assert judged(measurement, None, percentile=95.0).roofline is None


def test_the_case_keeps_its_identity() -> None:
    """
    Counting work must not orphan a stored baseline.
    """
    plain, counted = a_measurement(a_process(40.0)), measured(40.0, flops=1e6)

    assert plain.case.key == counted.case.key
    assert environment().card == counted.processes[0].environment.card
