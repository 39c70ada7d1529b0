"""
What happens to baseline files and folders that are damaged, newer, or not what they should be.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from baseline_file import FILE, SLUG, keys

from pytest_kernelperf.errors import BaselineFormatError, BaselineVersionError, BaselineWriteError
from pytest_kernelperf.store.baselines import Baselines


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


def test_an_entry_that_stands_twice_is_refused_and_stays(
    baselines: Baselines, stored: Path, make
) -> None:
    """As a merge that keeps both sides leaves it: the last one counted, and the other was lost."""
    text = stored.read_text()
    start, end = text.index('  "test'), text.index('\n },\n "environments"')
    entry = text[start:end]
    stored.write_text(text[:end] + ",\n" + entry + text[end:])
    before = stored.read_bytes()
    fresh = Baselines(baselines.root)

    for act in (fresh.check_all, lambda: fresh.write(SLUG, FILE, {keys()[1]: make.entry()})):
        with pytest.raises(BaselineFormatError, match=r"twice, as after a merge.*keep one of them"):
            act()
    assert before == stored.read_bytes()
