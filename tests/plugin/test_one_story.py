"""
The terminal, the JSON document, the record, `kernelperf judge` and the exit status tell one story.

Whatever the outcomes of the tests, in whatever mixture, order and under whatever options.
"""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter

import pytest

from pytest_kernelperf.gate import Gate, judge_run
from pytest_kernelperf.model import FAILING, FAILING_STRICT

BASELINED = """
    import pytest
    import unittest
    from pytest_kernelperf import kernel_perf

    def test_unchanged(kernelperf): kernelperf(abs, -1)
    def test_improved(kernelperf): kernelperf(abs, -1)
    def test_slower(kernelperf): kernelperf(abs, -1)

    @kernel_perf(target_us=5)
    def test_missed(kernelperf): kernelperf(abs, -1)

    @kernel_perf(target_us=10)
    def test_straddles(kernelperf): kernelperf(abs, -1)

    @kernel_perf(percentiles=(50, 99))
    def test_tails(kernelperf): kernelperf(abs, -1)

    def test_mixture(kernelperf):
        kernelperf.measure(abs, (-1,), name="unchanged")
        kernelperf.measure(abs, (-1,), name="slower")

    @pytest.mark.parametrize("n", [1, 2])
    def test_n(kernelperf, n): kernelperf(abs, -1)

    class TestClass:
        def test_slower_in_class(self, kernelperf): kernelperf(abs, -1)

    class TestUnit(unittest.TestCase):
        @pytest.fixture(autouse=True)
        def take(self, kernelperf): self.kernelperf = kernelperf
        def test_unit(self): self.kernelperf(abs, -1)
        def test_slower_unit(self): self.kernelperf(abs, -1)

    def test_slower_and_wrong(kernelperf):
        assert kernelperf(abs, -1) == 2

    @pytest.mark.xfail(reason="known")
    def test_slower_as_known(kernelperf): kernelperf(abs, -1)

    @pytest.mark.xfail(strict=True)
    def test_passes_unexpectedly(kernelperf): kernelperf(abs, -1)

    @pytest.mark.xfail(strict=True)
    def test_slower_as_must_be(kernelperf): kernelperf(abs, -1)

    @pytest.mark.xfail(raises=ValueError)
    def test_slower_than_known(kernelperf): kernelperf(abs, -1)

    @pytest.mark.xfail
    def test_wrong_as_known(kernelperf):
        assert kernelperf(abs, -1) == 2

    def test_then_expects(kernelperf):
        kernelperf(abs, -1)
        pytest.xfail("no more")

    def test_then_skips(kernelperf):
        kernelperf(abs, -1)
        pytest.skip("no more")

    @pytest.fixture
    def skipping(kernelperf):
        kernelperf(abs, -1)
        pytest.skip("no more")

    def test_skips_before(skipping): pass

    @pytest.mark.parametrize("text", ["a b", "x::y[1]", "µ/ü", "'\\n\\""])
    def test_slower_odd(kernelperf, text): kernelperf(abs, -1)
"""

NEW = """
    def test_new(kernelperf): kernelperf(abs, -1)

    @kernel_perf
    def test_idle(kernelperf): pass

    def test_raises(kernelperf): kernelperf(lambda: 1 / 0)

    def test_disagrees(kernelperf):
        kernelperf.compare({"a": abs, "b": lambda x: x}, (-1,), reference="a")

    def test_compares(kernelperf):
        kernelperf.compare({"a": abs, "b": abs}, (-1,), reference="a", min_speedup=1.5)

    def test_teardown(kernelperf, request):
        request.addfinalizer(lambda: 1 / 0)
        kernelperf(abs, -1)

    @pytest.fixture
    def broken(kernelperf):
        kernelperf(abs, -1)
        raise RuntimeError

    def test_setup(broken): pass

    def test_plain(): pass
    def test_plain_failing(): assert 0
"""

OPTIONS = [
    (),
    ("--kernelperf-strict",),
    ("-x",),
    ("--maxfail=3",),
    ("-q",),
    ("--kernelperf-update",),
    ("--kernelperf-update-new",),
    ("--kernelperf-update", "--kernelperf-accept-regressions"),
    ("--kernelperf-update", "-x", "--kernelperf-strict"),
    ("--kernelperf-processes", "1"),
    ("--runxfail",),
]
FILES = ("--kernelperf-json", "run.json", "--kernelperf-record", "run.jsonl")

#: A row of the table: it ends in its status, and perhaps a reservation.
ROW = re.compile(r" P\d+ .* ([A-Z_]+)( OTHER_CARD| PROVISIONAL)?$")
#: A line of pytest's short summary.
FAILED = re.compile(r"(?:FAILED|ERROR) (.+?)(?: - .*)?$")
#: Tests that pytest does not fail whatever their verdict: expected failures, a skip.
EXCUSED = {
    "test_it.py::test_slower_as_known",
    "test_it.py::test_slower_as_must_be",
    "test_it.py::test_passes_unexpectedly",
    "test_it.py::test_wrong_as_known",
    "test_it.py::test_then_expects",
    "test_it.py::test_then_skips",
    "test_it.py::test_skips_before",
}


@pytest.fixture
def baselined(project, monkeypatch):
    """
    Return a project with tests of every outcome, most of them with a baseline of 10 µs.
    """
    monkeypatch.setenv("COLUMNS", "250")
    project.write(BASELINED)
    project.run("--kernelperf-update", "--kernelperf-processes", "3")
    project.write(BASELINED + NEW)
    slower = dict.fromkeys(re.findall(r"test_slower\w*", BASELINED), 13.0)
    of_classes = {"TestClass::test_slower_in_class": 13.0, "TestUnit::test_slower_unit": 13.0}
    project.times(10.0, test_improved=7.0, slower=13.0, **slower, **of_classes)
    return project


def some_tests(seed):
    """
    Return the node ids of some tests in some order; the whole file for 0.
    """
    if not seed:
        return ["test_it.py"]
    dice = random.Random(seed)
    inside = {"test_slower_in_class": "TestClass::", "test_unit": "TestUnit::"}
    inside["test_slower_unit"] = "TestUnit::"
    names = re.findall(r"def (test_\w+)", BASELINED + NEW)
    picked = dice.sample(names, dice.randint(2, 9))
    return [f"test_it.py::{inside.get(name, '')}{name}" for name in picked]


def told_by_table(result):
    """
    Return how often the terminal's table tells each status.
    """
    rows = (ROW.search(line) for line in result.outlines)
    return Counter(row[1] for row in rows if row)


def told_by_last_line(line):
    """
    Return how many were judged, and how often each status that is no judgement was counted.
    """
    _, _, reasons = line.partition("(")
    counts = {status: int(count) for count, status in re.findall(r"(\d+) ([A-Z_]+)", reasons)}
    return int(re.match(r"kernelperf: (\d+) judged", line)[1]), counts


def verdicts_of(document):
    """
    Return the node id and the verdict of every row that the table has too.
    """
    tabled = [(one, verdict) for one in document["measurements"] for verdict in one["verdicts"]]
    tabled += [(one, one) for one in document["unmeasured"]]
    found = [(f"{case['file']}::{case['test']}", verdict) for case, verdict in tabled]
    invalid = [each for each in document["comparisons"] if each["problem"]]
    return [*found, *((each["label"].split(" ")[0], {"status": "INVALID"}) for each in invalid)]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
@pytest.mark.parametrize("seed", [0, 1])
def test_terminal_document_record_and_exit_status_agree(baselined, options, seed):
    nodes = some_tests(1000 * seed + OPTIONS.index(options) if seed else 0)
    shutil.copytree(baselined.path / "baselines", baselined.path / "before")

    result = baselined.run("--kernelperf", *options, *nodes, *FILES, "-rfE")
    document = baselined.read_json()

    assert document["exit_failed"] == (result.ret != pytest.ExitCode.OK)
    failed = {line[1] for line in map(FAILED.match, result.outlines) if line}
    assert failed - {"test_it.py::test_plain_failing"} == set(document["failed_tests"])
    assert bool(failed) == document["exit_failed"]
    told = [verdict["status"] for _, verdict in verdicts_of(document)]
    if "-q" not in options:
        assert Counter(one for one in told if one.isupper()) == told_by_table(result)
    judged, others = told_by_last_line(result.outlines[-1])
    assert (judged, sum(others.values())) == (
        document["counts"]["judged"],
        document["counts"]["not_judged"],
    )
    assert others.items() <= document["counts"]["statuses"].items()
    for nodeid in failing(document, options):
        assert nodeid in {*document["failed_tests"], *EXCUSED}
    check_record(baselined, document, options)
    check_judgement(baselined, document, options)
    check_update(baselined, options)


def failing(document, options):
    """
    Return the tests that have a verdict which fails them under these options.
    """
    statuses = {status.value for status in FAILING}
    if "--kernelperf-strict" in options:
        statuses |= {status.value for status in FAILING_STRICT}
    if any("update" in option for option in options):
        statuses -= {"NO_BASELINE"}
    if "--kernelperf-accept-regressions" in options:
        statuses -= {"REGRESSED"}
    return {nodeid for nodeid, verdict in verdicts_of(document) if verdict["status"] in statuses}


def check_record(project, document, options):
    """
    Check that the record tells the document's verdicts, and gets them again when judged.
    """
    run = project.read_run()
    gate = Gate(project.path / "before")
    again = judge_run(run, lambda recorded: gate)
    assert [one.verdicts for one in run.recorded] == [one.verdicts for one in again.recorded]
    told = [[each["reason"] for each in one["verdicts"]] for one in document["measurements"]]
    assert told == [[each.reason for each in one.verdicts] for one in again.recorded]
    assert run.comparisons == again.comparisons
    if run.complete:
        broken = {one.measurement.case.label for one in run.recorded if not one.body_passed}
        invalid = {one.label.split(" ")[0] for one in run.comparisons if one.problem}
        slow = failing(document, options) | {
            verdict.case.label.split(" ")[0]
            for one in run.comparisons
            for verdict in one.verdicts
            if verdict.status in FAILING
        }
        assert set(document["failed_tests"]) <= {*run.failed, *broken, *invalid, *slow}


def check_judgement(project, document, options):
    """
    Check that `kernelperf judge` of the record fails the same tests and writes the same document.
    """
    strict = "--kernelperf-strict" in options

    result = project.judge("--baselines", "before", *(["--strict"] if strict else []))

    judged = project.read_json("judged.json")
    for key in ("measurements", "comparisons", "data_independence", "environments", "calibrations"):
        assert document[key] == judged[key]
    told, others = told_by_last_line(result.output.splitlines()[-1])
    not_recorded = len(document["unmeasured"])
    assert told == document["counts"]["judged"] == judged["counts"]["judged"]
    assert sum(others.values()) + not_recorded == document["counts"]["not_judged"]
    stored = set()
    if any("update" in option for option in options):
        # To be stored it failed nothing; against what was stored before, it does.
        stored = failing(judged, ["--kernelperf-strict"] if strict else [])
    live, failed = set(document["failed_tests"]), set(judged["failed_tests"])
    assert live <= failed <= live | stored
    assert bool(failed) == judged["exit_failed"] == (result.exit_code == 1)


def check_update(project, options):
    """
    Check that `kernelperf update` of the record stores what the run itself has stored.
    """
    if not any("update" in option for option in options):
        return
    names = {
        "--kernelperf-update-new": "--new-only",
        "--kernelperf-accept-regressions": "--accept-regressions",
    }
    asked = [names[option] for option in options if option in names]

    project.kernelperf("update", "run.jsonl", "--baselines", "before", *asked)

    assert stored_in(project.path / "baselines") == stored_in(project.path / "before")


def stored_in(folder):
    """
    Return every file of a folder of baselines with its content.
    """
    return {path.relative_to(folder): path.read_text() for path in folder.rglob("*.json")}
