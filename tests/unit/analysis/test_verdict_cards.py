"""
Verdicts across cards and plans: what is compared, what is not, and what it costs.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from measured import (
    BASE_US,
    CASE,
    PLAN,
    a_measurement,
    a_process,
    a_reference,
    environment,
    judged,
    on_card,
    same,
    slower,
)

from pytest_kernelperf.model import Process, Status


def test_a_large_slowdown_regresses_even_provisionally_and_on_another_card() -> None:
    other = a_measurement(
        *(replace(p, environment=environment("GPU-2")) for p in slower(0.15, 3).processes)
    )

    provisional = judged(slower(0.15, 3), a_reference(processes=1))
    elsewhere = judged(other, a_reference())

    assert (Status.REGRESSED, "PROVISIONAL") == (provisional.status, provisional.reason)
    assert (Status.REGRESSED, "OTHER_CARD") == (elsewhere.status, elsewhere.reason)


def test_a_card_is_compared_with_its_own_rounds_where_there_are_any() -> None:
    """Of a baseline on two cards 2 % apart, only this card's processes count."""
    mine, other = a_reference(20.0), a_reference(20.4, card="GPU-2")
    both = replace(mine, processes=(*other.processes, *mine.processes))

    verdict = judged(same(), both)

    assert "WITHIN_MARGIN" == verdict.reason
    assert 20.0 == pytest.approx(verdict.baseline_us)


def test_a_two_percent_difference_between_cards_is_no_regression() -> None:
    verdict = judged(a_measurement(a_process(BASE_US * 1.02, card="GPU-2")), a_reference())

    assert (Status.UNCHANGED, "OTHER_CARD") == (verdict.status, verdict.reason)


def test_one_unknown_card_among_the_candidates_is_judged_with_the_card_term() -> None:
    """
    Its own difference, 2 % here, is in the mean: without the term it would be a regression.
    """
    known = [a_process(BASE_US * 1.012, name=name) for name in ("a", "b")]
    unknown = [a_process(BASE_US * 1.03, card="GPU-2", name=name) for name in ("c", "d", "e")]

    verdict = judged(a_measurement(*known, *unknown), a_reference(sd=0.001))

    assert "OTHER_CARD" == verdict.reason
    assert Status.REGRESSED is not verdict.status
    alone = [replace(each, environment=known[0].environment) for each in unknown]
    assert Status.REGRESSED is judged(a_measurement(*known, *alone), a_reference(sd=0.001)).status


@pytest.mark.parametrize(
    ("before", "after"), [((9, 1), (1, 9)), ((1, 9), (9, 1)), ((1, 5), (5, 1))]
)
def test_the_same_cards_in_other_shares_are_judged_with_the_card_term(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    """
    Two cards 2.3 % apart and unchanged code: what differs is how often each was measured.
    """

    def on_both(counts: tuple[int, int]) -> tuple[Process, ...]:
        cards = (("GPU-1", 20.0, counts[0]), ("GPU-2", 20.46, counts[1]))
        return tuple(
            a_process(level * (1 + 0.0005 * index), name=f"{card} {index}", card=card)
            for card, level, count in cards
            for index in range(count)
        )

    stored = replace(a_reference(), processes=on_both(before))

    other_shares = judged(a_measurement(*on_both(after)), stored)
    same_shares = judged(a_measurement(*on_both(before)), stored)

    assert Status.UNCHANGED is other_shares.status
    assert "in other shares" in other_shares.sentence
    assert other_shares.margin > 2 * same_shares.margin
    assert "in other shares" not in same_shares.sentence


def test_memory_bound_kernels_regress_although_the_clock_fell_a_little() -> None:
    verdict = judged(slower(0.05, 3, clock_mhz=1960.0), a_reference())

    assert Status.REGRESSED is verdict.status


def test_another_state_of_a_card_that_is_unknown_on_one_side_is_no_difference() -> None:
    assert Status.UNCHANGED is judged(on_card(ecc=None), a_reference()).status
    assert Status.UNCHANGED is judged(on_card(power_limit_w=None), a_reference()).status


def test_numbers_of_rounds_and_samples_are_no_difference_of_plan() -> None:
    plan = replace(PLAN, rounds=9, samples=40)

    assert Status.UNCHANGED is judged(replace(same(), plan=plan), a_reference()).status


@pytest.mark.parametrize("part", ["calls_per_sample", "burst", "gap_us", "input_sets"])
def test_each_pinned_part_of_the_plan_is_a_difference(part: str) -> None:
    plan = replace(PLAN, **{part: 7})

    verdict = judged(replace(same(), plan=plan), a_reference())

    assert (Status.INCOMPARABLE, "PLAN_DIFFERS") == (verdict.status, verdict.reason)
    assert f"{part} was" in verdict.sentence


def test_a_different_number_of_inputs_is_named() -> None:
    measurement = replace(same(), case=replace(CASE, inputs=()))

    assert "number of tensor inputs was 1, is 0" in judged(measurement, a_reference()).sentence
