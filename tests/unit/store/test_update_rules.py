"""
The rules of an update, as a table.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_kernelperf.model import Problem, Status, UpdateMode
from pytest_kernelperf.store.update import decide_update, join_runs

S = Status
ALL, NEW, ACCEPT = UpdateMode(), UpdateMode(new_only=True), UpdateMode(accept_regressions=True)


@pytest.mark.parametrize(
    ("statuses", "names", "mode", "action"),
    [
        # Nothing stored yet.
        ([S.NO_BASELINE], "", ALL, "added"),
        ([S.NO_BASELINE], "", NEW, "added"),
        ([S.NO_BASELINE], "", ACCEPT, "added"),
        ([S.NO_BASELINE, S.MISSED_TARGET], "", ALL, "refused"),
        ([S.MISSED_TARGET], "", ALL, "refused"),
        ([S.INCONCLUSIVE], "", ALL, "refused"),
        ([S.INVALID], "", ALL, "refused"),
        # A complete reference.
        ([S.UNCHANGED], "abcde", ALL, "kept"),
        ([S.IMPROVED], "abcde", ALL, "moved"),
        ([S.REGRESSED], "abcde", ALL, "refused"),
        ([S.REGRESSED], "abcde", ACCEPT, "moved"),
        ([S.INCONCLUSIVE], "abcde", ACCEPT, "refused"),
        ([S.INCOMPARABLE], "abcde", ACCEPT, "refused"),
        ([S.INVALID], "abcde", ACCEPT, "refused"),
        ([S.MISSED_TARGET], "abcde", ACCEPT, "refused"),
        ([S.NOT_MEASURED], "abcde", ACCEPT, "refused"),
        # Only what is new.
        ([S.IMPROVED], "abcde", NEW, "kept"),
        ([S.UNCHANGED], "ab", NEW, "kept"),
        ([S.REGRESSED], "abcde", NEW, "kept"),
        ([S.INCONCLUSIVE], "abcde", NEW, "kept"),
        # A provisional reference grows until it has five processes.
        ([S.UNCHANGED], "a", ALL, "extended"),
        ([S.UNCHANGED], "abcd", ALL, "extended"),
        ([S.INCONCLUSIVE], "a", ALL, "refused"),
        ([S.IMPROVED], "a", ALL, "moved"),
        # Several percentiles: it moves only if none forbids it.
        ([S.IMPROVED, S.UNCHANGED], "abcde", ALL, "moved"),
        ([S.IMPROVED, S.INCONCLUSIVE], "abcde", ALL, "refused"),
        ([S.IMPROVED, S.REGRESSED], "abcde", ALL, "refused"),
        ([S.IMPROVED, S.REGRESSED], "abcde", ACCEPT, "moved"),
        ([S.IMPROVED, S.MISSED_TARGET], "abcde", ALL, "refused"),
        ([S.UNCHANGED, S.UNCHANGED, S.INCONCLUSIVE], "a", ALL, "refused"),
    ],
)
def test_the_table(make, statuses, names: str, mode: UpdateMode, action: str) -> None:
    entry = make.entry(names) if names else None
    recorded = make.recorded(*statuses, name="new")
    decision = decide_update(recorded, entry, mode)

    assert action == decision.action
    assert decision.sentence
    if action == "refused":
        assert decision.entry is None
    if action in ("added", "moved"):
        assert ["new"] == [p.id for p in decision.entry.reference.processes]
        assert decision.entry.reference == decision.entry.latest
    if action == "extended":
        assert [*names, "new"] == [p.id for p in decision.entry.reference.processes]


def test_accepting_a_regression_does_not_accept_a_missed_target(make) -> None:
    """REGRESSED is told before MISSED_TARGET, so the status alone does not show it."""
    recorded = make.recorded(S.REGRESSED, name="new")
    missing = replace(recorded, verdicts=(replace(recorded.verdicts[0], target_met=False),))
    decision = decide_update(missing, make.entry("abcde"), ACCEPT)

    assert "refused" == decision.action
    assert decision.sentence.startswith("P50 is slower and misses its target")


@pytest.mark.parametrize(
    ("reason", "why"), [("PROVISIONAL", "the odd ones"), ("STRADDLES_MARGIN", "scatter too much")]
)
def test_an_uncertain_update_names_the_way_out_of_a_bad_baseline(make, reason, why) -> None:
    """If what is stored is at fault, measuring again never helps."""
    recorded = make.recorded(S.INCONCLUSIVE, name="new")
    verdict = replace(recorded.verdicts[0], reason=reason)
    decision = decide_update(replace(recorded, verdicts=(verdict,)), make.entry("a"), ALL)

    assert "refused" == decision.action
    assert f"{why}: remove them with kernelperf prune --tests" in decision.sentence


def test_unchanged_keeps_the_reference_and_refreshes_the_latest(make) -> None:
    """So that small slowdowns can't walk past the margin one by one."""
    entry = make.entry("abcde")
    decision = decide_update(make.recorded(S.UNCHANGED, name="new"), entry, ALL)

    assert entry.reference == decision.entry.reference
    assert ["new"] == [p.id for p in decision.entry.latest.processes]


def test_only_new_leaves_even_the_latest_alone(make) -> None:
    decision = decide_update(make.recorded(S.UNCHANGED, name="new"), make.entry(), NEW)

    assert decision.entry is None


def test_a_failed_test_gives_nothing(make) -> None:
    for entry in (None, make.entry()):
        recorded = make.recorded(S.IMPROVED, body_passed=False)
        decision = decide_update(recorded, entry, ACCEPT)

        assert ("refused", None) == (decision.action, decision.entry)
        assert "the test itself failed" in decision.sentence


def test_an_invalid_measurement_gives_nothing_whatever_its_verdicts_say(make) -> None:
    recorded = make.recorded(S.IMPROVED)
    problem = Problem("WRONG_OUTPUT", "outputs differ")
    recorded = replace(recorded, measurement=replace(recorded.measurement, problem=problem))
    decision = decide_update(recorded, None, ACCEPT)

    assert "refused" == decision.action
    assert "WRONG_OUTPUT" in decision.sentence


def test_percentiles_that_are_only_shown_decide_nothing(make) -> None:
    recorded = make.recorded(S.IMPROVED, S.INCONCLUSIVE)
    shown = replace(recorded.verdicts[1], judged=False)
    recorded = replace(recorded, verdicts=(recorded.verdicts[0], shown))

    assert "moved" == decide_update(recorded, make.entry(), ALL).action
    only_shown = replace(recorded, verdicts=(shown,))
    assert "refused" == decide_update(only_shown, make.entry(), ALL).action


def test_incomparable_names_the_way_out(make) -> None:
    decision = decide_update(make.recorded(S.INCOMPARABLE), make.entry(), ALL)

    assert "kernelperf prune --tests" in decision.sentence
    assert "update again" in decision.sentence


def test_regressed_names_the_flag(make) -> None:
    decision = decide_update(make.recorded(S.UNCHANGED, S.REGRESSED), make.entry(), ALL)

    assert "P95 is slower" in decision.sentence
    assert "--kernelperf-accept-regressions" in decision.sentence


def test_a_provisional_reference_says_how_to_complete_it(make) -> None:
    first = decide_update(make.recorded(S.NO_BASELINE), None, ALL)
    third = decide_update(make.recorded(S.UNCHANGED, name="new"), make.entry("ab"), ALL)

    assert "provisional with 1 process" in first.sentence
    assert "now 3 processes of 5" in third.sentence
    assert "provisional" not in third.sentence


def test_another_plan_does_not_extend(make) -> None:
    """Processes of two plans are two quantities; how many samples were taken is not the plan."""
    recorded = make.recorded(S.UNCHANGED, name="new")
    plan = recorded.measurement.plan
    for change, action in (
        ({"calls_per_sample": 7}, "kept"),
        ({"gap_us": 1.0}, "kept"),
        ({"samples": 10, "rounds": 3}, "extended"),
    ):
        measurement = replace(recorded.measurement, plan=replace(plan, **change))
        decision = decide_update(replace(recorded, measurement=measurement), make.entry("a"), ALL)
        assert action == decision.action


def test_a_run_applied_twice_changes_nothing(make) -> None:
    recorded = make.recorded(S.UNCHANGED, name="a")
    decision = decide_update(recorded, make.entry("ab"), ALL)

    assert ("kept", None) == (decision.action, decision.entry)


def test_an_extension_stops_at_five_processes(make) -> None:
    processes = tuple(make.process(name) for name in "xyz")
    recorded = make.recorded(S.UNCHANGED, measurement=make.measurement(processes))
    decision = decide_update(recorded, make.entry("abc"), ALL)

    assert list("abcxy") == [p.id for p in decision.entry.reference.processes]


def test_rounds_without_samples_are_not_stored(make) -> None:
    recorded = make.recorded(S.NO_BASELINE)
    process = recorded.measurement.processes[0]
    empty = replace(process.rounds[0], times_us=())
    one_left = replace(process, rounds=(empty, process.rounds[1]))
    none_left = replace(process, rounds=(empty, empty))

    kept = _with_process(recorded, one_left)
    assert (process.rounds[1],) == decide_update(kept, None, ALL).entry.reference.processes[
        0
    ].rounds
    assert (
        "no sample was kept"
        in decide_update(_with_process(recorded, none_left), None, ALL).sentence
    )


def _with_process(recorded, process):
    return replace(recorded, measurement=replace(recorded.measurement, processes=(process,)))


def test_runs_of_one_case_are_joined(make) -> None:
    runs = [make.recorded(S.NO_BASELINE, name=name) for name in "abcd"]
    joined = join_runs([*runs, runs[0]])

    assert list("abcd") == [p.id for p in joined.recorded.measurement.processes]
    assert ((), "") == (joined.left_out, joined.contradiction)


def by_one_process(make, *tails: str):
    """
    Return measurements of one process: their ids begin alike.
    """
    return [make.recorded(S.UNCHANGED, name=f"{'0' * 15}a{each * 16}") for each in tails]


def test_a_process_that_measured_a_case_several_times_is_joined_once(make) -> None:
    """Else one process would make a complete baseline: its measurements share what it adds."""
    joined = join_runs(by_one_process(make, *"12345"))

    assert 1 == len(joined.recorded.measurement.processes)
    assert ("4 measured by a process taken already",) == joined.left_out


def test_a_baseline_is_not_extended_by_a_process_that_it_has(make) -> None:
    first, again = by_one_process(make, "1", "2")
    entry = decide_update(first, None, ALL).entry

    for recorded, what in ((first, "measurement"), (again, "process")):
        decision = decide_update(recorded, entry, ALL)

        assert ("kept", None) == (decision.action, decision.entry)
        assert f"this {what} is in the baseline already" == decision.sentence
    assert "extended" == decide_update(make.recorded(S.UNCHANGED, name="b"), entry, ALL).action


def test_runs_that_cannot_be_used_are_left_out_and_said(make) -> None:
    good = make.recorded(S.UNCHANGED, name="a")
    failed = make.recorded(S.UNCHANGED, name="b", body_passed=False)
    noisy = make.recorded(S.INCONCLUSIVE, name="c")
    other = make.recorded(S.UNCHANGED, name="d")
    plan = replace(other.measurement.plan, calls_per_sample=3)
    other = replace(other, measurement=replace(other.measurement, plan=plan))
    joined = join_runs([failed, noisy, good, other])

    assert ["a"] == [p.id for p in joined.recorded.measurement.processes]
    assert (
        "1 failed or invalid",
        "1 INCONCLUSIVE",
        "1 measured with another plan, method or inputs",
    ) == joined.left_out
    assert failed == join_runs([failed]).recorded


def test_runs_that_are_all_uncertain_are_judged_together(make) -> None:
    joined = join_runs([make.recorded(S.INCONCLUSIVE, name=name) for name in "ab"])

    assert 2 == len(joined.recorded.measurement.processes)
    assert () == joined.left_out


@pytest.mark.parametrize(
    ("one", "other", "sentence"),
    [
        (S.IMPROVED, S.REGRESSED, "1 IMPROVED, 1 REGRESSED"),
        (S.UNCHANGED, S.REGRESSED, "1 REGRESSED, 1 unchanged"),
        (S.IMPROVED, S.UNCHANGED, "1 IMPROVED, 1 unchanged"),
        (S.REGRESSED, S.REGRESSED, ""),
        (S.UNCHANGED, S.UNCHANGED, ""),
    ],
)
def test_runs_that_contradict_each_other_are_not_averaged(make, one, other, sentence) -> None:
    joined = join_runs([make.recorded(one, name="a"), make.recorded(other, name="b")])

    assert sentence in joined.contradiction
    assert bool(sentence) is bool(joined.contradiction)


def test_a_sample_that_took_no_time_is_not_stored(make) -> None:
    """A clock with a coarse tick gives some; the text of a baseline holds times above 0."""
    recorded = make.recorded(S.NO_BASELINE)
    process = recorded.measurement.processes[0]
    still = replace(process.rounds[0], times_us=(0.0, *process.rounds[0].times_us))
    measured = _with_process(recorded, replace(process, rounds=(still, *process.rounds)))

    decision = decide_update(measured, None, ALL)

    assert "refused" == decision.action
    assert "no positive times" in decision.sentence
