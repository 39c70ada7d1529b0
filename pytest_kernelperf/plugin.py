"""
The pytest plugin: options, the marker, the fixture; a measuring run is `session.MeasuringRun`.

Every pytest run of an environment loads this, so it loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kernelperf.errors import (
    KernelPerfError,
    KernelPerfFailure,
    MisreadPathError,
    OptionsError,
    RevisionError,
)
from pytest_kernelperf.options import MARKER, Layer, Options, merge, parse_mark
from pytest_kernelperf.settings import Settings, read_settings

if TYPE_CHECKING:
    from pytest_kernelperf.fixture import KernelPerf

SETTINGS = pytest.StashKey[Settings]()
#: The name under which a measuring run is registered.
_RUN = "kernelperf-measuring-run"


def pytest_addoption(parser: pytest.Parser) -> None:
    """
    Add the options and ini keys; https://docs.pytest.org/en/stable/reference/reference.html.
    """
    group = parser.getgroup("kernelperf", "kernel performance")
    for name, text in _FLAGS.items():
        dest = "measure" if name == "" else name.replace("-", "_")
        flag = "--kernelperf" + (f"-{name}" if name else "")
        group.addoption(flag, action="store_true", dest=f"kernelperf_{dest}", help=text)
    for name, (metavar, text) in _VALUES.items():
        dest = f"kernelperf_{name.replace('-', '_')}"
        group.addoption(f"--kernelperf-{name}", metavar=metavar, dest=dest, help=text)
    for name, (kind, text) in _INI_KEYS.items():
        parser.addini(f"kernelperf_{name}", text, type=kind, default=None)


def pytest_configure(config: pytest.Config) -> None:
    """
    Read the settings; register the marker, and under `--kernelperf` the measuring run.
    """
    config.addinivalue_line(
        "markers",
        f"{MARKER}(*, target_us, percentile, targets, per, percentiles, max_regression, timer, l2, "
        "pace, rounds, samples, max_time, mutates, check, deterministic, requires, resources): "
        "measure this test's kernel under --kernelperf and fail it if it became slower",
    )
    try:
        settings = _settings(config)
    except OptionsError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[SETTINGS] = settings
    if settings.measuring:
        _refuse_without_tests(config)
        _refuse_several_workers(config, settings)
        _refuse_without_compiler(settings)
        _register_run(config, settings)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Check the marks of the selected tests: a wrong one is a collection error of its test.
    """
    wrong = {id(item) for item in items if _marks(item) and not _is_marked_right(item)}
    dropped = []
    settings = config.stash[SETTINGS]
    if settings.compile_only or settings.only:
        from pytest_kernelperf.stash import asks_for_resources, is_measured

        is_wanted = asks_for_resources if settings.compile_only else is_measured
        dropped = [item for item in items if not is_wanted(item)]
        config.hook.pytest_deselected(items=dropped)
    gone = wrong | {id(item) for item in dropped}
    items[:] = [item for item in items if id(item) not in gone]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """
    Skip a test that requires what this machine lacks.
    """
    if item.get_closest_marker(MARKER) is None:
        return
    from pytest_kernelperf.requires import find_missing

    missing = find_missing(merge(_layers(item)).requires)
    if missing:
        from pytest_kernelperf.stash import MISSING

        item.stash[MISSING] = missing
        pytest.skip(missing)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """
    Show what a test did wrong with us as its own affair: its line, our message.
    """
    error = call.excinfo.value if call.excinfo else None
    if not isinstance(error, KernelPerfError):
        return (yield)
    from pytest_kernelperf.pytest_reports import hide_our_frames, quote

    if not isinstance(error, KernelPerfFailure):
        hide_our_frames(item, call)
    report = yield
    quote(report, error)
    return report


@pytest.fixture
def kernelperf(request: pytest.FixtureRequest) -> KernelPerf:
    """
    Measures a callable under --kernelperf, and calls it once without.
    """
    from pytest_kernelperf.fixture import KernelPerf
    from pytest_kernelperf.session import MeasuringRun
    from pytest_kernelperf.stash import FIXTURE, room_of

    def value_of(name: str) -> Any:
        if name not in request.fixturenames:
            raise LookupError(name)
        return request.getfixturevalue(name)

    item = request.node
    run = request.config.pluginmanager.getplugin(_RUN)
    measuring = run if isinstance(run, MeasuringRun) else None
    fixture = KernelPerf(
        layers=_layers(item),
        place=measuring.bench().place(item.nodeid, item.path) if measuring else None,
        bench=measuring.bench_for(item) if measuring else None,
        room=lambda: room_of(request.config),
        value_of=value_of,
    )
    item.stash[FIXTURE] = fixture
    return fixture


# --- options ------------------------------------------------------------------------------------

_FLAGS = {
    "": "Measure the tests marked kernel_perf, judge them, fail what became slower.",
    "only": "Run only tests that are marked kernel_perf or use the kernelperf fixture.",
    "update": "Accept what was measured as the new baseline; implies --kernelperf.",
    "update-new": "Store baselines only where there is none; implies --kernelperf.",
    "accept-regressions": "Let --kernelperf-update store slower times too.",
    "compile-only": "Only compile the kernels of tests with resources=, as without a GPU.",
    "strict": "Fail what could not be judged (INCONCLUSIVE, NO_BASELINE, ...), and if nothing was.",
}

_VALUES = {
    "baselines": ("DIR", "Folder of the baselines (default: baselines/ beside the ini file)."),
    "record": ("FILE", "Record all that was measured, for `kernelperf judge` anywhere."),
    "rounds": ("N", "Rounds per measurement, whatever marks and baselines say."),
    "timer": ("NAME", "Timer for all tests: device, launch, wall, or several with commas."),
    "max-time": ("S", "Longest time for one measurement, seconds."),
    "processes": ("N", "Measure each test in N processes (default: 1, then 3, 5 if undecided)."),
    "budget": ("S", "Longest time for measuring in fresh processes, seconds, whole run."),
    "against": ("REV", "Compare with this git revision, or merge-base, instead of baselines."),
    "json": ("FILE", "Write verdicts and numbers as JSON."),
}

_INI_KEYS: dict[str, tuple[Any, str]] = {
    "timer": ("string", "Timer of tests that name none: device, launch, wall, or several."),
    "l2": ("string", "Cache state of tests that name none: cold or warm."),
    "pace": ("string", "Duty cycle of tests that name none: paced or sustained."),
    "percentiles": ("args", "Percentiles judged where a test names none, such as 50 99."),
    "max_regression": ("string", "Margin where a test names none: 0.02, or 50=0.02 99=0.15."),
    "rounds": ("int", "Rounds per measurement where a test names none."),
    "max_time": ("float", "Longest time for one measurement, seconds."),
    "processes": ("int", "Processes per test, as --kernelperf-processes."),
    "budget": ("float", "Longest time in fresh processes, as --kernelperf-budget."),
    "baselines": ("string", "Folder of the baselines, relative to this file."),
    "build": ("string", "Builds a revision's checkout for --kernelperf-against; a shell command."),
    "strict": ("bool", "Fail what could not be judged, as --kernelperf-strict."),
    "hang_timeout": ("float", "End the run if one call takes longer, seconds; 0: never."),
}


def _settings(config: pytest.Config) -> Settings:
    def option(name: str) -> Any:
        return config.getoption(f"kernelperf_{name}")

    def ini(name: str) -> Any:
        try:
            return config.getini(f"kernelperf_{name}")
        except (TypeError, ValueError) as error:  # pytest 8 does not say which key it was
            raise OptionsError(f"kernelperf_{name}: {error}") from None

    folder = config.invocation_params.dir
    return read_settings(option, ini, folder, config.inipath.parent if config.inipath else folder)


def _register_run(config: pytest.Config, settings: Settings) -> None:
    from pytest_kernelperf.command_line import check_paths_apart
    from pytest_kernelperf.reruns import reruns_configured
    from pytest_kernelperf.session import MeasuringRun

    run = MeasuringRun(config, settings)
    try:
        if not run.is_worker:
            check_paths_apart(config)
        run.check_paths()
    except (MisreadPathError, RevisionError) as error:
        pytest.exit(str(error), returncode=2)
    except KernelPerfError as error:
        raise pytest.UsageError(str(error)) from None
    warning = reruns_configured(config)
    if warning:
        run.ledger.warnings.append(warning)
    config.pluginmanager.register(run, _RUN)


def _refuse_without_tests(config: pytest.Config) -> None:
    # Such a run passes, and would replace the record of one that measured.
    for option, flag in (("setupplan", "--setup-plan"), ("setuponly", "--setup-only")):
        if config.getoption(option, default=False):
            raise pytest.UsageError(
                f"{flag} runs no test, so nothing would be measured: leave it or --kernelperf out"
            )


def _refuse_several_workers(config: pytest.Config, settings: Settings) -> None:
    is_timed = not settings.compile_only
    if not is_timed or config.getoption("dist", default="no") == "no":
        return
    if settings.against:
        raise pytest.UsageError(
            "--kernelperf-against measures in processes of its own, and not with pytest-xdist: "
            "use -n 0"
        )
    # "3*popen" means three workers.
    specs = config.getoption("tx", default=None) or []
    counts = [spec.split("*", 1)[0] for spec in specs]
    workers = sum(int(count) if count.isdigit() else 1 for count in counts)
    if workers > 1:
        raise pytest.UsageError(
            f"--kernelperf measures with one worker of pytest-xdist at most, got {workers}: tests "
            "that run at once slow each other down; use -n 1, or -n 0"
        )


def _refuse_without_compiler(settings: Settings) -> None:
    import shlex

    from pytest_kernelperf.gpuless import missing_compiler

    missing = missing_compiler() if settings.compile_only else ""
    if missing:
        raise pytest.UsageError(
            f"--kernelperf-compile-only compiles Triton kernels, and {missing} is not installed "
            f"here: pip install {shlex.quote(missing)}"
        )


# --- marks --------------------------------------------------------------------------------------


def _layers(item: pytest.Item) -> tuple[Layer, ...]:
    """
    Return a test's options in rising precedence.

    That is ini, module, class, function, parameter set, command line. Of several marks on one
    object the last applied wins, so a class's own mark wins over its base class's.
    """
    settings = item.config.stash[SETTINGS]
    own = [parse_mark(mark.name, mark.args, mark.kwargs) for mark in _marks(item)]
    return (settings.defaults, *own, settings.forced)


def _marks(item: pytest.Item) -> list[pytest.Mark]:
    marks = (mark for node in item.listchain() for mark in node.own_markers)
    return [mark for mark in marks if mark.name in (MARKER, "kernelperf")]


def _is_marked_right(item: pytest.Item) -> bool:
    try:
        options: Options = merge(_layers(item))
        _check_per(item, options.per)
    except OptionsError as error:
        from pytest_kernelperf.pytest_reports import report_collection_error

        report_collection_error(item.config, item.nodeid, str(error))
        return False
    if item.config.stash[SETTINGS].measuring:
        from pytest_kernelperf.stash import OPTIONS

        item.stash[OPTIONS] = options
    return True


def _check_per(item: pytest.Item, per: float | str) -> None:
    """
    Refuse a `per=` that names neither a parameter of the test nor any fixture that it could use.

    Only in a mark of its own: a module's or class's may suit the other tests, and this one's calls
    say otherwise or need none.
    """
    names = getattr(item, "fixturenames", None)
    if names is None or not isinstance(per, str) or per in names:
        return
    own_marks = [mark for mark in _marks(item) if mark in item.own_markers]
    if not any("per" in mark.kwargs for mark in own_marks):
        return
    # Not among the arguments, it may still be asked for while the test runs.
    if item.session._fixturemanager.getfixturedefs(per, item):
        return
    from pytest_kernelperf.keywords import unknown

    own = [one for one in names if one not in ("kernelperf", "request") and one[0] != "_"]
    raise OptionsError(f"{MARKER}: per: {unknown('parameter or fixture', per, own)}")
