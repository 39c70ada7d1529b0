"""
`kernelperf judge` of a run's record ends as the run did, whatever pytest made of its tests.
"""

from __future__ import annotations

import pytest

PLAIN = """
    def test_it(kernelperf): kernelperf(abs, -1)
"""
RECORD = ("--kernelperf-record", "run.jsonl", "--kernelperf-json", "run.json")
#: What runs a failed test once more, as plugins for that do.
RERUNNING = """
    import pytest
    from _pytest.runner import runtestprotocol

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(item, nextitem):
        for is_last in (False, True):
            for report in runtestprotocol(item, nextitem=nextitem, log=False):
                if report.failed and not is_last:
                    report.outcome = "rerun"
                item.ihook.pytest_runtest_logreport(report=report)
                if report.outcome == "rerun":
                    break
            else:
                return True
"""


class Slower:
    """
    A project whose `test_it` has a baseline of 10 µs and now takes 13.
    """

    def __init__(self, project):
        self.project = project
        project.write(PLAIN)
        project.run("--kernelperf-update", "--kernelperf-processes", "3")
        project.times(13.0)

    def run(self, source, *args, apart=False):
        """
        Run and record a test file, and return pytest's result and the judgement's.
        """
        self.project.write(f"\n    import pytest\n{source}")
        run = self.project.run_apart if apart else self.project.run
        result = run("--kernelperf", *RECORD, *args)
        return result, self.judge(result)

    def judge(self, result):
        """
        Return the record's judgement, which must end as the run did and tell the same.
        """
        judgement = self.project.judge()
        live, judged = self.project.read_json(), self.project.read_json("judged.json")
        assert bool(result.ret) == bool(judgement.exit_code), judgement.output
        assert live["exit_failed"] == judged["exit_failed"]
        assert set(live["failed_tests"]) == set(judged["failed_tests"])
        assert live["measurements"] == judged["measurements"]
        return judgement


@pytest.fixture
def slower(project):
    """
    Return a project that got slower.
    """
    return Slower(project)


EXCUSED = {
    "xfail": "@pytest.mark.xfail(reason='known')",
    "strict xfail": "@pytest.mark.xfail(strict=True)",
    "by its exception": "@pytest.mark.xfail(raises=AssertionError)",
}


@pytest.mark.parametrize("mark", EXCUSED.values(), ids=EXCUSED)
def test_a_slow_verdict_that_was_expected_is_excused_again_and_said(slower, mark):
    result, judgement = slower.run(f"    {mark}{PLAIN}")

    result.assert_outcomes(xfailed=1)
    assert slower.project.read_run().excused == {"test_it.py::test_it": "xfail"}
    assert slower.project.read_run().nodeids == {}
    assert "REGRESSED" in judgement.output
    said = "kernelperf: test_it.py::test_it was excused by pytest (xfail) when it was recorded"
    assert said in judgement.output


@pytest.mark.parametrize("options", [("--runxfail",), ()], ids=["runxfail", "raises"])
def test_a_slow_verdict_that_was_not_expected_fails_again(slower, options):
    result, _ = slower.run(f"    @pytest.mark.xfail(raises=ValueError){PLAIN}", *options)

    result.assert_outcomes(failed=1)
    assert slower.project.read_run().excused == {}


def test_a_strictly_expected_failure_that_passes_fails_again(slower):
    slower.project.times(10.0)

    result, judgement = slower.run(f"    @pytest.mark.xfail(strict=True){PLAIN}")

    result.assert_outcomes(failed=1)
    assert "UNCHANGED" in judgement.output
    assert "test_it.py::test_it failed in its own body" in judgement.output


def test_an_expected_failure_that_passes_is_not_excused(slower):
    """Judged against other baselines it may be slow: nobody has seen pytest excuse that."""
    slower.project.times(10.0)

    result, _ = slower.run(f"    @pytest.mark.xfail{PLAIN}")

    result.assert_outcomes(xpassed=1)
    assert slower.project.read_run().excused == {}


ENDINGS = {
    "xfail": ("pytest.xfail('no more')", "xfailed", "xfail"),
    "skip": ("pytest.skip('no more')", "skipped", "skip"),
}


@pytest.mark.parametrize(("ending", "outcome", "why"), ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("where", ["test", "fixture", "unittest"])
def test_a_test_that_ends_early_after_measuring_is_excused_again(
    slower, ending, outcome, why, where
):
    source = {
        "test": f"""
    def test_it(kernelperf):
        kernelperf(abs, -1)
        {ending}
    """,
        "fixture": f"""
    @pytest.fixture
    def ending(kernelperf):
        kernelperf(abs, -1)
        {ending}

    def test_it(ending): pass
    """,
        "unittest": f"""
    import unittest

    class TestUnit(unittest.TestCase):
        @pytest.fixture(autouse=True)
        def take(self, kernelperf): self.kernelperf = kernelperf

        def test_it(self):
            self.kernelperf(abs, -1)
            {ending}
    """,
    }[where]

    result, judgement = slower.run(source)

    result.assert_outcomes(**{outcome: 1})
    assert f"::test_it was excused by pytest ({why})" in judgement.output
    assert "in its own body" not in judgement.output


FAILURES = {
    "teardown": """
    @pytest.mark.xfail(raises=AssertionError)
    def test_it(kernelperf, request):
        request.addfinalizer(lambda: 1 / 0)
        kernelperf(abs, -1)
    """,
    "subtest": """
    def test_it(kernelperf, subtests):
        kernelperf(abs, -1)
        with subtests.test("wrong"):
            assert 0
        pytest.skip("no more")
    """,
    "one of two measurements": """
    def test_it(kernelperf):
        kernelperf.measure(abs, (-1,), name="new")
        kernelperf(abs, -1)
    """,
    "unittest": """
    import unittest

    class TestUnit(unittest.TestCase):
        @pytest.fixture(autouse=True)
        def take(self, kernelperf): self.kernelperf = kernelperf

        @unittest.expectedFailure
        def test_it(self): self.kernelperf(abs, -1)

        def test_subtests(self):
            self.kernelperf(abs, -1)
            with self.subTest("wrong"):
                assert 0
    """,
}


@pytest.mark.parametrize("kind", FAILURES)
def test_what_pytest_fails_after_all_is_not_excused(slower, kind):
    if kind == "subtest" and not hasattr(pytest, "Subtests"):
        pytest.skip("this pytest has no subtests")

    result, judgement = slower.run(FAILURES[kind])

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert slower.project.read_run().excused == {}
    assert "excused" not in judgement.output


@pytest.mark.parametrize("options", ["-x", "--maxfail=1"])
def test_a_run_that_stopped_at_a_failure_fails_again(slower, options):
    result, judgement = slower.run(
        """
    @pytest.mark.xfail
    def test_it(kernelperf): kernelperf(abs, -1)
    def test_raises(kernelperf): kernelperf(lambda: 1 / 0)
    def test_never(kernelperf): kernelperf(abs, -1)
    """,
        options,
    )

    result.assert_outcomes(xfailed=1, failed=1)
    assert not slower.project.read_run().complete
    assert "was cut off" in judgement.output
    assert slower.project.read_json("judged.json")["failed_tests"] == ["test_it.py::test_raises"]


def test_a_test_that_was_run_again_and_passed_is_excused(slower):
    slower.project.pytester.makepyfile(rerunning=RERUNNING)
    slower.project.pytester.syspathinsert()
    source = """
    attempts = []

    def test_it(kernelperf):
        kernelperf(abs, -1)
        attempts.append(1)
        assert len(attempts) > 1
    """
    slower.project.times(10.0)

    result, judgement = slower.run(source, "-p", "rerunning")

    assert result.ret == pytest.ExitCode.OK
    assert "test_it.py::test_it was excused by pytest (rerun)" in judgement.output


def test_a_test_that_was_run_again_and_failed_again_fails(slower):
    slower.project.pytester.makepyfile(rerunning=RERUNNING)
    slower.project.pytester.syspathinsert()

    result, judgement = slower.run(PLAIN, "-p", "rerunning")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "excused" not in judgement.output


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_worker_of_xdist_excuses_as_none_does(slower, workers):
    run = ("-p", "xdist", "-n", workers)

    result, _ = slower.run(f"    @pytest.mark.xfail{PLAIN}", *run, apart=True)

    result.assert_outcomes(xfailed=1)
    assert slower.project.read_run().excused == {"test_it.py::test_it": "xfail"}


def test_tests_below_an_anchor_of_their_own_are_told_as_pytest_names_them(slower):
    folder = slower.project.path / "inner"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    (folder / "test_inner.py").write_text(
        "import pytest\n"
        "def test_raises(kernelperf): kernelperf(lambda: 1 / 0)\n"
        "def test_wrong(kernelperf): assert kernelperf(abs, -1) == 2\n"
        "@pytest.mark.xfail\n"
        "def test_known(kernelperf): assert kernelperf(abs, -1) == 2\n"
    )

    slower.run("")

    judged = slower.project.read_json("judged.json")
    assert {f"inner/test_inner.py::test_{name}" for name in ("raises", "wrong")} == set(
        judged["failed_tests"]
    )


def test_two_tests_of_one_name_below_two_anchors_get_no_record_in_which_one_excuses_both(slower):
    for name, mark in (("known", "@pytest.mark.xfail"), ("unknown", "")):
        folder = slower.project.path / name
        folder.mkdir()
        (folder / "pyproject.toml").touch()
        (folder / "test_inner.py").write_text(
            f"import pytest\n{mark}\ndef test_wrong(kernelperf): assert kernelperf(abs, -1) == 2\n"
        )

    slower.project.write("")
    result = slower.project.run(
        "--kernelperf", "--import-mode=importlib", "--kernelperf-json", "run.json"
    )
    recorded = slower.project.run("--kernelperf", "--import-mode=importlib", *RECORD)

    result.assert_outcomes(xfailed=1, failed=1)
    recorded.assert_outcomes(errors=1)
    recorded.stdout.fnmatch_lines(["*are both test_inner.py to a record, *"])
