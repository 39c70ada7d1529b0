"""
The gate on real analysis: verdicts against stored baselines, and updates of them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_kernelperf.analysis import percentile_us
from pytest_kernelperf.errors import BaselineFormatError, BaselineWriteError
from pytest_kernelperf.gate import Gate
from pytest_kernelperf.model import Limits, Status, UpdateMode
from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.runs import RunWriter, read_run

SLUG = "nvidia-h100-80gb-hbm3"
FILE = "tests/perf/test_attention.py"
ALL, ACCEPT = UpdateMode(), UpdateMode(accept_regressions=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "baselines"


def judged(root: Path, recorded):
    gate = Gate(root)
    return replace(recorded, verdicts=gate.judge(recorded.measurement, recorded.limits))


def update(root: Path, *recorded, mode: UpdateMode = ALL):
    return Gate(root).update([judged(root, record) for record in recorded], mode)


def statuses(recorded) -> list[Status]:
    return [verdict.status for verdict in recorded.verdicts if verdict.judged]


def test_the_first_measurement_has_no_baseline_and_is_added(root: Path, make) -> None:
    recorded = make.recorded(name="a")
    report = update(root, recorded)
    change = report.changes[0]

    assert [Status.NO_BASELINE] == statuses(judged(root / "none", recorded))
    assert (str(root / SLUG / "tests/perf/test_attention.json"),) == report.written
    assert ("added", {}) == (change.action, change.before_us)
    assert change.after_us[50.0] == pytest.approx(3.2, rel=0.01)


def test_five_updates_complete_a_baseline(root: Path, make) -> None:
    """`--kernelperf-update` run five times, each time in a new process."""
    actions = [update(root, make.recorded(name=n)).changes[0].action for n in "abcdef"]
    entry = Baselines(root).load(SLUG, FILE)[make.case().key]

    assert ["added", *["extended"] * 4, "kept"] == actions
    assert list("abcde") == [p.id for p in entry.reference.processes]
    assert ["f"] == [p.id for p in entry.latest.processes]


def complete(root: Path, make, level_us: float = 3.2) -> None:
    runs = [make.recorded(name=n, level_us=level_us) for n in "abcde"]
    Gate(root).update(runs, ALL)


def test_several_runs_of_a_new_case_become_one_reference(root: Path, make) -> None:
    complete(root, make)
    entry = Baselines(root).load(SLUG, FILE)[make.case().key]

    assert list("abcde") == [p.id for p in entry.reference.processes]


def test_a_slower_kernel_is_regressed_and_stays_out_until_accepted(root: Path, make) -> None:
    complete(root, make)
    slower = make.recorded(name="slow", level_us=3.2 * 1.10, processes=3)
    path = Baselines(root).path(SLUG, FILE)
    before = path.read_bytes()
    refused = update(root, slower)

    assert [Status.REGRESSED] == statuses(judged(root, slower))
    assert "refused" == refused.changes[0].action
    assert {50.0: judged(root, slower).verdicts[0].time_us} == refused.changes[0].after_us
    assert () == refused.written
    assert before == path.read_bytes()

    accepted = update(root, slower, mode=ACCEPT).changes[0]

    assert "moved" == accepted.action
    assert 1.10 == pytest.approx(accepted.after_us[50.0] / accepted.before_us[50.0], rel=0.01)
    assert [Status.REGRESSED] != statuses(judged(root, slower))


def test_a_sustained_measurement_is_not_compared_with_a_paced_baseline(root: Path, make) -> None:
    complete(root, make)
    paced = make.recorded(name="s", level_us=3.2 * 1.3)
    case = replace(paced.measurement.case, pace="sustained")
    sustained = replace(paced, measurement=replace(paced.measurement, case=case))

    assert [Status.NO_BASELINE] == statuses(judged(root, sustained))
    assert "added" == update(root, sustained).changes[0].action
    assert {make.case().key, case.key} == set(Baselines(root).load(SLUG, FILE))


def test_sustained_baselines_have_a_noise_of_their_own(root: Path, make) -> None:
    """
    Back to back, times lie several percent apart from process to process.
    """
    runs = [
        make.recorded(name=n, level_us=x) for n, x in zip("abcde", (3.2, 3.25) * 3, strict=False)
    ]
    case = replace(runs[0].measurement.case, pace="sustained")
    sustained = [replace(r, measurement=replace(r.measurement, case=case)) for r in runs]
    Gate(root).update([*runs, *sustained], ALL)
    found = Baselines(root).load(SLUG, FILE)

    paced, busy = (found[each.key].reference.margins[50.0] for each in (make.case(), case))
    assert paced < 0.05 <= busy


def test_a_faster_kernel_moves_the_reference(root: Path, make) -> None:
    complete(root, make)
    faster = make.recorded(name="fast", level_us=3.2 * 0.9, processes=3)

    assert [Status.IMPROVED] == statuses(judged(root, faster))
    assert "moved" == update(root, faster).changes[0].action


@pytest.mark.parametrize("processes", [1, 3])
def test_a_faster_and_a_slower_run_are_not_unchanged(root: Path, make, processes: int) -> None:
    """Their mean is the reference's time; joining them would hide both."""
    complete(root, make)
    before = Baselines(root).path(SLUG, FILE).read_bytes()
    slow, fast = (
        make.recorded(name=n, level_us=3.2 * x, processes=processes)
        for n, x in (("s", 1.1), ("f", 0.9))
    )
    change = Gate(root).update([slow, fast], ACCEPT).changes[0]

    assert ("refused", {}) == (change.action, change.after_us)
    assert "1 IMPROVED, 1 REGRESSED" in change.sentence
    assert before == Baselines(root).path(SLUG, FILE).read_bytes()


def test_several_runs_that_agree_move_the_reference_together(root: Path, make) -> None:
    complete(root, make)
    runs = [make.recorded(name=n, level_us=2.9) for n in "vwxyz"]
    change = update(root, *runs).changes[0]
    entry = Baselines(root).load(SLUG, FILE)[make.case().key]

    assert "moved" == change.action
    assert list("vwxyz") == [p.id for p in entry.reference.processes]


def test_an_unchanged_run_does_not_hide_one_that_looks_slower(root: Path, make) -> None:
    """One process each: the slower one is undecided, but it is no run to leave out."""
    complete(root, make)
    runs = make.recorded(name="x"), make.recorded(name="s", level_us=3.2 * 1.1)

    assert "contradict each other" in Gate(root).update(runs, ALL).changes[0].sentence


def test_several_runs_are_judged_as_one(root: Path, make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five processes may show an improvement that each alone can't."""
    complete(root, make)

    def judge(measurement, *_arguments, **_keywords):
        status = Status.IMPROVED if len(measurement.processes) == 5 else Status.UNCHANGED
        return make.recorded(status).verdicts

    monkeypatch.setattr("pytest_kernelperf.analysis.judge", judge)
    runs = [make.recorded(name=n) for n in "vwxyz"]

    assert "moved" == Gate(root).update(runs, ALL).changes[0].action


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_an_update_shows_the_times_that_are_stored(root: Path, make, timer: str) -> None:
    """To the last digit, for what was added and for what was only seen."""
    case = make.case(timer=timer)
    added = Gate(root).update([make.recorded(name=n, case=case) for n in "abcde"], ALL)
    kept = Gate(root).update([make.recorded(name="f", case=case)], ALL)
    entry = Baselines(root).load(SLUG, FILE)[case.key]

    assert ["added", "kept"] == [added.changes[0].action, kept.changes[0].action]
    for change, reference in ((added, entry.reference), (kept, entry.latest)):
        for q, time_us in change.changes[0].after_us.items():
            assert percentile_us(reference.processes, q) == time_us


def test_small_slowdowns_cannot_walk_past_the_margin(root: Path, make) -> None:
    """Each is within the margin of the last; the reference does not follow them."""
    complete(root, make)
    level_us, seen = 3.2, []
    for step in range(8):
        level_us *= 1.006
        recorded = make.recorded(name=f"s{step}", level_us=level_us, processes=3)
        seen += statuses(judged(root, recorded))
        update(root, recorded)

    assert Status.REGRESSED is seen[-1]


def test_margins_are_stored_with_the_reference(root: Path, make) -> None:
    complete(root, make)
    entry = Baselines(root).load(SLUG, FILE)[make.case().key]

    assert [50.0] == list(entry.reference.margins)
    assert 0.005 <= entry.reference.margins[50.0] <= 0.05


def test_the_stored_margins_are_those_that_decide(root: Path, make) -> None:
    """
    Stored by one update in two files: what the suite knows of noise afterwards counts.
    """
    cases = [make.case(f"test_{each}") for each in "abc"]
    cases += [replace(make.case(f"test_{each}"), file="tests/perf/test_b.py") for each in "de"]
    update(root, *(make.recorded(name=each.test, case=each, processes=5) for each in cases))
    update(root, *(make.recorded(name=f"x{each.test}", case=each) for each in cases))

    for case in cases:
        stored = Baselines(root).load(SLUG, case.file)[case.key].reference.margins
        told = judged(root, make.recorded(name="now", case=case)).verdicts

        assert {50.0: pytest.approx(told[0].margin, rel=1e-3)} == stored


def test_the_margin_of_what_an_update_leaves_alone_stays_as_stored(root: Path, make) -> None:
    complete(root, make)
    before = Baselines(root).load(SLUG, FILE)[make.case().key].reference
    others = [make.case(f"test_{each}") for each in "abcd"]
    update(root, *(make.recorded(name=each.test, case=each, processes=5) for each in others))

    assert before == Baselines(root).load(SLUG, FILE)[make.case().key].reference


def test_the_plan_of_the_baseline_is_pinned(root: Path, make) -> None:
    complete(root, make)
    gate = Gate(root)

    assert make.plan() == gate.pinned_plan(make.case(), "NVIDIA H100 80GB HBM3")
    assert gate.pinned_plan(make.case("test_other"), "NVIDIA H100 80GB HBM3") is None
    assert gate.pinned_plan(make.case(), "NVIDIA A100") is None


def test_a_stored_run_gets_the_live_verdicts_bit_for_bit(root: Path, make, tmp_path: Path) -> None:
    complete(root, make)
    live = [judged(root, make.recorded(name=n, level_us=x)) for n, x in (("u", 3.2), ("v", 3.3))]
    writer = RunWriter(tmp_path / "run.json.gz")
    for record in live:
        writer.append(record)
    writer.close()
    run = read_run(tmp_path / "run.json.gz")

    assert [r.verdicts for r in live] == [judged(root, r).verdicts for r in run.recorded]


def test_the_gate_judges_with_what_the_update_saw(root: Path, make) -> None:
    """Change lines and later verdicts must agree on the reference's time, to the last digit."""
    change = update(root, make.recorded(name="a")).changes[0]
    verdict = judged(root, make.recorded(name="b")).verdicts[0]

    assert change.after_us[50.0] == verdict.baseline_us


def test_what_the_run_did_not_select_is_untouched(root: Path, make) -> None:
    key = "test_gone | wall warm paced"
    Baselines(root).write(SLUG, FILE, {key: make.entry()})
    update(root, make.recorded())

    assert {key, make.case().key} == set(Baselines(root).load(SLUG, FILE))


def test_an_entry_stored_by_another_process_meanwhile_is_extended_not_replaced(
    root: Path, make
) -> None:
    """Both runs saw no baseline; the second to write must not lose what the first stored."""
    mine, theirs = Gate(root), Gate(root)
    one, two = make.recorded(name="one"), make.recorded(name="two")
    one = replace(one, verdicts=mine.judge(one.measurement, one.limits))
    two = replace(two, verdicts=theirs.judge(two.measurement, two.limits))
    theirs.update([two], ALL)
    change = mine.update([one], ALL).changes[0]
    entry = Baselines(root).load(SLUG, FILE)[make.case().key]

    assert "extended" == change.action
    assert ["two", "one"] == [p.id for p in entry.reference.processes]


def test_cases_of_several_files_and_timers_are_stored_apart(root: Path, make) -> None:
    other = make.case(file="tests/perf/test_other.py")
    launch = make.case(timer="launch")
    report = Gate(root).update(
        [make.recorded(), make.recorded(case=other), make.recorded(case=launch)], ALL
    )

    assert 2 == len(report.written)
    assert 2 == len(Baselines(root).load(SLUG, FILE))
    assert ["added"] * 3 == [change.action for change in report.changes]


def test_other_cards_and_similar_cases_are_named_where_there_is_no_baseline(
    root: Path, make
) -> None:
    Baselines(root).write("nvidia-h200", FILE, {make.case().key: make.entry()})
    verdict = judged(root, make.recorded()).verdicts[0]

    assert Status.NO_BASELINE is verdict.status
    assert "nvidia-h200" in verdict.sentence


def test_a_bad_file_is_found_by_the_check(root: Path) -> None:
    (root / SLUG).mkdir(parents=True)
    (root / SLUG / "test_x.json").write_text("[]")

    with pytest.raises(BaselineFormatError, match=r"test_x\.json"):
        Gate(root).check_all()


def test_a_file_that_cannot_be_written_does_not_keep_others_from_it(root: Path, make) -> None:
    other = make.case(file="tests/perf/test_other.py")
    update(root, make.recorded(name="a"), make.recorded(name="a", case=other))
    bad = Baselines(root).path(SLUG, FILE)
    bad.chmod(0o444)
    gate = Gate(root)

    with pytest.raises(BaselineWriteError, match=r"test_attention\.json.*read-only"):
        gate.update([make.recorded(name="b"), make.recorded(name="b", case=other)], ALL)
    stored = json.loads(Baselines(root).path(SLUG, other.file).read_text())
    assert 2 == len(stored["entries"][other.key]["reference"]["processes"])
    with pytest.raises(BaselineWriteError, match="read-only"):
        gate.check_writable(FILE, "NVIDIA H100 80GB HBM3")


def test_nothing_measured_is_refused_not_stored(root: Path, make) -> None:
    recorded = make.recorded(Status.INVALID, measurement=make.measurement(()))
    report = Gate(root).update([recorded], ALL)

    assert ["refused"] == [change.action for change in report.changes]
    assert () == report.written
    assert not root.exists()


def test_tails_of_launches_are_judged_and_stored(root: Path, make) -> None:
    case = make.case(timer="launch")
    runs = [make.recorded(name=n, case=case, level_us=6.0) for n in "abcde"]
    change = Gate(root).update(runs, ALL).changes[0]

    assert [50.0, 95.0, 99.0] == list(change.after_us)
    unchanged = judged(root, make.recorded(name="f", case=case, level_us=6.0))
    assert Status.REGRESSED not in statuses(unchanged)


def test_a_target_that_is_missed_keeps_a_new_case_out(root: Path, make) -> None:
    recorded = replace(make.recorded(), limits=Limits((50.0,), {50.0: 1.0}))

    assert "refused" == update(root, recorded).changes[0].action


def test_a_lost_baseline_is_begun_anew_only_where_that_is_asked_for(root: Path, make) -> None:
    update(root, *(make.recorded(name=name) for name in "abcde"))
    slower = judged(root, make.recorded(name="f", level_us=4.0, processes=3))
    elsewhere = Gate(root.parent / "elsewhere")

    refused = elsewhere.update([slower], ALL)
    added = elsewhere.update([slower], UpdateMode(begin_anew=True))

    assert Status.REGRESSED in statuses(slower)
    assert ("refused", ()) == (refused.changes[0].action, refused.written)
    assert "put it back" in refused.changes[0].sentence
    assert "added" == added.changes[0].action
