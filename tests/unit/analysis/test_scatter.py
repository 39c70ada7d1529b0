"""
What a baseline's scatter is made of: sessions, cards, and how they are told from processes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from measured import a_process, a_reference

from pytest_kernelperf.analysis import noise_from
from pytest_kernelperf.analysis.noise import Noise, fixed_card_prior
from pytest_kernelperf.analysis.scatter import (
    UNKNOWN,
    VARIANCE_FLOOR,
    Prior,
    ProcessLogs,
    by_card,
    by_session,
    card_df,
    card_excess,
    columns,
    mixed,
    process_df,
    process_variance,
    session_df,
    session_excess,
    sessions,
)
from pytest_kernelperf.model import Process


def started(*times: str, card: str = "GPU-1") -> list[Process]:
    return [replace(a_process(20.0, card=card), started=time) for time in times]


def logs(means: dict[tuple[str, int], list[float]]) -> list[ProcessLogs]:
    """
    Return processes by card and session, whose rounds all equal their mean.
    """
    return [
        ProcessLogs(card, np.full(2, mean), session)
        for (card, session), group in means.items()
        for mean in group
    ]


def test_a_session_ends_where_nothing_starts_for_an_hour() -> None:
    processes = started(
        "2026-09-01T10:00:00Z",
        "2026-09-01T10:50:00Z",
        "2026-09-01T11:45:00+00:00",
        "2026-09-01T12:45:01Z",
        "2026-09-02T10:00:00Z",
    )

    assert [0, 0, 0, 1, 2] == sessions(processes)
    assert [2, 1, 0, 0, 0] == sessions(processes[::-1])


def test_cards_have_sessions_of_their_own() -> None:
    mine = started("2026-09-01T10:00:00Z", "2026-09-01T14:00:00Z")
    other = started("2026-09-01T12:00:00Z", card="GPU-2")

    assert [0, 1, 0] == sessions([*mine, *other])


def test_starts_that_cannot_be_read_are_one_session() -> None:
    assert [0, 0] == sessions(started("", "yesterday"))
    assert [0, 1] == sessions(started("", "2026-09-01T12:00:00"))


def test_columns_carry_the_session() -> None:
    processes = started("2026-09-01T10:00:00Z", "2026-09-03T10:00:00Z")

    (column,) = columns(processes, [50.0])

    assert [0, 1] == [each.session for each in column]


def test_what_a_session_adds_is_not_taken_for_the_processes_noise() -> None:
    """Two sessions 1 % apart, each repeating to 0.1 %."""
    column = logs({("A", 0): [-0.001, 0.001], ("A", 1): [0.009, 0.011]})

    process = process_variance(column)
    session = session_excess(column, process)

    assert (2e-6, 2) == (pytest.approx(process), process_df(column))
    assert (0.01**2 / 2 - 2e-6 / 2, 1) == (pytest.approx(session.variance), session.df)


def test_sessions_that_agree_better_than_their_processes_add_nothing() -> None:
    column = logs({("A", 0): [-0.001, 0.001], ("A", 1): [-0.001, 0.001]})

    assert Prior(0.0, 1) == session_excess(column, 2e-6)


def test_one_session_says_nothing_of_sessions() -> None:
    column = logs({("A", 0): [-0.001, 0.001], ("B", 0): [0.009, 0.011]})

    assert UNKNOWN == session_excess(column, 2e-6)


def test_what_a_card_adds_is_estimated_where_there_are_several() -> None:
    column = logs({("A", 0): [-0.001, 0.001], ("B", 0): [0.019, 0.021]})
    one = logs({("A", 0): [0.0]})

    card = card_excess(column, 2e-6, 1e-6)

    assert (0.02**2 / 2 - 2e-6 / 2 - 1e-6, 1) == (pytest.approx(card.variance), card.df)
    assert UNKNOWN == card_excess(one, 2e-6, 1e-6)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([("A", 0)], (0, 0)),
        ([("A", 0), ("A", 1), ("A", 2)], (2, 0)),
        ([("A", 0), ("B", 0)], (0, 1)),
        ([("A", 0), ("A", 1), ("B", 0), ("C", 0), ("C", 1)], (2, 2)),
    ],
)
def test_baselines_are_asked_for_what_they_know(
    groups: list[tuple[str, int]], expected: tuple[int, int]
) -> None:
    """Sessions on a card less one, cards less one: as many as their excesses then rest on."""
    column = logs({group: [0.0, 0.001] for group in groups})
    excesses = session_excess(column, 1e-6), card_excess(column, 1e-6, 1e-6)

    assert expected == (session_df(column), card_df(column))
    assert expected == tuple(excess.df for excess in excesses)


def test_shares_are_what_averaging_leaves() -> None:
    column = logs({("A", 0): [0.0, 0.0], ("A", 1): [0.0], ("B", 0): [0.0]})

    assert (2 / 4) ** 2 + 2 * (1 / 4) ** 2 == by_session(column)
    assert (3 / 4) ** 2 + (1 / 4) ** 2 == by_card(column)


def test_estimates_mix_by_their_degrees_of_freedom() -> None:
    assert Prior(7e-6, 8.0) == mixed(Prior(9e-6, 6.0), Prior(1e-6, 2.0))
    assert Prior(9e-6, 6.0) == mixed(Prior(9e-6, 6.0), UNKNOWN)
    assert UNKNOWN == mixed(UNKNOWN, UNKNOWN)


def test_no_process_repeats_better_than_the_floor() -> None:
    column = logs({("A", 0): [0.0] * 5})
    noise = Noise(priors=((("device", 50.0, 0), Prior(1e-12, 12.0)),))

    assert VARIANCE_FLOOR == noise.components("device", 50.0, column).process.variance


def test_a_suite_with_several_sessions_lends_its_session_term_to_the_others() -> None:
    """Three tests met two sessions 1 % apart; a fourth has one session only."""
    first = a_reference(20.0, processes=4)
    later = [
        replace(p, id=f"x{p.id}", started="2026-09-05T10:00:00Z")
        for p in a_reference(20.2, processes=4).processes
    ]
    both = replace(first, processes=(*first.processes, *later))
    noise = noise_from([("device", both)] * 3)
    (single,) = columns(first.processes, [50.0])

    session = noise.components("device", 50.0, single).session

    assert 1.0 == session.df
    assert session.variance == pytest.approx(0.01**2 / 2, rel=0.1)
    assert UNKNOWN == Noise().components("device", 50.0, single).session


def test_another_cards_term_is_the_documented_guess_until_cards_were_met() -> None:
    """1.2 % between two cards; then two cards that differ by 4 %, seen by three tests."""
    (one,) = columns(a_reference(20.0).processes, [50.0])
    pair = a_reference(20.0), a_reference(20.8, card="GPU-2")
    both = replace(pair[0], processes=(*pair[0].processes, *pair[1].processes))
    suite = noise_from([("device", both)] * 3)

    guess = Noise().components("device", 50.0, one, other_card=True).card
    learned = suite.components("device", 50.0, one, other_card=True).card

    assert Prior(0.012**2 / 2, 10.0) == guess == fixed_card_prior("device", 50.0)
    assert (10 * 0.012**2 / 2 + 0.0392**2 / 2) / 11 == pytest.approx(learned.variance, rel=0.01)
    assert UNKNOWN == suite.components("device", 50.0, one).card


def test_tails_and_wall_times_of_other_cards_are_guessed_wider() -> None:
    assert (1.5 * 0.012) ** 2 / 2 == pytest.approx(fixed_card_prior("launch", 99.0).variance)
    assert 0.05**2 / 2 == pytest.approx(fixed_card_prior("wall", 50.0).variance)
