"""
Command line options and ini keys, each with what it changes.
"""

from __future__ import annotations

import pytest


def recorded_with(project, *args):
    """
    Return what a run with these options recorded.
    """
    result = project.run("--kernelperf", "--kernelperf-record", "run.jsonl", *args)
    assert result.ret == pytest.ExitCode.OK
    return project.read_run().recorded


def test_help_names_every_option_and_ini_key(project):
    result = project.run("--help")

    for name in ("", "-only", "-update", "-update-new", "-accept-regressions", "-strict",
                 "-baselines", "-record", "-rounds", "-timer", "-max-time", "-processes", "-budget",
                 "-json"):  # fmt: skip
        result.stdout.fnmatch_lines([f"*--kernelperf{name}*"])
    for name in ("timer", "l2", "pace", "percentiles", "max_regression", "rounds", "max_time",
                 "processes", "budget", "baselines", "strict", "hang_timeout"):  # fmt: skip
        result.stdout.fnmatch_lines([f"*kernelperf_{name} (*"])
    result.stdout.no_fnmatch_line("*--kernelperf-html*")


def test_only_leaves_out_tests_that_measure_nothing(project):
    project.write_two("\n    def test_plain(): pass")

    result = project.run("--kernelperf-only")

    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=2, deselected=1)


def test_rounds_win_over_the_mark(project):
    project.write(
        """
        from pytest_kernelperf import kernel_perf

        @kernel_perf(rounds=7)
        def test_it(kernelperf): kernelperf(abs, -1)
        """
    )

    (recorded,) = recorded_with(project, "--kernelperf-rounds", "2")

    assert len(recorded.measurement.processes[0].rounds) == 2


def test_the_timer_wins_over_the_mark_and_may_be_several(project):
    project.write(
        """
        from pytest_kernelperf import kernel_perf

        @kernel_perf(timer="device")
        def test_it(kernelperf): kernelperf(abs, -1)
        """
    )

    found = recorded_with(project, "--kernelperf-timer", "wall,launch")

    assert [one.measurement.case.timer for one in found] == ["wall", "launch"]


def test_the_longest_time_reaches_the_measuring_room(project):
    project.write()
    project.pytester.makeconftest(
        (project.path / "conftest.py").read_text()
        + """
class Checked(ScriptedRoom):
    def measure(self, subject, jobs, *, progress):
        assert [job.max_time_s for job in jobs] == [2.5]
        return super().measure(subject, jobs, progress=progress)

def pytest_sessionstart(session):
    session.config.stash[ROOM] = Checked(Path(__file__).parent)
"""
    )

    result = project.run("--kernelperf", "--kernelperf-max-time", "2.5")

    result.assert_outcomes(passed=1)


def test_baselines_lie_where_the_command_line_says(project):
    project.write()

    result = project.run("--kernelperf-update", "--kernelperf-baselines", "elsewhere")

    assert result.ret == pytest.ExitCode.OK
    assert project.baseline_files() == []
    assert (project.path / "elsewhere/nvidia-scripted/test_it.json").is_file()
    project.times(13.0)
    slower = project.run("--kernelperf", "--kernelperf-baselines", "elsewhere")
    slower.stdout.fnmatch_lines(["*rerun: *--kernelperf --kernelperf-baselines=elsewhere"])


def test_baselines_lie_under_the_test_files_anchor_wherever_pytest_was_started(project):
    (project.path / "sub").mkdir()
    (project.path / "sub" / "setup.cfg").touch()
    (project.path / "sub" / "test_deep.py").write_text(
        "def test_it(kernelperf): kernelperf(abs, -1)"
    )

    assert project.run("--kernelperf-update", "sub").ret == pytest.ExitCode.OK
    assert project.baseline_files() == []
    assert (project.path / "sub/baselines/nvidia-scripted/test_deep.json").is_file()


def test_baselines_that_are_named_and_not_there_are_a_usage_error(project):
    """
    A slip in the folder's name would pass everything for want of a baseline.
    """
    project.write()

    result = project.run("--kernelperf", "--kernelperf-baselines", "baslines")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --kernelperf-baselines: there is no folder *baslines*"])


def test_named_baselines_without_a_single_one_are_a_usage_error(project):
    """
    The folder of one card is named easily for the folder of all.
    """
    project.write()
    project.run("--kernelperf-update")

    result = project.run("--kernelperf", "--kernelperf-baselines", "baselines/nvidia-scripted")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *nvidia-scripted holds no baseline; expected *<card>*"])


@pytest.mark.parametrize("wrong", [".", "baselines/nvidia-scripted"])
def test_a_folder_above_or_below_the_named_baselines_is_a_usage_error(project, wrong):
    """
    Both hold files of baselines, and every kernel would pass as one without a baseline.
    """
    (project.path / "perf").mkdir()
    (project.path / "perf" / "test_it.py").write_text(
        "def test_it(kernelperf): kernelperf(abs, -1)"
    )
    project.run("--kernelperf-update")
    (project.path / "a_package").mkdir()
    (project.path / "a_package" / "package.json").write_text("{}")

    result = project.run("--kernelperf", "--kernelperf-baselines", wrong)
    right = project.run("--kernelperf", "--kernelperf-baselines", "baselines")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *holds no baseline; *name {project.path}/baselines,*"])
    assert right.ret == pytest.ExitCode.OK


def test_an_empty_folder_of_baselines_can_be_named_for_an_update(project):
    project.write()
    (project.path / "empty").mkdir()

    result = project.run("--kernelperf-update-new", "--kernelperf-baselines", "empty")

    assert result.ret == pytest.ExitCode.OK
    assert (project.path / "empty/nvidia-scripted/test_it.json").is_file()


def test_baselines_that_the_ini_file_names_and_are_not_there_are_warned_about(project):
    project.pytester.makeini("[pytest]\nkernelperf_baselines = kept")
    project.write()

    before = project.run("--kernelperf")
    update = project.run("--kernelperf-update")

    before.stdout.fnmatch_lines(["kernelperf: warning: kernelperf_baselines: *no folder *kept*"])
    update.stdout.no_fnmatch_line("*warning: kernelperf_baselines*")


def test_the_last_line_counts_a_test_that_asks_for_the_fixture_late(project):
    project.write("def test_it(request): request.getfixturevalue('kernelperf')(abs, -1)")

    result = project.run("--kernelperf")

    result.stdout.fnmatch_lines(["kernelperf: 0 judged, 1 NOT judged (1 NO_BASELINE)"])


@pytest.mark.parametrize("table", ["ini", "pyproject_ini", "pyproject_native"])
def test_ini_keys_work_in_every_table_that_pytest_reads(project, table):
    """
    Pytest's own TOML table, new in 9, keeps types; the older one makes texts of them.
    """
    if table == "pyproject_native" and int(pytest.__version__.split(".")[0]) < 9:
        pytest.skip("[tool.pytest] came with pytest 9")
    values = {
        "kernelperf_timer": '"launch"',
        "kernelperf_l2": '"warm"',
        "kernelperf_pace": '"paced"',
        "kernelperf_percentiles": '["50", "99"]',
        "kernelperf_max_regression": '"50=0.03 95=0.2"',
        "kernelperf_rounds": "3",
        "kernelperf_max_time": "2.5",
        "kernelperf_baselines": '"kept"',
        "kernelperf_strict": "false",
        "kernelperf_hang_timeout": "60.0",
    }
    lines = [f"{name} = {value}" for name, value in values.items()]
    if table == "ini":
        lines = [line.translate(str.maketrans("", "", '"[],')) for line in lines]
        project.pytester.makeini("[pytest]\n" + "\n".join(lines))
    else:
        (project.path / "tox.ini").unlink()
        head = "[tool.pytest.ini_options]" if table == "pyproject_ini" else "[tool.pytest]"
        project.pytester.makepyprojecttoml("\n".join([head, *lines]))
    project.write("def test_it(kernelperf): kernelperf(abs, -1)")

    result = project.run("--kernelperf-update", "--kernelperf-record", "run.jsonl")

    assert result.ret == pytest.ExitCode.OK
    (recorded,) = project.read_run().recorded
    case = recorded.measurement.case
    assert (case.timer, case.l2, case.pace) == ("launch", "warm", "paced")
    assert recorded.limits.percentiles == (50.0, 95.0, 99.0)
    assert recorded.limits.max_regression == {50.0: 0.03, 95.0: 0.2}
    assert len(recorded.measurement.processes[0].rounds) == 3
    assert (project.path / "kept/nvidia-scripted/test_it.json").is_file()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--kernelperf", "--kernelperf-rounds", "many"), "--kernelperf-rounds: expected numbers*"),
        (("--kernelperf", "--kernelperf-timer", "devise"), "*unknown timer 'devise'*'device'?"),
        (("--kernelperf-strict",), "--kernelperf-strict does nothing without --kernelperf: add it"),
        (("--kernelperf-json", "a.json"), "--kernelperf-json does nothing without --kernelperf*"),
        (
            ("--kernelperf", "-o", "kernelperf_timer=fast"),
            "kernelperf_timer: unknown timer 'fast'*",
        ),
        (("--kernelperf", "-o", "kernelperf_rounds=few"), "*few*"),
    ],
)
def test_a_wrong_option_is_a_usage_error_before_anything_runs(project, args, message):
    project.write()

    result = project.run(*args)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_reruns_are_warned_about(project):
    project.write()
    project.pytester.makepyfile(
        fake_reruns="def pytest_addoption(parser): parser.addoption('--reruns', type=int)"
    )
    project.pytester.syspathinsert()

    result = project.run("-p", "fake_reruns", "--reruns", "2", "--kernelperf")

    result.stdout.fnmatch_lines(["kernelperf: warning: reruns are configured (--reruns=2)*"])


def test_tests_marked_flaky_are_warned_about(project):
    project.write(
        """
        import pytest

        @pytest.mark.flaky
        def test_it(kernelperf): kernelperf(abs, -1)
        """
    )

    result = project.run("--kernelperf", "-W", "ignore")

    result.stdout.fnmatch_lines(["kernelperf: warning: tests are marked flaky*"])


@pytest.mark.parametrize("quiet", ["-q", "-qq"])
def test_the_last_line_is_there_even_when_quiet(project, quiet):
    project.write()

    result = project.run("--kernelperf", quiet)

    assert result.outlines[-1] == "kernelperf: 0 judged, 1 NOT judged (1 NO_BASELINE)"
    result.stdout.no_fnmatch_line("*===*kernelperf*")


def test_notes_of_a_measurement_are_shown(project):
    project.write()
    project.script(notes=["synchronises: host time is inside"])

    result = project.run("--kernelperf")

    result.stdout.fnmatch_lines(["note: *test_kernel*(device): synchronises: host time is inside"])


def test_notes_of_compared_callables_are_shown_once(project):
    project.write(
        """
        def test_it(kernelperf):
            kernelperf.compare({"a": abs, "b": abs}, (-1,), reference="a")
        """
    )
    project.script(notes=["can't be captured"])

    result = project.run("--kernelperf")

    lines = [line for line in result.outlines if line.startswith("note: ")]
    assert lines == ["note: test_it.py::test_it compare (device): can't be captured"]


@pytest.mark.parametrize("args", [("-p", "no:terminal"), ("--no-summary",), ("--tb=no", "-rN")])
def test_other_ways_to_report_do_not_disturb(project, args):
    project.write()

    assert project.run("--kernelperf-update", *args).ret == pytest.ExitCode.OK
    assert project.baseline_files() == ["nvidia-scripted/test_it.json"]


def test_a_baseline_that_was_missing_and_is_stored_needs_no_cure(project):
    project.write("def test_it(kernelperf): kernelperf(abs, -1)")

    result = project.run("--kernelperf-update")

    result.stdout.no_fnmatch_line("*rerun:*")
    result.stdout.fnmatch_lines(["added *test_it*", "*1 NOT judged (1 NO_BASELINE)"])


@pytest.mark.parametrize("option", ["--kernelperf-record", "--kernelperf-json"])
@pytest.mark.parametrize("where", ["command line", "PYTEST_ADDOPTS"])
def test_an_output_file_that_pytest_takes_for_tests_is_refused(
    project, tmp_path_factory, monkeypatch, option, where
):
    """
    The ini file is sought above it: the second of two equal commands would lose the project's.
    """
    project.pytester.makeini("[pytest]\nkernelperf_strict = true")
    project.write("def test_it(kernelperf): print('MEASURING'); kernelperf(abs, -1)")
    file = tmp_path_factory.mktemp("out") / "run.json"
    args = ("--kernelperf", option, str(file))
    if where == "PYTEST_ADDOPTS":
        monkeypatch.setenv("PYTEST_ADDOPTS", f"{option} {file}")
        args = ("--kernelperf",)

    first = project.run_apart(*args)
    second = project.run_apart(*args, "-s")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    named = project.run_apart("--kernelperf", f"{option}={file}")

    assert first.ret == pytest.ExitCode.TESTS_FAILED
    assert second.ret == 2
    second.stderr.fnmatch_lines([f"*{option} {file}: *for a place of tests*write {option}={file}"])
    second.stdout.no_fnmatch_line("*MEASURING*")
    assert named.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(
    "args", [("run.jsonl",), ("{folder}/run.jsonl",), ("{out}", "-c", "tox.ini")]
)
def test_an_output_file_that_moves_no_ini_file_may_stand_apart(project, tmp_path_factory, args):
    project.write()
    out = tmp_path_factory.mktemp("out") / "run.jsonl"
    words = [one.format(folder=project.path, out=out) for one in args]

    for _ in range(2):
        result = project.run("--kernelperf", "--kernelperf-record", *words)

        assert result.ret == pytest.ExitCode.OK


@pytest.mark.parametrize("flag", ["--setup-only", "--setup-plan"])
def test_a_run_without_tests_is_refused_and_replaces_no_record(project, flag):
    """It passed, and left an empty record in place of the last run's."""
    project.write()
    project.run("--kernelperf", "--kernelperf-record=run.jsonl")
    before = project.read_run()

    result = project.run("--kernelperf", "--kernelperf-record=run.jsonl", flag)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {flag} runs no test*leave it or --kernelperf out"])
    assert before == project.read_run()
