"""
The gate on thirteen kernels of all kinds, unchanged and really slower: a calibration, replayed.

`kernelperf calibrate --sizes 1,2,5` recorded twelve fresh processes of its built-in set on card
GPU-8fd90c3f: each measured every kernel as it is and slowed by extra bytes, extra arithmetic or
extra launches. Every process is the candidate once, against five others, joined by the next ones
where it is undecided; neighbouring candidates share processes. On card GPU-01134af9 thirteen
processes measured the same kernels, unchanged, by the plans of the first.

    kernelperf calibrate --summarise tests/data/h100/calibrated_* --out FOLDER
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from statistics import fmean, stdev

import pytest
from reality import FOLDER, Measured, Turn, against, last_look, look_at

from pytest_kernelperf.analysis import LOOKS
from pytest_kernelperf.analysis.noise import noise_from
from pytest_kernelperf.analysis.rates import Rate
from pytest_kernelperf.analysis.scatter import columns
from pytest_kernelperf.calibration.folder import Folder
from pytest_kernelperf.calibration.summary import gather, proof_of, proof_of_all
from pytest_kernelperf.model import Entry, Measurement, Recorded, Verdict

LISTED, ANOTHER = json.loads((FOLDER / "cards.json").read_text(encoding="utf-8"))["calibrations"]
CALIBRATED = Folder(FOLDER / LISTED["folder"])
UNSLOWED = 0.0
SIZES = (0.01, 0.02, 0.05)

#: Its P50 lies between 215 and 225 µs from round to round, 0.9 % (sd) from process to process, and
#: where it is slower the clock is higher: no clock that fell.
WANDERING = "test_matmul[4096-0.00015]"
#: 512x16 by torch: the clock steps near 300 W, and every process's first rounds are 1 to 2 % slow.
STEPPING = "test_torch_attention"
#: At the power cap in 20 of 60 rounds, slowed by 1 and 2 % in 27, some of them at 1673 to 1835 MHz:
#: those scatter more than the baseline's.
UNRULY = "test_torch_matmul"
#: Bound by memory, and 134 and 443 µs long.
LONG_AND_MEMORY_BOUND = ("test_add[33554432]", "test_torch_copy")


@cache
def processes() -> tuple[dict[float, Measured], ...]:
    """
    Return what each process measured, by the size of the slowdown.
    """
    return tuple(_by_size([*plain.recorded, *slowed.recorded]) for plain, slowed in _runs())


def _runs():
    for plain, slowed in CALIBRATED.runs():
        assert slowed is not None
        yield plain, slowed


def _by_size(recorded: Iterable[Recorded]) -> dict[float, Measured]:
    found: dict[float, list[Recorded]] = {}
    for each in recorded:
        case = each.measurement.case
        size = float(case.name.strip("+%") or 0) / 100
        unnamed = replace(each.measurement, case=replace(case, name=""))
        found.setdefault(size, []).append(replace(each, measurement=unnamed))
    return {size: tuple(sorted(ones, key=_test)) for size, ones in found.items()}


def _test(recorded: Recorded) -> str:
    return recorded.measurement.case.test


@cache
def turns(size: float = UNSLOWED) -> tuple[Turn, ...]:
    """
    Return every kernel with every process first, slowed by a size, against five unslowed ones.
    """
    count = len(processes())
    found: list[Turn] = []
    for start in range(count):
        circle = [processes()[(start + step) % count] for step in range(count)]
        baseline = [each[UNSLOWED] for each in circle[:5]]
        found += against(baseline, [[each[size] for each in circle[5 : 5 + LOOKS[-1]]]])
    return tuple(found)


@cache
def told(turn: Turn, margin: float | None = None) -> Verdict:
    """
    Return the verdict at P50, by the default margin or one that the test asks for.
    """
    asked = {} if margin is None else {50.0: margin}
    return last_look(replace(turn, limits=replace(turn.limits, max_regression=asked)))[50.0]


def statuses(found: Iterable[Turn], margin: float | None = None) -> Counter[str]:
    return Counter(told(each, margin).status.value for each in found)


def kernel(turn: Turn) -> str:
    return turn.line[0].case.test


def of(found: Sequence[Turn], *kernels: str) -> list[Turn]:
    return [each for each in found if kernel(each) in kernels]


def other_than(found: Sequence[Turn], *kernels: str) -> list[Turn]:
    return [each for each in found if kernel(each) not in kernels]


def p50_log(measurement: Measurement) -> float:
    ((column,),) = columns(measurement.processes, (50.0,))
    return column.mean


def real_sizes(size: float) -> dict[str, list[float]]:
    """
    Return, per kernel, how much longer it took in each process than unslowed in that process.
    """
    found: dict[str, list[float]] = {}
    for each in processes():
        for plain, slowed in zip(each[UNSLOWED], each[size], strict=True):
            longer = p50_log(slowed.measurement) - p50_log(plain.measurement)
            found.setdefault(_test(plain), []).append(math.expm1(longer))
    return found


# The records


def test_twelve_processes_measured_thirteen_kernels_four_times_on_the_listed_card() -> None:
    singles = [one.measurement for each in processes() for ones in each.values() for one in ones]

    assert [{UNSLOWED, *SIZES}] * 12 == [set(each) for each in processes()]
    assert [13] * 48 == [len(ones) for each in processes() for ones in each.values()]
    assert {LISTED["uuid"]} == {p.environment.card for each in singles for p in each.processes}


@pytest.mark.parametrize("size", SIZES)
def test_slowdowns_are_about_as_large_as_their_names(size: float) -> None:
    """
    By pairs within a process: 0.76 to 1.42 %, 1.70 to 2.27 %, 3.71 to 5.63 %.

    Of "1 %" at the wandering matmul nothing is seen, -0.3 [-1.0, 0.3] %.
    """
    real = {name: fmean(sizes) for name, sizes in real_sizes(size).items()}
    if size == 0.01:
        assert abs(real.pop(WANDERING)) < 0.005

    assert all(0.7 * size <= each <= 1.45 * size for each in real.values())


# Unchanged kernels


def test_unchanged_kernels_never_regress_and_are_rarely_undecided() -> None:
    """
    156 candidates: 155 UNCHANGED, 1 INCONCLUSIVE (0.6 %; 5 % are allowed), the wandering matmul.

    0 of 156 is at most 1.9 %, as far as candidates that share processes are independent.
    """
    assert {"UNCHANGED": 155, "INCONCLUSIVE": 1} == statuses(turns())
    assert {"UNCHANGED": 11, "INCONCLUSIVE": 1} == statuses(of(turns(), WANDERING))


@pytest.mark.parametrize(("look", "undecided"), [(1, 12), (3, 6), (5, 2)])
def test_at_no_look_is_an_unchanged_kernel_regressed(look: int, undecided: int) -> None:
    """
    With all candidates taken to that look, decided earlier or not.
    """
    seen = Counter(each.status.value for turn in turns() for each in look_at(turn, look))

    assert {"UNCHANGED": 156 - undecided, "INCONCLUSIVE": undecided} == seen


@pytest.mark.parametrize("look", LOOKS)
def test_the_shown_interval_holds_no_change_as_often_as_it_says(look: int) -> None:
    """
    After 1, 3, 5 processes in 151, 151, 145 of 156 (97, 97, 93 %); 92 to 98 % are asked.
    """
    shown = [each.change_interval for turn in turns() for each in look_at(turn, look)]

    assert 0.92 <= sum(each.low <= 0 <= each.high for each in shown) / len(shown) <= 0.98


# Real slowdowns


def test_two_per_cent_from_ten_microseconds_is_found_where_processes_repeat() -> None:
    """
    NOT AS ASKED: 95 % are asked of all nine kernels from 10 µs; 85 of 108 are found.

    72 of 72 at the six others, real sizes 1.8 to 2.0 %. The verdict says beforehand that 2 % is
    less than it can find at the wandering matmul (3.9 to 7.1 %) and mostly at the stepping
    attention (1.9 to 2.6 %).
    """
    slowed = [each for each in turns(0.02) if each.time_us >= 10]
    odd = (WANDERING, STEPPING, UNRULY)

    assert {"REGRESSED": 72} == statuses(other_than(slowed, *odd))
    assert {WANDERING: 0, STEPPING: 4, UNRULY: 9} == {
        name: statuses(of(slowed, name))["REGRESSED"] for name in odd
    }
    assert 0.038 <= min(told(each).detectable for each in of(slowed, WANDERING))
    assert 9 <= sum(told(each).detectable > 0.02 for each in of(slowed, STEPPING))


def test_no_kernel_that_is_two_per_cent_slower_is_passed() -> None:
    """
    133 of 156 REGRESSED, 23 INCONCLUSIVE.
    """
    assert {"REGRESSED": 133, "INCONCLUSIVE": 23} == statuses(turns(0.02))


def test_what_two_per_cent_misses_is_the_scatter_of_processes() -> None:
    """
    0.94 and 0.36 % (sd of a process's P50) at the two that miss it most, at most 0.24 % elsewhere.
    """
    logs: dict[str, list[float]] = {}
    for each in processes():
        for one in each[UNSLOWED]:
            logs.setdefault(_test(one), []).append(p50_log(one.measurement))
    spread = {name: stdev(values) for name, values in logs.items()}

    assert [WANDERING, STEPPING] == sorted(spread, key=spread.__getitem__)[:-3:-1]
    assert 0.003 < spread[STEPPING] < spread[WANDERING]
    assert 0.0025 > max(spread[name] for name in spread if name not in (WANDERING, STEPPING))


def test_five_per_cent_of_kernels_of_two_to_five_microseconds_is_found() -> None:
    """
    24 of 24 (at least 88 %): 2.4 µs, in truth 4.0 % slower, and 3.2 µs, 5.6 %.
    """
    short = [each for each in turns(0.05) if 2 <= each.time_us <= 5]

    assert {"REGRESSED": 24} == statuses(short)
    assert Rate(24, 24).at_least > 0.88


def test_five_per_cent_is_found_everywhere_but_at_the_wandering_matmul() -> None:
    """
    144 of 144; there 6 of 12, in truth 3.7 [3.3, 4.1] % slower, less than it says it finds.
    """
    assert {"REGRESSED": 144} == statuses(other_than(turns(0.05), WANDERING))
    assert {"REGRESSED": 6, "INCONCLUSIVE": 6} == statuses(of(turns(0.05), WANDERING))


def test_one_per_cent_of_memory_bound_kernels_is_the_margin_of_one_session() -> None:
    """
    NOT AS ASKED: 4 of 24, since a one-session baseline has a margin of 1 %, whatever the noise.

    It is not their noise: with max_regression=0.005, 24 of 24 are REGRESSED, and unchanged 24 of
    24 UNCHANGED. Whether other days move such kernels by less than 0.5 %, no record tells yet.
    """
    slowed, unchanged = (of(turns(size), *LONG_AND_MEMORY_BOUND) for size in (0.01, UNSLOWED))

    assert {"REGRESSED": 4, "INCONCLUSIVE": 19, "UNCHANGED": 1} == statuses(slowed)
    assert {"REGRESSED": 24} == statuses(slowed, 0.005)
    assert {"UNCHANGED": 24} == statuses(unchanged, 0.005)


# Other days


def days_apart(turn: Turn) -> Turn:
    """
    Return the turn with each process of its baseline measured on a day of its own.
    """
    reference = turn.entry.reference
    moved = tuple(
        replace(each, started=f"2026-11-0{day}T12:00:00+00:00")
        for day, each in enumerate(reference.processes, start=1)
    )
    return replace(turn, entry=Entry(replace(reference, processes=moved)))


def test_a_suites_baselines_of_many_days_cost_power() -> None:
    """
    NOT AS WISHED: with each baseline process on a day of its own +2 % is found in 103 of 156.

    Instead of in 133, and in none of the 24 of the long memory-bound kernels. It is arithmetic.
    What days add is averaged over a time scale's kernels: the wandering matmul's scatter counts for
    all that take 100 µs and more, whatever their own.
    """
    apart = with_noise_of_their_own([days_apart(each) for each in turns(0.02)])

    assert {"REGRESSED": 103, "INCONCLUSIVE": 52, "UNCHANGED": 1} == statuses(apart)
    assert {"INCONCLUSIVE": 24} == statuses(of(apart, *LONG_AND_MEMORY_BOUND))


def with_noise_of_their_own(found: Sequence[Turn]) -> list[Turn]:
    """
    Return turns, thirteen of each start in a row, judged by what their baselines say now.
    """
    judged = []
    for start in range(0, len(found), 13):
        suite = found[start : start + 13]
        noise = noise_from((each.timer, each.entry.reference) for each in suite)
        judged += [replace(each, noise=noise) for each in suite]
    return judged


# The command


def test_calibrate_says_the_same_of_these_records() -> None:
    proof = proof_of(gather(CALIBRATED))

    assert {"UNCHANGED": 155, "INCONCLUSIVE": 1} == proof.statuses
    assert Rate(151, 156) == proof.covered
    assert {0.01: Rate(16, 156), 0.02: Rate(133, 156), 0.05: Rate(150, 156)} == proof.power
    # At the eleven kernels of which the table says that they find 2 %.
    assert Rate(129, 132) == proof.power_where_detectable(0.02)


# Another card


def test_unchanged_kernels_never_regress_on_another_card_either() -> None:
    """
    169 candidates: 164 UNCHANGED, 5 INCONCLUSIVE (3.0 %), four of them the wandering matmul.
    """
    proof = proof_of(gather(Folder(FOLDER / ANOTHER["folder"])))

    assert {"UNCHANGED": 164, "INCONCLUSIVE": 5} == proof.statuses
    assert Rate(163, 169) == proof.covered


def test_no_card_regresses_against_the_baseline_of_the_other() -> None:
    """
    0 of 325, by twelve and thirteen processes: at most 0.9 %, as far as those are independent.
    """
    both = [gather(Folder(FOLDER / each["folder"])) for each in (LISTED, ANOTHER)]

    assert {LISTED["uuid"], ANOTHER["uuid"]} == {each.machine.card for each in both}
    assert {"UNCHANGED": 325} == proof_of_all(both).across_cards
