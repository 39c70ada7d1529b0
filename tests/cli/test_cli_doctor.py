"""
`kernelperf doctor`: exit status, what it keeps, and what it says of baselines and ceilings.
"""

from __future__ import annotations

import json

import pytest

from pytest_kernelperf.cli import checkup
from pytest_kernelperf.model import Answer, Ceilings, Peaks
from pytest_kernelperf.store.ceilings import keep_ceilings, read_ceilings

CEILINGS = Ceilings(2712.0, {"float16": 689.0}, 1.52, "2026-09-01")


@pytest.fixture
def machine(monkeypatch):
    """
    Return a function that says what the probes answer.
    """

    def answers(**facts):
        given = {
            name: each if isinstance(each, Answer) else Answer(each) for name, each in facts.items()
        }
        given.setdefault("card", Answer())
        given.setdefault("cards", Answer())
        monkeypatch.setattr(
            checkup,
            "ask_apart",
            lambda probes, device, progress: {
                each.name: given[each.name] for each in probes if each.name in given
            },
        )

    return answers


@pytest.fixture
def card(make):
    return {"environment": make.environment(), "peaks": Peaks(1070.4, 3352.3)}


def test_this_very_machine_is_looked_at(kernelperf, tmp_path):
    """
    All probes for real, in their own process: usable or not depends on the machine.
    """
    result = kernelperf("doctor", "--json", tmp_path / "doctor.json")

    document = json.loads((tmp_path / "doctor.json").read_text())
    topics = [each["topic"] for each in document["findings"]]
    assert result.exit_code == (0 if document["trustworthy"] else 1), result.output
    assert ["software", "host", "gpu", "baselines"] == [
        each for each in dict.fromkeys(topics) if each in ("software", "host", "gpu", "baselines")
    ]
    assert "kernelperf doctor: measurements here can" in result.output.splitlines()[-1]


def test_a_bad_finding_is_exit_status_1(kernelperf, machine, card):
    machine(card=card, graphs={"ran": False, "nodes": 0})

    result = kernelperf("doctor")

    assert 1 == result.exit_code
    assert "BAD   graphs" in result.output
    assert "measurements here can NOT be trusted: 1 finding BAD, 2 notes" in result.output


def test_a_machine_without_a_card_can_still_be_trusted(kernelperf, machine):
    machine(cards={"torch": True, "hip": "", "cuda": "", "mps": False, "cards": []})

    result = kernelperf("doctor")

    assert 0 == result.exit_code
    assert "torch finds no GPU. What works: " in result.output


@pytest.mark.parametrize("option", ["--ceilings", "--device=3"])
def test_what_needs_a_card_is_refused_without_one(kernelperf, machine, option):
    machine(ceilings={})

    result = kernelperf("doctor", option)

    assert 2 == result.exit_code
    assert "no CUDA device" in result.output


def test_a_card_that_could_not_be_looked_at_is_no_usage_error(kernelperf, machine):
    machine(card=Answer(failure="no answer within 60 s"), ceilings=Answer(failure="the same"))

    result = kernelperf("doctor", "--ceilings")

    assert 1 == result.exit_code
    assert "no answer within 60 s" in result.output


def test_ceilings_are_kept_for_the_card(kernelperf, machine, card):
    machine(card=card, ceilings={"ceilings": CEILINGS})

    result = kernelperf("doctor", "--ceilings")

    assert 0 == result.exit_code, result.output
    assert "copy 2712 GB/s; matmul 689 (float16) TFLOP/s; empty kernel 1.52 µs" in result.output
    assert CEILINGS == read_ceilings("GPU-1")


def test_kept_ceilings_are_shown_and_not_measured_again(kernelperf, machine, card, tmp_path):
    machine(card=card)
    keep_ceilings("GPU-1", CEILINGS)

    result = kernelperf("doctor", "--json", tmp_path / "doctor.json")

    assert "empty kernel 1.52 µs; measured 2026-09-01" in result.output
    assert 2712.0 == json.loads((tmp_path / "doctor.json").read_text())["ceilings"]["copy_gbs"]


def test_ceilings_that_failed_are_bad_and_nothing_is_kept(kernelperf, machine, card):
    machine(card=card, ceilings=Answer(failure="OutOfMemoryError: no"))

    result = kernelperf("doctor", "--ceilings")

    assert 1 == result.exit_code
    assert "OutOfMemoryError: no" in result.output
    assert read_ceilings("GPU-1") is None


def test_missing_ceilings_and_baselines_are_notes_with_their_cure(kernelperf, machine, card):
    machine(card=card)

    result = kernelperf("doctor")

    assert 0 == result.exit_code
    assert "theoretical peaks (3352 GB/s, 1070 TFLOP/s (16-bit))" in result.output
    assert "-> kernelperf doctor --ceilings" in result.output
    assert "-> pytest --kernelperf-update --kernelperf-processes 5" in result.output


def test_baselines_of_this_very_card_are_counted(kernelperf, machine, card, baseline):
    machine(card=card)

    result = kernelperf("doctor")

    assert "1 entry for nvidia-h100-80gb-hbm3, 1 of this very one" in result.output


def test_baselines_of_another_card_are_said_to_be(kernelperf, machine, make, baseline):
    machine(card={"environment": make.environment("GPU-9")})

    result = kernelperf("doctor")

    assert "1 entry for nvidia-h100-80gb-hbm3, 0 of this very one" in result.output
    assert "(OTHER_CARD)" in result.output


def test_a_damaged_baseline_is_bad(kernelperf, machine, card, baseline):
    machine(card=card)
    baseline.write_text("{")

    result = kernelperf("doctor")

    assert 1 == result.exit_code
    assert "is not a readable baseline file" in result.output
