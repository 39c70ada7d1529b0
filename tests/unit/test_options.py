"""
Marks, ini keys and command line: what is accepted, what is refused, and what wins.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.options import Options, merge, parse_keywords, parse_mark
from pytest_kernelperf.settings import Settings, read_settings


def options(**keywords):
    """
    Return the options of a single mark.
    """
    return merge([parse_keywords(keywords)])


def settings(ini=None, **given):
    """
    Return the settings of a run with these options and ini keys.
    """
    ini = ini or {}
    return read_settings(given.get, ini.get, Path("/runs"), Path("/ini"))


def test_no_keyword_means_the_defaults():
    assert Options() == options()
    assert options().percentiles == (50.0,)


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"target_us": 5}, {"targets_us": {50.0: 5.0}}),
        (
            {"target_us": 5, "percentile": 99},
            {"targets_us": {99.0: 5.0}, "percentiles": (50.0, 99.0)},
        ),
        (
            {"targets": {50: 5, 99: 8}},
            {"targets_us": {50.0: 5.0, 99.0: 8.0}, "percentiles": (50.0, 99.0)},
        ),
        ({"percentiles": (99, 50)}, {"percentiles": (50.0, 99.0)}),
        ({"percentiles": (99,)}, {"percentiles": (99.0,)}),
        ({"percentiles": 95}, {"percentiles": (95.0,)}),
        ({"max_regression": 0.02}, {"max_regression": {50.0: 0.02}}),
        (
            {"max_regression": {99: 0.15}},
            {"max_regression": {99.0: 0.15}, "percentiles": (50.0, 99.0)},
        ),
        ({"per": 8}, {"per": 8.0}),
        ({"per": "batch"}, {"per": "batch"}),
        ({"timer": "wall"}, {"timers": ("wall",)}),
        ({"flops": 10**9, "bytes": len}, {"flops": 1e9, "moved_bytes": len}),
        ({"timer": ("device", "launch")}, {"timers": ("device", "launch")}),
        ({"timer": ["launch"]}, {"timers": ("launch",)}),
        ({"l2": "warm"}, {"l2": "warm"}),
        ({"pace": "paced"}, {"pace": "paced"}),
        ({"rounds": 3}, {"rounds": 3}),
        ({"samples": 30}, {"samples": 30}),
        ({"max_time": 1.5}, {"max_time_s": 1.5}),
        ({"mutates": "out"}, {"mutates": ("out",)}),
        ({"mutates": ("out", 2)}, {"mutates": ("out", 2)}),
        ({"deterministic": False}, {"deterministic": False}),
        ({"requires": "cuda"}, {"requires": ("cuda",)}),
        ({"requires": ("cuda", "sm_100")}, {"requires": ("cuda", "sm_100")}),
    ],
)
def test_a_keyword_is_read_into_one_form(keywords, expected):
    found = options(**keywords)

    assert expected == {name: getattr(found, name) for name in expected}


def test_check_is_kept_as_it_is():
    def check(output):
        return None

    assert check is options(check=check).check


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"targetus": 5}, "unknown keyword 'targetus': did you mean 'target_us'?"),
        ({"percentil": 5}, "did you mean 'percentile'?"),
        ({"target": 5}, "did you mean 'target_us' or 'targets'?"),
        ({"xyzzy": 5}, "unknown keyword 'xyzzy': expected one of bytes, check, deterministic"),
        ({"flops": 0}, "flops: expected a number above 0 or a function, got 0"),
        ({"bytes": "2 MB"}, "bytes: expected a number above 0 or a function, got '2 MB'"),
        ({"min_speedup": 1.1}, "unknown keyword 'min_speedup': it is given to kernelperf.compare("),
        ({"name": "fwd"}, "unknown keyword 'name': it is given to kernelperf.measure("),
        ({"target_us": -1}, "target_us: expected microseconds above 0, got -1"),
        ({"target_us": 0}, "target_us: expected microseconds above 0, got 0"),
        ({"target_us": float("nan")}, "target_us: expected microseconds above 0, got nan"),
        ({"target_us": float("inf")}, "got inf"),
        ({"target_us": True}, "target_us: expected microseconds above 0, got True"),
        ({"target_us": "5"}, "got '5'"),
        ({"target_us": None}, "got None"),
        ({"target_us": 5, "percentile": 100}, "expected a percentile between 0 and 100, got 100"),
        ({"target_us": 5, "percentile": 0}, "expected a percentile between 0 and 100, got 0"),
        ({"percentile": 99}, "there is no target_us: give it, or use percentiles="),
        ({"targets": {}}, "expected a dictionary"),
        ({"targets": [5]}, "expected a dictionary"),
        ({"targets": {50: -5}}, "got -5"),
        ({"targets": {"p50": 5}}, "got 'p50'"),
        ({"target_us": 5, "targets": {50: 6}}, "both limit P50: keep one"),
        ({"percentiles": ()}, "at least one percentile"),
        ({"percentiles": "99"}, "got '99'"),
        ({"percentiles": (50, 101)}, "got 101"),
        ({"percentiles": {50: 1}}, "expected a percentile between 0 and 100"),
        ({"max_regression": 2}, "2 % is written 0.02"),
        ({"max_regression": 0}, "max_regression: expected a fraction above 0"),
        ({"max_regression": {}}, "at least one percentile"),
        ({"max_regression": {50: True}}, "got True"),
        ({"per": 0}, "per: expected a number above 0 or the name"),
        ({"per": "a-b"}, "got 'a-b'"),
        ({"timer": "devise"}, "unknown timer 'devise': did you mean 'device'?"),
        ({"timer": ()}, "expected each timer once"),
        ({"timer": ("wall", "wall")}, "expected each timer once"),
        ({"timer": 3}, "expected one of device, launch, wall, got 3"),
        ({"l2": "hot"}, "unknown l2 state 'hot'"),
        ({"pace": "sustaned"}, "unknown pace 'sustaned': did you mean 'sustained'?"),
        ({"rounds": 0}, "rounds: expected a whole number of at least 1, got 0"),
        ({"rounds": 2.5}, "got 2.5"),
        ({"samples": True}, "got True"),
        ({"max_time": -1}, "max_time: expected seconds above 0, got -1"),
        ({"mutates": -1}, "got -1"),
        ({"mutates": True}, "got True"),
        ({"mutates": "a b"}, "got 'a b'"),
        ({"check": 5}, "check: expected a function of the output, got 5"),
        ({"deterministic": 1}, "deterministic: expected True or False, got 1"),
        ({"requires": "rocm"}, "requires: expected 'cuda' or a compute capability"),
        ({"requires": 90}, "got 90"),
    ],
)
def test_a_wrong_keyword_or_value_is_refused_by_name(keywords, message):
    with pytest.raises(OptionsError) as caught:
        options(**keywords)

    assert message in str(caught.value)
    assert str(caught.value).startswith("kernel_perf: ")


def test_positional_arguments_are_refused():
    with pytest.raises(OptionsError, match=r"expected keywords only, got the positional 5"):
        parse_mark("kernel_perf", (5,), {})


def test_the_fixtures_name_as_a_mark_is_refused_with_the_right_name():
    with pytest.raises(OptionsError, match=r"@pytest\.mark\.kernel_perf"):
        parse_mark("kernelperf", (), {})


def test_layers_merge_keyword_by_keyword_and_the_later_wins():
    found = merge([{"rounds": 3, "timer": ("wall",)}, {"rounds": 5}, {"samples": 9}])

    assert Options(rounds=5, timers=("wall",), samples=9) == found


def test_a_closer_target_replaces_a_farther_one_of_the_same_percentile():
    module = {"targets": {50.0: 5.0, 99.0: 8.0}}

    assert merge([module, {"target_us": 6.0}]).targets_us == {50.0: 6.0, 99.0: 8.0}
    assert merge([{"target_us": 6.0}, module]).targets_us == {50.0: 5.0, 99.0: 8.0}


def test_an_update_implies_measuring():
    assert settings(update=True).measuring
    assert settings(update_new=True).updating
    assert not settings().measuring


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"accept_regressions": True, "measure": True}, "add --kernelperf-update"),
        ({"accept_regressions": True, "update_new": True}, "add --kernelperf-update"),
        ({"update": True, "update_new": True}, "expected one of them, got both"),
        ({"strict": True}, "--kernelperf-strict does nothing without --kernelperf: add it"),
        ({"max_time": "3"}, "--kernelperf-max-time does nothing without --kernelperf"),
        ({"record": "run"}, "--kernelperf-record does nothing without --kernelperf"),
        ({"measure": True, "against": ""}, "--kernelperf-against: expected a value, got ''"),
        ({"measure": True, "max_time": ""}, "--kernelperf-max-time: expected a value, got ''"),
        ({"measure": True, "rounds": "0"}, "--kernelperf-rounds: expected a whole number"),
        ({"measure": True, "rounds": "many"}, "--kernelperf-rounds: expected numbers, got 'many'"),
        ({"measure": True, "timer": "cuda"}, "--kernelperf-timer: unknown timer 'cuda'"),
        ({"measure": True, "max_time": "nan"}, "--kernelperf-max-time: expected seconds above 0"),
    ],
)
def test_a_wrong_or_idle_option_is_refused(given, message):
    with pytest.raises(OptionsError) as caught:
        settings(**given)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "keyword", "expected"),
    [
        ("timer", "launch", "timer", ("launch",)),
        ("timer", "device, launch", "timer", ("device", "launch")),
        ("l2", "warm", "l2", "warm"),
        ("pace", "paced", "pace", "paced"),
        ("percentiles", ["50", "99"], "percentiles", (50.0, 99.0)),
        ("percentiles", [50, 99], "percentiles", (50.0, 99.0)),
        ("max_regression", "0.03", "max_regression", {50.0: 0.03}),
        ("max_regression", "50=0.02, 99=0.15", "max_regression", {50.0: 0.02, 99.0: 0.15}),
        ("max_regression", "50:0.02 99:0.15", "max_regression", {50.0: 0.02, 99.0: 0.15}),
        ("rounds", 7, "rounds", 7),
        ("max_time", 2.5, "max_time", 2.5),
    ],
)
def test_an_ini_key_becomes_the_lowest_layer(key, value, keyword, expected):
    assert {keyword: expected} == settings(ini={key: value}).defaults


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("timer", "fast", "kernelperf_timer: unknown timer 'fast'"),
        ("max_regression", "2 %", "kernelperf_max_regression: expected numbers"),
        ("hang_timeout", -1.0, "kernelperf_hang_timeout: expected seconds"),
        ("hang_timeout", float("nan"), "kernelperf_hang_timeout: expected seconds"),
    ],
)
def test_a_wrong_ini_key_is_refused_by_name(key, value, message):
    with pytest.raises(OptionsError) as caught:
        settings(ini={key: value})

    assert message in str(caught.value)


def test_the_ini_default_of_a_cold_cache_is_no_demand():
    """
    Else a suite with `kernelperf_l2 = cold` could not hold a test without tensors.
    """
    assert settings(ini={"l2": "cold"}).defaults == {}


def test_paths_are_relative_to_where_they_were_written():
    found = settings(measure=True, record="run.jsonl", ini={"baselines": "perf"})

    assert (Path("/runs/run.jsonl"), Path("/ini/perf")) == (found.record, found.baselines)
    assert Path("/runs/b") == settings(measure=True, baselines="b").baselines


def test_the_hang_timeout_is_five_minutes_unless_set():
    assert 300.0 == settings().hang_timeout_s == Settings().hang_timeout_s
    assert settings(ini={"hang_timeout": 0.0}).hang_timeout_s == 0.0
