"""
Baseline files: what is written, what comes back, and what happens to files that are bad.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_kernelperf.analysis import percentile_us
from pytest_kernelperf.errors import (
    BaselineFormatError,
    BaselineVersionError,
    BaselineWriteError,
)
from pytest_kernelperf.model import Entry, Plan, Reference
from pytest_kernelperf.store import files
from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.entries import normalised

SLUG = "nvidia-h100-80gb-hbm3"
FILE = "tests/perf/test_attention.py"


def keys(timer: str = "device") -> list[str]:
    return [f"test_attention[{n}] | {timer} cold paced" for n in range(9)]


@pytest.fixture
def baselines(tmp_path: Path) -> Baselines:
    return Baselines(tmp_path / "baselines")


@pytest.fixture
def stored(baselines: Baselines, make) -> Path:
    """
    Return a good baseline file with one entry.
    """
    return baselines.write(SLUG, FILE, {keys()[0]: make.entry()})


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


@pytest.mark.parametrize("file", ["../test_x.py", "/test_x.py", "."])
def test_a_test_file_outside_the_anchor_is_refused(baselines: Baselines, file: str) -> None:
    with pytest.raises(BaselineFormatError, match="not a path below the anchor"):
        baselines.path(SLUG, file)


BAD_CONTENT = {
    "empty": b"",
    "binary": b"\x00\x01\xfe\xff" * 20,
    "list": b"[]",
    "number": b"3",
    "no version": b"{}",
    "text version": b'{"schema_version": "1"}',
    "unknown word": b'{"schema_version": 1, "entires": {}}',
    "not utf-8": b'{"schema_version": 1, "entries": {"\xff": 1}}',
    "merge conflict": b"<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> theirs\n",
    "version zero": b'{"schema_version": 0}',
}


@pytest.mark.parametrize("content", BAD_CONTENT.values(), ids=BAD_CONTENT)
def test_a_damaged_file_is_named_and_stays(
    baselines: Baselines, stored: Path, make, content: bytes
) -> None:
    stored.write_bytes(content)
    fresh = Baselines(baselines.root)

    for act in (
        fresh.check_all,
        lambda: fresh.load(SLUG, FILE),
        lambda: fresh.write(SLUG, FILE, {keys()[1]: make.entry()}),
    ):
        with pytest.raises(BaselineFormatError, match=re.escape(str(stored))) as raised:
            act()
        assert "restore it from version control" in str(raised.value)
    assert content == stored.read_bytes()


def test_a_truncated_file_is_named_and_stays(baselines: Baselines, stored: Path) -> None:
    content = stored.read_bytes()[:-200]
    stored.write_bytes(content)

    with pytest.raises(BaselineFormatError, match="truncated"):
        Baselines(baselines.root).check_all()
    assert content == stored.read_bytes()


def test_a_newer_version_is_refused_and_stays(baselines: Baselines, stored: Path, make) -> None:
    """The message says which version is needed, before it looks at anything else in the file."""
    content = b'{"schema_version": 2, "something": "new"}'
    stored.write_bytes(content)
    fresh = Baselines(baselines.root)

    for act in (fresh.check_all, lambda: fresh.write(SLUG, FILE, {keys()[1]: make.entry()})):
        with pytest.raises(BaselineVersionError, match=r"has schema_version 2.*reads up to 1"):
            act()
    assert content == stored.read_bytes()


def _first(document: dict) -> dict:
    return document["entries"][keys()[0]]["reference"]


def _plan_text(document: dict) -> None:
    _first(document)["plan"]["rounds"] = "five"


def _plan_zero(document: dict) -> None:
    _first(document)["plan"]["burst"] = 0


def _times(document: dict) -> None:
    _first(document)["processes"][0]["rounds"][1]["us"] = "3.2 3.1"


def _environment(document: dict) -> None:
    _first(document)["processes"][0]["environment"] = "nowhere"


def _no_processes(document: dict) -> None:
    _first(document)["processes"] = []


def _no_rounds(document: dict) -> None:
    _first(document)["processes"][0]["rounds"] = []


def _twins(document: dict) -> None:
    _first(document)["processes"][1]["id"] = _first(document)["processes"][0]["id"]


def _margin(document: dict) -> None:
    _first(document)["margins"] = {"median": 0.01}


def _latest(document: dict) -> None:
    document["entries"][keys()[0]]["latest"]["processes"] = ["unknown"]


def _key(document: dict) -> None:
    document["entries"]["test_attention[8]"] = document["entries"].pop(keys()[0])


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (_plan_text, "$.entries[...].reference.plan.rounds"),
        (_plan_zero, "count below 1"),
        (_times, "times must ascend"),
        (_environment, "environment 'nowhere' is not in $.environments"),
        (_no_processes, "there is no process"),
        (_no_rounds, "has no rounds"),
        (_twins, "two processes have the same id"),
        (_margin, "margin for 'median'"),
        (_latest, "process 'unknown' is not in the reference"),
        (_key, "is not a key like"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    baselines: Baselines, stored: Path, damage, place: str
) -> None:
    document = json.loads(stored.read_text())
    damage(document)
    stored.write_text(json.dumps(document))

    with pytest.raises(BaselineFormatError, match=re.escape(place)) as raised:
        Baselines(baselines.root).check_all()
    assert str(stored) in str(raised.value)
    assert "$.entries[" in str(raised.value)


def test_a_directory_in_the_place_of_a_file_is_named(baselines: Baselines, make) -> None:
    path = baselines.path(SLUG, FILE)
    path.mkdir(parents=True)

    for act in (
        baselines.check_all,
        lambda: baselines.write(SLUG, FILE, {keys()[0]: make.entry()}),
    ):
        with pytest.raises(BaselineFormatError, match=f"{re.escape(str(path))} is a directory"):
            act()
    with pytest.raises(BaselineWriteError, match="is a directory"):
        baselines.check_writable(SLUG, FILE)


def test_a_file_in_the_place_of_the_folder_is_named(baselines: Baselines, make) -> None:
    baselines.root.write_text("")

    for act in (
        baselines.check_all,
        lambda: baselines.load(SLUG, FILE),
    ):
        with pytest.raises(BaselineFormatError, match="is a file; expected a folder"):
            act()
    with pytest.raises((BaselineFormatError, BaselineWriteError), match="baselines"):
        baselines.write(SLUG, FILE, {keys()[0]: make.entry()})


def test_a_file_that_may_not_be_read_is_named(
    baselines: Baselines, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)

    with pytest.raises(BaselineFormatError, match="can't be read: Permission denied") as raised:
        Baselines(baselines.root).check_all()
    assert str(stored) in str(raised.value)


def test_a_folder_that_may_not_be_read_is_named(
    baselines: Baselines, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passing over it would silently judge nothing."""

    def denied(self: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)

    with pytest.raises(BaselineFormatError, match=r"folder .* can't be read: Permission denied"):
        Baselines(baselines.root).check_all()


def test_a_read_only_file_is_named_and_stays(baselines: Baselines, stored: Path, make) -> None:
    before = stored.read_bytes()
    stored.chmod(0o444)

    for act in (
        lambda: baselines.check_writable(SLUG, FILE),
        lambda: baselines.write(SLUG, FILE, {keys()[1]: make.entry()}),
        lambda: baselines.write(SLUG, FILE, {keys()[0]: None}),
    ):
        with pytest.raises(BaselineWriteError, match=r"the file is read-only.*chmod"):
            act()
    assert before == stored.read_bytes()


def test_a_read_only_folder_is_named(baselines: Baselines, stored: Path, make) -> None:
    stored.parent.chmod(0o555)
    try:
        for act in (
            lambda: baselines.check_writable(SLUG, FILE),
            lambda: baselines.write(SLUG, FILE, {keys()[1]: make.entry()}),
        ):
            with pytest.raises(BaselineWriteError, match=r"folder .* can't be written"):
                act()
    finally:
        stored.parent.chmod(0o755)


@pytest.mark.parametrize("function", ["fsync", "replace", "open"])
def test_no_disk_space_leaves_the_old_file_and_nothing_else(
    baselines: Baselines, stored: Path, make, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    before = stored.read_bytes()

    def full(*_arguments: object, **_keywords: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "os", _Patched(function, full))
        with pytest.raises(BaselineWriteError, match=r"No space left on device.*as it was"):
            baselines.write(SLUG, FILE, {keys()[1]: make.entry()})
    assert before == stored.read_bytes()
    assert [stored] == list(stored.parent.iterdir())
    assert [keys()[0]] == list(baselines.load(SLUG, FILE))


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_an_interrupt_while_writing_leaves_the_old_file_and_nothing_else(
    baselines: Baselines, stored: Path, make, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    before = stored.read_bytes()

    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "os", _Patched(function, interrupted))
        with pytest.raises(KeyboardInterrupt):
            baselines.write(SLUG, FILE, {keys()[1]: make.entry()})
    assert before == stored.read_bytes()
    assert [stored] == list(stored.parent.iterdir())

    baselines.write(SLUG, FILE, {keys()[1]: make.entry()})
    assert keys()[:2] == sorted(baselines.load(SLUG, FILE))


class _Patched:
    """
    The `os` module with one function replaced, for one module only.
    """

    def __init__(self, name: str, function: object) -> None:
        self._replaced = {name: function}

    def __getattr__(self, name: str) -> object:
        return self._replaced.get(name) or getattr(os, name)


def test_a_link_is_followed(baselines: Baselines, stored: Path, make, tmp_path: Path) -> None:
    """Baselines may be linked in from elsewhere; the link must stay one."""
    target = tmp_path / "elsewhere.json"
    stored.rename(target)
    stored.symlink_to(target)
    baselines.write(SLUG, FILE, {keys()[1]: make.entry()})

    assert stored.is_symlink()
    assert keys()[:2] == sorted(Baselines(baselines.root).load(SLUG, FILE))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_device_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    """As root a rename over /dev/null would succeed."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write_bytes(pipe, b"told")
        assert b"told" == os.read(reader, 10)
    finally:
        os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="needs /dev/fd")
def test_a_stream_that_leads_to_a_file_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    """As in `--json /dev/stdout > file`: what else is told would go to the file that was there."""
    path = tmp_path / "out"
    with path.open("wb") as stream:
        before = path.stat().st_ino
        files.write_bytes(Path(f"/dev/fd/{stream.fileno()}"), b"told")

    assert b"told" == path.read_bytes()
    assert before == path.stat().st_ino


def test_the_files_mode_is_kept(baselines: Baselines, stored: Path, make) -> None:
    stored.chmod(0o640)
    baselines.write(SLUG, FILE, {keys()[1]: make.entry()})

    assert 0o640 == stat.S_IMODE(stored.stat().st_mode)


def test_only_baselines_lie_in_the_folder(baselines: Baselines, stored: Path) -> None:
    assert [stored] == [path for path in baselines.root.rglob("*") if path.is_file()]


def test_a_lock_that_is_held_is_named(
    baselines: Baselines, stored: Path, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_TIMEOUT_S", 0.1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        gate = pool.apply(_hold, (str(stored),))
        with pytest.raises(BaselineWriteError, match=r"can't be locked within 0.1 s"):
            baselines.write(SLUG, FILE, {keys()[1]: make.entry()})
        assert gate


_held = []


def _hold(path: str) -> bool:
    lock = files.locked(Path(path))
    lock.__enter__()
    _held.append(lock)
    return True


def test_two_processes_that_update_one_file_lose_nothing(baselines: Baselines, make) -> None:
    """Each stores its own entries one by one, while the other does the same."""
    entry = make.entry("a")
    mine, theirs = keys()[:5], [f"test_other[{n}] | device cold paced" for n in range(5)]
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write_all, args=(baselines.root, names, entry))
        for names in (mine, theirs)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert [0, 0] == [writer.exitcode for writer in writers]
    assert sorted(mine + theirs) == sorted(baselines.load(SLUG, FILE))


def _write_all(root: Path, names: list[str], entry: Entry) -> None:
    for name in names:
        Baselines(root).write(SLUG, FILE, {name: entry})


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


def test_random_truncation_never_gives_a_traceback(baselines: Baselines, stored: Path) -> None:
    """Whatever half of a file is there, the answer is the error that names it."""
    content = stored.read_bytes()
    draw = random.Random(3)
    for _ in range(50):
        stored.write_bytes(content[: draw.randrange(len(content) - 2)])
        with pytest.raises(BaselineFormatError, match=re.escape(str(stored))):
            Baselines(baselines.root).check_all()


def test_a_folder_is_not_empty_for_one_good_file_whatever_lies_beside_it(
    baselines: Baselines, stored: Path
) -> None:
    (baselines.root / f"{SLUG}.calibration.json").write_text("{}")
    baselines.check_not_empty()


def test_a_folder_of_resources_only_is_not_empty(baselines: Baselines) -> None:
    (baselines.root / "sm_90").mkdir(parents=True)
    (baselines.root / "sm_90" / "test_it.json").write_text("{}")

    baselines.check_not_empty()


def test_a_damaged_only_file_is_told_as_damaged(baselines: Baselines, stored: Path) -> None:
    stored.write_text("{")

    with pytest.raises(BaselineFormatError, match="is not a readable baseline file"):
        baselines.check_not_empty()


def test_a_folder_that_no_card_gave_its_name_holds_no_baseline(
    baselines: Baselines, stored: Path
) -> None:
    (baselines.root / SLUG).rename(baselines.root / "another-card")

    with pytest.raises(BaselineFormatError, match=r"holds no baseline; .* name that one"):
        Baselines(baselines.root).check_not_empty()
