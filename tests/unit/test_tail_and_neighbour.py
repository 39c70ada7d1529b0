"""The scripts that show the gate grown tails and a busy neighbour: what needs no card."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from harm import slow_tail, untouched
from reality import befallen, turns

from pytest_kernelperf.analysis.replay import Series

pytestmark = pytest.mark.usefixtures("benchmarks")


def recorded_series(change):
    """One shape's launches by ten processes of one card, each with a change."""
    first = next(each for each in turns("launch") if each.is_full and each.kernel == "512x8")
    same = [
        befallen(each, change)
        for each in turns("launch")
        if (each.card, each.kernel) == (first.card, first.kernel)
    ]
    return [Series(first.limits, tuple(each.line[0] for each in same))]


def test_a_grown_tail_is_told_at_p99_and_not_at_p50():
    from tail_rates import judged, table

    usual = recorded_series(untouched)
    grown = recorded_series(slow_tail(0.025, 1.25))

    found = judged(usual, grown)

    p95s = [each for each in found if each.percentile == 95.0]
    told = table(usual, found)
    assert 3 * 10 == len(found)
    assert {"UNCHANGED"} == {each.status.value for each in p95s}
    assert "P99 REGRESSED 10 of 10; P50 UNCHANGED 10 of 10" == told[-1]


def test_no_process_of_an_equal_kernel_is_told_to_have_a_grown_tail():
    from tail_rates import judged

    usual = recorded_series(untouched)

    assert {"UNCHANGED"} == {each.status.value for each in judged(usual, usual)}


def test_every_fortieth_launch_does_more_where_the_variable_is_set(monkeypatch):
    import tail_rates

    text = tail_rates._TEST
    names: dict = {"os": os}
    exec(text[text.index("EVERY = ") : text.index("def random(")], names)
    asked = names["NowAndThen"](lambda amount: amount, 400, 500)

    assert {400} == {asked() for _ in range(80)}
    monkeypatch.setenv(tail_rates.TAIL, "1")

    assert 3 == [asked() for _ in range(120)].count(500)


@pytest.mark.parametrize(("script", "count"), [("tail_rates", 3), ("neighbour_evidence", 4)])
def test_the_written_tests_are_collected(script, count, tmp_path):
    """Where a card is missing they are skipped, not broken."""
    pytest.importorskip("torch")
    pytest.importorskip("triton")
    module = __import__(script)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(getattr(module, "_TEST", "") or module.TEST)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "kernelperf", "--collect-only"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert f"{count} tests collected" in done.stdout, done.stdout + done.stderr


def test_the_neighbour_runs_until_its_input_ends(monkeypatch):
    import neighbour_evidence

    quiet = "import sys; print('ready', flush=True); sys.stdin.read()"
    monkeypatch.setattr(neighbour_evidence, "NEIGHBOUR", quiet)

    with neighbour_evidence.neighbour():
        pass


def test_a_neighbour_that_does_not_start_ends_the_script(monkeypatch):
    import neighbour_evidence

    monkeypatch.setattr(neighbour_evidence, "NEIGHBOUR", "raise SystemExit(1)")

    with pytest.raises(SystemExit, match="did not start"), neighbour_evidence.neighbour():
        pass


def test_a_run_without_verdicts_is_a_problem(tmp_path):
    from evidence_runs import Ended
    from neighbour_evidence import run_of

    (tmp_path / "run1.json").write_text(json.dumps({"measurements": [], "environments": {}}))
    run = run_of(tmp_path, 1, Ended(2, 4.0, "no kernel"))

    assert "beside a neighbour" == run["where"]
    assert "no verdicts, exit status 2:\nno kernel" == run["problem"]
