"""
Baseline files: what is written, and what comes back.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from baseline_file import FILE, SLUG, keys

from pytest_kernelperf.analysis import percentile_us
from pytest_kernelperf.model import Entry, Plan, Reference
from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.entries import normalised


def test_the_file_is_named_after_card_and_test_file(baselines: Baselines, stored: Path) -> None:
    assert stored == baselines.root / SLUG / "tests" / "perf" / "test_attention.json"


def test_what_is_read_is_the_normalised_entry(baselines: Baselines, stored: Path, make) -> None:
    expected = normalised(make.entry(), keys()[0])

    assert {keys()[0]: expected} == Baselines(baselines.root).load(SLUG, FILE)


def test_the_memory_clock_is_stored_once_per_process(
    baselines: Baselines, stored: Path, make
) -> None:
    """
    A process that ran at another one is judged by that.
    """
    reference = Baselines(baselines.root).load(SLUG, FILE)[keys()[0]].reference

    clocks = [{each.memory_clock_mhz for each in one.rounds} for one in reference.processes]
    assert [{2619.0}] * len(reference.processes) == clocks
    assert len(reference.processes) == stored.read_text(encoding="utf-8").count('"mem_mhz"')


@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_a_second_round_trip_changes_nothing(tmp_path: Path, make, timer: str) -> None:
    """What was stored and read may be stored again without drifting, digit by digit."""
    key = keys(timer)[0]
    first = Baselines(tmp_path / "first")
    path = first.write(SLUG, FILE, {key: make.entry(timer=timer)})
    once = first.load(SLUG, FILE)
    second = Baselines(tmp_path / "second")
    path_again = second.write(SLUG, FILE, once)

    assert once == second.load(SLUG, FILE)
    assert path.read_bytes() == path_again.read_bytes()


@pytest.mark.parametrize(("timer", "level_us"), [("device", 3.2), ("launch", 50.0), ("wall", 72.0)])
def test_percentiles_survive_storing(make, timer: str, level_us: float) -> None:
    reference = make.reference(timer=timer, level_us=level_us)
    back = normalised(Entry(reference), keys(timer)[0]).reference

    for q in (1.0, 50.0, 95.0, 99.0, 99.9):
        expected = percentile_us(reference.processes, q)
        assert expected == pytest.approx(percentile_us(back.processes, q), rel=5e-4)


def test_what_was_just_written_is_what_is_read_next(baselines: Baselines, make) -> None:
    first, second = keys()[:2]
    for key in (first, second):
        baselines.write(SLUG, FILE, {key: make.entry()})
        assert key in baselines.load(SLUG, FILE)


def test_the_text_is_for_review(stored: Path) -> None:
    """Version first, sorted keys, one line per round, a line end at the end."""
    text = stored.read_text()
    document = json.loads(text)
    rounds = re.findall(r'^ *\{"mhz": 1980, "p50": .*, "us": ".*", "w": \d+\},?$', text, re.M)

    assert text.startswith('{\n "schema_version": 1,\n "entries": {\n')
    assert text.endswith("}\n")
    assert "\r" not in text
    assert ["schema_version", "entries", "environments"] == list(document)
    assert 25 == len(rounds)
    assert max(len(line) for line in rounds) < 260


def test_rounds_of_launches_show_their_percentiles(baselines: Baselines, make) -> None:
    path = baselines.write(SLUG, FILE, {keys("launch")[0]: make.entry(timer="launch")})
    rounds = json.loads(path.read_text())["entries"][keys("launch")[0]]["reference"]["processes"]

    assert {"p50", "p95", "p99"} <= set(rounds[0]["rounds"][0])


def test_processes_of_one_environment_share_it(stored: Path) -> None:
    document = json.loads(stored.read_text())

    assert 1 == len(document["environments"])


def test_environments_that_nobody_needs_any_more_go(
    baselines: Baselines, stored: Path, make
) -> None:
    other = make.process("other", card="GPU-2")
    reference = replace(make.reference(), processes=(other,))
    baselines.write(SLUG, FILE, {keys()[0]: Entry(reference)})
    document = json.loads(stored.read_text())

    assert ["GPU-2"] == [e["gpu"]["uuid"] for e in document["environments"].values()]


def test_the_same_content_gives_the_same_bytes_in_any_order(tmp_path: Path, make) -> None:
    entries = {key: make.entry() for key in keys()}
    forward, backward = Baselines(tmp_path / "forward"), Baselines(tmp_path / "backward")
    forward.write(SLUG, FILE, entries)
    for key in reversed(keys()):
        backward.write(SLUG, FILE, {key: entries[key]})

    assert forward.path(SLUG, FILE).read_bytes() == backward.path(SLUG, FILE).read_bytes()


def test_an_untouched_entry_keeps_its_lines(baselines: Baselines, make) -> None:
    """A review must see only what changed."""
    first, second = keys()[:2]
    path = baselines.write(SLUG, FILE, {first: make.entry(), second: make.entry()})
    before = path.read_text()
    baselines.write(SLUG, FILE, {second: make.entry(level_us=4.0)})
    after = path.read_text()
    end = f' "{second}"'

    assert before[: before.index(end)] == after[: after.index(end)]
    assert before != after


def test_nine_tests_with_two_timers_and_five_processes_are_below_200_kb(
    baselines: Baselines, make
) -> None:
    """Levels and spreads are those of the nine attention shapes; `latest` is another process."""
    levels = (3.4, 4.7, 8.9, 5.5, 10.5, 18.5, 15.0, 26.0, 48.4)
    entries = {}
    for timer, overhead in (("device", 0.0), ("launch", 2.5)):
        for key, level_us in zip(keys(timer), levels, strict=True):
            reference = make.reference("abcde", level_us + overhead, timer)
            latest = replace(make.reference("f", level_us + overhead, timer), margins={})
            entries[key] = Entry(_with_long_ids(reference), _with_long_ids(latest))
    path = baselines.write(SLUG, FILE, entries)

    assert path.stat().st_size < 200_000
    assert 18 * 5 * 5 == sum(
        len(p.rounds) for e in baselines.load(SLUG, FILE).values() for p in e.reference.processes
    )


def _with_long_ids(reference: Reference) -> Reference:
    # As the plugin's are: 32 digits.
    return replace(
        reference, processes=tuple(replace(p, id=p.id * 32) for p in reference.processes)
    )


def test_removing_the_last_entry_removes_the_file(baselines: Baselines, stored: Path) -> None:
    baselines.write(SLUG, FILE, {keys()[0]: None})

    assert not stored.exists()
    assert [] == list(baselines.root.iterdir())


def test_no_folder_means_no_baselines(baselines: Baselines, make) -> None:
    baselines.check_all()

    assert {} == baselines.load(SLUG, FILE)
    assert () == baselines.entries(SLUG)
    assert [] == baselines.elsewhere(SLUG, make.case())


def test_hints_name_other_cards_and_similar_cases(baselines: Baselines, make) -> None:
    case = make.case("test_attention[new]")
    baselines.write("nvidia-h200", FILE, {case.key: make.entry()})
    baselines.write(
        SLUG, FILE, {keys()[0]: make.entry(), "test_other | wall warm paced": make.entry()}
    )

    assert ["nvidia-h200", keys()[0]] == baselines.elsewhere(SLUG, case)


def test_latest_repeats_nothing_of_the_reference(baselines: Baselines, stored: Path) -> None:
    """The last process of a reference is stored once, and fields that are alike are left out."""
    document = json.loads(stored.read_text())

    assert {"processes": ["e"]} == document["entries"][keys()[0]]["latest"]
    assert "e" == baselines.load(SLUG, FILE)[keys()[0]].latest.processes[0].id


def test_latest_keeps_what_differs(baselines: Baselines, make) -> None:
    entry = make.entry()
    latest = replace(
        entry.reference,
        plan=Plan(100, 100, 1000.0, 20, 5, 3),
        method="stream",
        inputs=(),
        kernels=(),
        processes=(make.process("new"),),
        margins={},
    )
    baselines.write(SLUG, FILE, {keys()[0]: replace(entry, latest=latest)})
    back = Baselines(baselines.root).load(SLUG, FILE)[keys()[0]].latest

    assert (latest.plan, "stream", (), (), "new") == (
        back.plan,
        back.method,
        back.inputs,
        back.kernels,
        back.processes[0].id,
    )
