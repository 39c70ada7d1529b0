"""
The documents name what the code has: every option, keyword, setting, command and member.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click
import pytest

from pytest_kernelperf import cli, plugin
from pytest_kernelperf.fixture import KernelPerf
from pytest_kernelperf.keywords import CHECKS as MARKER_KEYWORDS
from pytest_kernelperf.model import Status
from pytest_kernelperf.options import parse_value
from pytest_kernelperf.results import Compared, DataIndependence, Result

ROOT = Path(__file__).parents[2]
USAGE = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

OPTIONS = {f"--kernelperf{name and '-' + name}" for name in (*plugin._FLAGS, *plugin._VALUES)}
INI_KEYS = {f"kernelperf_{name}" for name in plugin._INI_KEYS}
COMMANDS = cli.main.commands


def section(heading: str) -> str:
    """
    Return what stands under a heading of usage.md, down to the next of its level or above.
    """
    level = heading.index(" ")
    rest = USAGE.split(f"\n{heading}\n")[1]
    return re.split(rf"^#{{2,{level}}} ", rest, flags=re.MULTILINE)[0]


def first_cells(heading: str) -> set[str]:
    """
    Return the names in the first column of the tables under a heading.
    """
    cells = re.findall(r"^\| (`.*?) \|", section(heading), re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_option_has_its_row_and_no_other() -> None:
    rows = {re.split("[ =]", cell)[0] for cell in first_cells("## pytest's options")}

    assert OPTIONS == rows


def test_every_marker_keyword_has_its_row_and_no_other() -> None:
    rows = first_cells("## The marker") - {'"device"', '"launch"', '"wall"'}

    assert set(MARKER_KEYWORDS) == rows


def test_every_ini_key_has_its_row_and_no_other() -> None:
    assert INI_KEYS == first_cells("## Settings in the ini file")


def test_every_verdict_has_its_row_and_no_other() -> None:
    assert {status.value for status in Status} == first_cells("## What to do on each verdict")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_its_row_with_its_options(name: str) -> None:
    row = re.search(rf"^\| `kernelperf {name}\b.*$", section("## Commands"), re.MULTILINE)
    assert row is not None
    options = {
        option
        for parameter in COMMANDS[name].params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }

    assert options - {"--baselines"} == set(re.findall(r"--[a-z-]+", row[0]))
    # The text above the table says that all but these have it.
    assert ("--baselines" in options) == (name not in ("compare", "report"))


def test_no_command_is_documented_that_does_not_exist() -> None:
    rows = re.findall(r"^\| `kernelperf (\w+)", section("## Commands"), re.MULTILINE)

    assert sorted(COMMANDS) == sorted(rows)


def members(*classes: type) -> set[str]:
    """
    Return the public names of classes, with what their docstrings list as attributes.
    """
    names = {name for each in classes for name in vars(each) if not name.startswith("_")}
    # Cleaned: from Python 3.13 on the compiler takes the indentation away.
    docs = "\n".join(inspect.getdoc(each) or "" for each in classes)
    return names | set(re.findall(r"^    (\w+): ", docs, re.MULTILINE))


def test_every_member_of_the_fixture_is_documented() -> None:
    text = section("## The fixture")
    missing = {
        name for name in members(KernelPerf, Result, Compared, DataIndependence) if name not in text
    }

    assert set() == missing


def test_every_member_in_the_tables_exists() -> None:
    own = first_cells("### Numbers") - {'kernelperf["name"]'}
    compared = first_cells("### Comparing") - {'result["ours"]'}

    assert set() == {name.split("(")[0] for name in own} - members(KernelPerf, Result)
    assert set() == {name.split("(")[0] for name in compared} - members(Compared)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_names_no_option_that_does_not_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert set() == set(re.findall(r"--kernelperf(?:-[a-z]+)*", text)) - OPTIONS
    assert set() == set(re.findall(r"\bkernelperf_[a-z0-9_]+\b", text)) - INI_KEYS


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_names_no_command_that_does_not_exist(path: Path) -> None:
    code = re.findall(r"`([^`\n]+)`|^ *((?:kernelperf) .*)$", path.read_text(), re.MULTILINE)
    called = {
        found[1]
        for pair in code
        if (found := re.match(r"kernelperf ([a-z]+)\b", pair[0] or pair[1]))
    }

    assert set() == called - set(COMMANDS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))

    assert [] == [link for link in links if not (path.parent / link).exists()]


def test_every_example_of_a_keyword_is_accepted() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|[^|]*\| `([^|]*?)` \|", section("## The marker"), re.MULTILINE
    )
    checked = 0
    for name, example in rows:
        found = re.match(rf"{name}=(.*)", example)
        if found and "is_sorted" not in example and "`" not in example and "=" not in found[1]:
            parse_value(name, eval(found[1], {}))
            checked += 1

    assert checked >= 8
