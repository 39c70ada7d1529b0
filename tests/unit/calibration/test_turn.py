"""
Calibration's fresh processes wait for their turn, and end with what started them.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from pytest_kernelperf.calibration.order import VARIABLE, Order
from pytest_kernelperf.calibration.processes import CutOffError, FreshPytest

TESTS = """
import os
from pathlib import Path

import pytest

@pytest.mark.parametrize("letter", "abcdefgh")
def test_one(letter):
    with Path("ran").open("a") as log:
        log.write(letter)

def test_family():
    Path("family").write_text(os.environ["KERNELPERF_PIDS"])
"""
CONFTEST = """
import time
from pathlib import Path

def pytest_sessionfinish():
    while Path("wait").exists():
        time.sleep(0.05)
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    Return what starts a process of one file of tests, ended at the end whatever happens.
    """
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    started: list[FreshPytest] = []

    def begin(seed: int = 0) -> FreshPytest:
        def environment(turn: int) -> dict[str, str]:
            order = Order("dialled.json", seed=seed, turn=turn)
            return {VARIABLE: msgspec.json.encode(order).decode()}

        options = ["-q", "-p", "no:cacheprovider", "-p", "kernelperf"]
        plugin = ["-p", "pytest_kernelperf.calibration.injection"]
        log = tmp_path / f"log-{len(started)}"
        started.append(FreshPytest([*options, *plugin, "test_it.py"], environment, log))
        return started[-1]

    yield begin
    for each in started:
        each.end()


def ran() -> str:
    return Path("ran").read_text() if Path("ran").exists() else ""


def test_no_process_runs_a_test_before_its_turn(start):
    first, second = start(), start()
    first.await_ready(60)
    second.await_ready(60)
    time.sleep(0.3)
    assert "" == ran()

    assert 0 == second.run(60, (11, 12))

    assert "abcdefgh" == ran()
    assert "11,12" == Path("family").read_text()
    assert 0 == first.run(60, ())
    assert 2 * "abcdefgh" == ran()


def test_each_process_has_its_own_order_of_tests(start):
    for seed in (1, 2, 1):
        assert 0 == start(seed).run(60, ())

    one, two, again = ran()[:8], ran()[8:16], ran()[16:]
    assert one != two
    assert one == again
    assert "abcdefgh" == "".join(sorted(one)) == "".join(sorted(two))


def test_a_process_that_takes_too_long_is_gone_before_the_next_one_measures(start):
    Path("wait").touch()
    process = start()
    process.await_ready(60)

    with pytest.raises(CutOffError, match="took longer than 2 s"):
        process.run(2, ())

    assert not Path(f"/proc/{process.pid}").exists()


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_process_ends_with_the_calibration_that_was_killed(start, has_begun):
    Path("wait").touch()
    process = start()
    process.await_ready(60)
    if has_begun:
        process._connection.send(())
        while "h" not in ran():
            time.sleep(0.02)

    process._connection.close()

    assert process._process.wait(30) != 0
