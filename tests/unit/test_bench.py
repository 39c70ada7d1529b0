"""
What is measured with which timer, and what is asked of it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_kernelperf.asks import Ask, asks_for, choose_l2, choose_timers
from pytest_kernelperf.bench import baselines_root
from pytest_kernelperf.errors import OptionsError, TimerUnavailableError
from pytest_kernelperf.measure import CallShape
from pytest_kernelperf.model import Limits
from pytest_kernelperf.options import Options
from pytest_kernelperf.provenance import read_code_state, read_provenance
from pytest_kernelperf.settings import Settings

CUDA = CallShape(inputs=("float16[8] cuda",), device="cuda:0", footprint_bytes=16)
CUDA_WITHOUT_TENSORS = CallShape(inputs=(), device="cuda:0", footprint_bytes=0)
CPU = CallShape(inputs=("float32[8] cpu",), device="cpu", footprint_bytes=32)
NOTHING = CallShape(inputs=(), device="cpu", footprint_bytes=0)


def test_the_timer_follows_the_tensors():
    assert choose_timers(Options(), "cuda:0") == ("device",)
    assert choose_timers(Options(), "cpu") == ("wall",)


def test_named_timers_are_used_as_named():
    assert choose_timers(Options(timers=("wall", "device")), "cuda:1") == ("wall", "device")


def test_a_gpu_timer_for_tensors_on_the_cpu_is_refused():
    with pytest.raises(TimerUnavailableError, match="'launch' times a GPU"):
        choose_timers(Options(timers=("wall", "launch")), "cpu")


@pytest.mark.parametrize(
    ("asked", "shape", "expected"),
    [
        (None, CUDA, "cold"),
        ("cold", CUDA, "cold"),
        ("warm", CUDA, "warm"),
        (None, CUDA_WITHOUT_TENSORS, "warm"),
        (None, CPU, "warm"),
        (None, NOTHING, "warm"),
    ],
)
def test_the_cache_is_cold_where_tensors_can_rotate(asked, shape, expected):
    assert expected == choose_l2(Options(l2=asked), shape)


@pytest.mark.parametrize("shape", [CUDA_WITHOUT_TENSORS, CPU, NOTHING])
def test_asking_for_a_cold_cache_without_tensors_to_rotate_is_refused(shape):
    with pytest.raises(OptionsError, match="l2='cold'"):
        choose_l2(Options(l2="cold"), shape)


def test_device_gives_the_median_and_launch_is_added_for_the_rest():
    found = asks_for(Options(percentiles=(50.0, 95.0, 99.0)), ("device",), 1.0)

    device = Ask("device", Limits(percentiles=(50.0,)))
    launch = Ask("launch", Limits(percentiles=(95.0, 99.0)))
    assert (device, launch) == found


def test_a_named_launch_timer_judges_the_median_too():
    found = asks_for(Options(percentiles=(50.0, 99.0)), ("device", "launch"), 1.0)

    assert [ask.limits.percentiles for ask in found] == [(50.0,), (50.0, 99.0)]


def test_a_timer_that_can_give_nothing_asked_for_is_left_out():
    found = asks_for(Options(percentiles=(99.0,)), ("device",), 1.0)

    assert [ask.timer for ask in found] == ["launch"]


def test_a_target_belongs_to_the_first_timer_that_gives_its_percentile():
    """
    A lone caller waits longer than the GPU works: one limit can't mean both.
    """
    options = Options(percentiles=(50.0, 99.0), targets_us={50.0: 5.0, 99.0: 8.0})

    found = asks_for(options, ("device", "launch", "wall"), 8.0)

    assert [ask.limits.targets_us for ask in found] == [{50.0: 5.0}, {99.0: 8.0}, {}]
    assert [ask.limits.per for ask in found] == [8.0, 8.0, 8.0]


def test_a_margin_goes_to_each_timer_that_judges_its_percentile():
    options = Options(percentiles=(50.0, 99.0), max_regression={50.0: 0.02, 99.0: 0.15})

    found = asks_for(options, ("device", "launch"), 1.0)

    assert [ask.limits.max_regression for ask in found] == [{50.0: 0.02}, {50.0: 0.02, 99.0: 0.15}]


@pytest.mark.parametrize(
    ("timers", "percentiles", "named"),
    [
        (("device",), (50.0, 99.0), "'launch'"),
        (("wall",), (50.0,), "'wall'"),
        (("device", "launch"), (50.0,), "'launch'"),
    ],
)
def test_a_sustained_pace_is_refused_where_a_timer_would_leave_the_card_idle(
    timers, percentiles, named
):
    options = Options(percentiles=percentiles, pace="sustained")

    with pytest.raises(OptionsError, match=f"device timer alone.*timer {named} is needed"):
        asks_for(options, timers, 1.0)


def test_the_device_timer_has_a_sustained_pace():
    (found,) = asks_for(Options(pace="sustained"), ("device",), 1.0)

    assert "device" == found.timer


def test_baselines_lie_under_the_test_files_anchor_unless_named(tmp_path):
    (tmp_path / "pytest.ini").touch()
    test_file = tmp_path / "tests" / "test_a.py"

    assert tmp_path / "baselines" == baselines_root(Settings(), test_file)
    assert Path("/b") == baselines_root(Settings(baselines=Path("/b")), test_file)


def git(folder, *words):
    identity = ["-c", "user.name=A", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True)


def test_the_revision_says_whether_code_was_changed(tmp_path, monkeypatch):
    """
    A changed baseline does not count: it does not change what is measured.
    """
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git(tmp_path, "init")
    for name in ("kernel.py", "baselines/a.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "x")
    clean, _ = read_provenance(tmp_path)
    (tmp_path / "baselines/a.json").write_text("{}")

    assert len(clean) == 40
    assert clean == read_provenance(tmp_path)[0]
    (tmp_path / "kernel.py").write_text("slow")
    assert f"{clean}+dirty" == read_provenance(tmp_path)[0]


def test_one_uncommitted_change_is_told_from_another(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git(tmp_path, "init")
    kernel = tmp_path / "kernel.py"
    kernel.touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "x")
    states = [read_code_state(tmp_path)]
    for text in ("slow", "slower", "slow"):
        kernel.write_text(text)
        states.append(read_code_state(tmp_path))

    assert 40 == len(states[0])
    assert 3 == len(set(states))
    assert states[1] == states[3]
    assert all(state.startswith(f"{states[0]}+") for state in states[1:])


def test_without_git_the_revision_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")

    assert read_provenance(tmp_path) == ("", "")
    assert read_code_state(tmp_path) == ""
