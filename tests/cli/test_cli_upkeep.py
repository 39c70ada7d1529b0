"""
`kernelperf show`, `prune` and `rename`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_kernelperf.gate import Gate
from pytest_kernelperf.model import Comparison, Interval, Ratio, UpdateMode
from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.runs import RunWriter

SLUG = "nvidia-h100-80gb-hbm3"
FILE = "tests/perf/test_attention.py"
KEYS = {
    "test_attention[8] | device cold paced",
    "test_attention[16] | device cold paced",
    "test_attention[8] bwd | launch cold paced",
    "test_gone[8] | device cold paced",
    "TestGroup::test_inside | wall warm paced",
    "TestGroup::test_lost[a b] | wall warm paced",
}
SOURCE = """
import pytest

if True:
    def test_attention(kernelperf): ...

class TestGroup:
    def test_inside(self): ...
"""


@pytest.fixture
def store(project: Path, make) -> Baselines:
    """
    Return baselines of two cards for one file, and of one card for a file that is gone.
    """
    (project / FILE).write_text(SOURCE)
    baselines = Baselines(project / "baselines")
    entry = make.entry("a")
    baselines.write(SLUG, FILE, {key: entry for key in KEYS if "launch" not in key})
    launch = make.entry("a", timer="launch")
    baselines.write(SLUG, FILE, {key: launch for key in KEYS if "launch" in key})
    baselines.write("nvidia-h200", FILE, {"test_gone[8] | device cold paced": entry})
    baselines.write(SLUG, "tests/perf/test_old.py", {"test_x | device cold paced": entry})
    return Baselines(baselines.root)


def stored(store: Baselines) -> set[str]:
    fresh = Baselines(store.root)
    return {
        f"{slug}/{file}::{key}"
        for slug in fresh.slugs()
        for file in fresh.files(slug)
        for key in fresh.load(slug, file)
    }


def test_prune_removes_what_lost_its_test_and_nothing_else(kernelperf, store) -> None:
    lost = {
        f"{SLUG}/{FILE}::test_gone[8] | device cold paced",
        f"{SLUG}/{FILE}::TestGroup::test_lost[a b] | wall warm paced",
        f"nvidia-h200/{FILE}::test_gone[8] | device cold paced",
        f"{SLUG}/tests/perf/test_old.py::test_x | device cold paced",
    }
    before = stored(store)
    dry = kernelperf("prune", "--dry-run")

    assert before == stored(store)
    result = kernelperf("prune")

    assert before - lost == stored(store)
    assert "kernelperf: would remove 4 of 8 entries" == dry.output.splitlines()[-1]
    assert "kernelperf: removed 4 of 8 entries" == result.output.splitlines()[-1]
    assert f"{FILE} has no TestGroup::test_lost" in result.output
    assert "tests/perf/test_old.py is gone" in result.output
    assert not (store.root / "nvidia-h200").exists()


def test_prune_removes_by_name(kernelperf, store) -> None:
    before = stored(store)
    result = kernelperf("prune", "--tests", f"{FILE}::test_attention[8]")

    assert 0 == result.exit_code
    assert {
        f"{SLUG}/{FILE}::test_attention[8] | device cold paced",
        f"{SLUG}/{FILE}::test_attention[8] bwd | launch cold paced",
    } == before - stored(store)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("tests", 8),
        ("tests/perf/", 8),
        (FILE, 7),
        (f"{FILE}::test_attention", 3),
        (f"{FILE}::TestGroup", 2),
        (f"{FILE}::test_attention[8] bwd", 1),
        (f"{FILE}::test_attention[16] | device cold paced", 1),
    ],
)
def test_names_are_pytests(kernelperf, store, name: str, count: int) -> None:
    result = kernelperf("prune", "--dry-run", "--tests", name)

    assert f"kernelperf: would remove {count} of 8 entries" == result.output.splitlines()[-1]


@pytest.mark.parametrize("name", [f"{FILE}::test_att", "test", "tests/per", "nvidia-h200"])
def test_a_name_that_nothing_has_is_exit_status_2(kernelperf, store, name: str) -> None:
    before = stored(store)
    result = kernelperf("prune", "--tests", name)

    assert 2 == result.exit_code
    assert f"nothing is called '{name}'" in result.output
    assert before == stored(store)


@pytest.mark.parametrize("name", ["test_attention[16]", f"{FILE}::test_atention[16]"])
@pytest.mark.parametrize("command", [("prune", "--tests"), ("rename",)])
def test_a_name_that_lacks_its_file_or_a_letter_is_told_as_it_is(kernelperf, store, name, command):
    new = [f"{FILE}::test_new"] if command == ("rename",) else []

    result = kernelperf(*command, name, *new)

    assert 2 == result.exit_code
    assert f"did you mean '{FILE}::test_attention[16]'?" in result.output


def test_prune_in_the_wrong_folder_removes_nothing(kernelperf, store, project, tmp_path) -> None:
    moved = tmp_path / "copied" / "baselines"
    moved.parent.mkdir()
    store.root.rename(moved)
    (moved.parent / "pyproject.toml").touch()
    result = kernelperf("prune", "--baselines", moved)

    assert 2 == result.exit_code
    assert "wrong folder" in result.output
    assert 8 == len(stored(Baselines(moved)))


@pytest.mark.parametrize(
    "source",
    [
        "from other import *",
        "from other import test_gone",
        "test_gone = make_test()",
        "async def test_gone(): ...",
        "try:\n    import x\nexcept ImportError:\n    def test_gone(): ...",
        "def broken(",
    ],
)
def test_what_may_define_a_test_keeps_its_entries(kernelperf, store, project, source) -> None:
    (project / FILE).write_text(source)
    kernelperf("prune")

    assert f"{SLUG}/{FILE}::test_gone[8] | device cold paced" in stored(store)


def test_a_test_that_a_base_class_may_define_is_kept(kernelperf, store, project) -> None:
    (project / FILE).write_text(SOURCE.replace("TestGroup:", "TestGroup(Base):"))
    kernelperf("prune")

    assert f"{SLUG}/{FILE}::TestGroup::test_lost[a b] | wall warm paced" in stored(store)


@pytest.mark.parametrize(
    ("old", "new", "before", "after"),
    [
        (
            FILE,
            "tests/gpu/test_new.py",
            f"{SLUG}/{FILE}::test_attention[16] | device cold paced",
            f"{SLUG}/tests/gpu/test_new.py::test_attention[16] | device cold paced",
        ),
        (
            "tests/perf",
            "tests/gpu",
            f"{SLUG}/tests/perf/test_old.py::test_x | device cold paced",
            f"{SLUG}/tests/gpu/test_old.py::test_x | device cold paced",
        ),
        (
            f"{FILE}::test_attention",
            f"{FILE}::test_forward",
            f"{SLUG}/{FILE}::test_attention[8] bwd | launch cold paced",
            f"{SLUG}/{FILE}::test_forward[8] bwd | launch cold paced",
        ),
        (
            f"{FILE}::test_gone[8]",
            "tests/perf/test_old.py::test_back[9]",
            f"nvidia-h200/{FILE}::test_gone[8] | device cold paced",
            "nvidia-h200/tests/perf/test_old.py::test_back[9] | device cold paced",
        ),
        (
            f"{FILE}::test_attention[16] | device cold paced",
            f"{FILE}::test_attention[16] fwd | device cold paced",
            f"{SLUG}/{FILE}::test_attention[16] | device cold paced",
            f"{SLUG}/{FILE}::test_attention[16] fwd | device cold paced",
        ),
    ],
)
def test_rename_moves_entries_and_loses_none(kernelperf, store, old, new, before, after) -> None:
    had = stored(store)
    result = kernelperf("rename", old, new)
    has = stored(store)

    assert 0 == result.exit_code
    assert before in had
    assert before not in has
    assert after in has
    assert len(had) == len(has)


@pytest.mark.parametrize(("new", "warned"), [("test_forwrad", True), ("test_attention_too", False)])
def test_a_rename_to_a_test_that_is_not_there_is_warned_about(
    kernelperf, store, project, new, warned
) -> None:
    """
    `prune` removes what has no test.
    """
    with (project / FILE).open("a") as file:
        file.write("\ndef test_attention_too(): pass\n")

    result = kernelperf("rename", f"{FILE}::test_attention", f"{FILE}::{new}")

    warning = f"kernelperf: warning: {FILE} has no {new}, so `kernelperf prune` would remove"
    assert 0 == result.exit_code
    assert warned == (warning in result.output)


def test_renaming_there_and_back_restores_the_bytes(kernelperf, store) -> None:
    path = store.path(SLUG, FILE)
    before = path.read_bytes()
    kernelperf("rename", f"{FILE}::test_attention", f"{FILE}::test_forward")
    kernelperf("rename", f"{FILE}::test_forward", f"{FILE}::test_attention")

    assert before == path.read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tests/none.py", "tests/other.py", "nothing in"),
        (f"{FILE}::test_attention[8]", f"{FILE}::test_attention[16]", "has a baseline already"),
        (FILE, f"{FILE}::test_x", "of one kind"),
        (f"{FILE}::test_gone", "tests/perf/test_x.py", "of one kind"),
        (FILE, "tests/perf/test_x.txt", "ends in .py"),
        (FILE, "../test_x.py", "not a path below the anchor"),
    ],
)
def test_a_rename_that_cannot_be_changes_nothing(kernelperf, store, old, new, message) -> None:
    before = stored(store)
    result = kernelperf("rename", old, new)

    assert 2 == result.exit_code
    assert message in result.output
    assert before == stored(store)


def test_show_tells_the_margin_that_the_next_run_is_judged_by(kernelperf, baseline, make) -> None:
    """
    Other tests' baselines, stored since, say more of noise than the entry's own update knew.
    """
    others = [make.case(f"test_{each}") for each in "abcd"]
    runs = [make.recorded(name=each.test, case=each, processes=5) for each in others]
    Gate(Path("baselines")).update(runs, UpdateMode(new_only=True))

    recorded = make.recorded(name="new")
    (verdict, *_) = Gate(Path("baselines")).judge(recorded.measurement, recorded.limits)

    entry = Baselines(Path("baselines")).load(SLUG, recorded.measurement.case.file)
    stored = entry[recorded.measurement.case.key].reference.margins[50.0]
    (row,) = [
        line for line in kernelperf("show").output.splitlines() if "test_attention[8]" in line
    ]
    assert verdict.margin != pytest.approx(stored, rel=0.05)
    assert f"{verdict.margin:.2%}".replace("%", " %") in row


def test_show_lists_all_baselines(kernelperf, store) -> None:
    result = kernelperf("show")

    assert 0 == result.exit_code
    for text in (SLUG, "nvidia-h200", "tests/perf/test_old.py", "test_attention[16]"):
        assert text in result.output


def test_show_lists_one_file(kernelperf, store) -> None:
    path = store.path("nvidia-h200", FILE)

    for arguments in ([path], [path, "--baselines", store.root], [path.parents[2]]):
        output = kernelperf("show", *arguments).output
        assert "test_gone[8]" in output
        assert "test_attention[16]" not in output


def test_show_lists_another_folder(kernelperf, store, tmp_path: Path) -> None:
    store.root.rename(tmp_path / "kept")

    assert "test_attention[16]" in kernelperf("show", tmp_path / "kept").output
    assert "no baselines in" in kernelperf("show").output


def test_show_lists_a_run(kernelperf, baseline, record) -> None:
    run = record("slow", 3.6)
    result = kernelperf("show", run)

    assert 0 == result.exit_code
    assert "kernelperf: " in result.output.splitlines()[-1]


def test_show_lists_the_comparisons_of_a_run(kernelperf, make, tmp_path: Path) -> None:
    ratio = Ratio("flashcore", 3.2, 1.25, Interval(1.2, 1.3))
    writer = RunWriter(tmp_path / "run.jsonl")
    writer.append(Comparison("tests/perf/test_x.py::test_x", "sdpa", (ratio,)))
    writer.close()
    output = kernelperf("show", tmp_path / "run.jsonl").output

    assert "flashcore" in output
    assert "1.25" in output


def test_show_of_nothing_is_exit_status_2(kernelperf, tmp_path: Path) -> None:
    result = kernelperf("show", tmp_path / "none")

    assert 2 == result.exit_code
    assert "there is no" in result.output


def test_show_of_a_damaged_file_is_exit_status_2(kernelperf, store) -> None:
    path = store.path(SLUG, FILE)
    document = json.loads(path.read_text())
    document["entries"]["test_attention[8]"] = {}
    path.write_text(json.dumps(document))
    result = kernelperf("show", path)

    assert 2 == result.exit_code
    assert str(path) in result.output


def test_show_of_a_run_tells_first_launches_apart(kernelperf, record, make) -> None:
    result = kernelperf("show", record("new", case=make.case(timer="launch")))

    assert "bursts of 100 launches; the first of each, kept apart" in result.output


@pytest.mark.parametrize(
    ("kind", "message"),
    [("none", "'named' does not exist"), ("file", "named is a file; expected a folder")],
)
@pytest.mark.parametrize(
    "command",
    [
        ("show",),
        ("show", "named"),
        ("show", FILE),
        ("prune",),
        ("prune", "--dry-run"),
        ("prune", "--tests", FILE),
        ("rename", FILE, "tests/perf/test_new.py"),
    ],
    ids=" ".join,
)
def test_baselines_that_are_no_folder_are_exit_status_2_and_named(
    kernelperf, project, store, command, kind, message
) -> None:
    """The project has baselines: none of them is shown or changed in their stead."""
    before = stored(store)
    if kind == "file":
        (project / "named").touch()

    result = kernelperf(*command, "--baselines", "named")

    assert 2 == result.exit_code
    assert message in result.output
    assert before == stored(store)


@pytest.mark.parametrize(
    "command", [("show",), ("prune",), ("rename", FILE, "tests/perf/test_new.py")], ids=" ".join
)
def test_a_file_where_the_project_has_its_baselines_is_exit_status_2(
    kernelperf, project, command
) -> None:
    (project / "baselines").touch()

    result = kernelperf(*command)

    assert 2 == result.exit_code
    assert f"baselines {project / 'baselines'} is a file; expected a folder" in result.output
