"""
A run on a card model that was calibrated says how often its verdicts are wrong.
"""

from __future__ import annotations

import pytest
from proofs import case_proof, proof

from pytest_kernelperf.analysis.proof import Injected
from pytest_kernelperf.analysis.rates import Rate
from pytest_kernelperf.store.calibrations import calibration_path, write_calibration

SLUG = "nvidia-scripted"
PROOF = proof(
    case_proof(
        processes=30,
        statuses={"UNCHANGED": 30},
        covered=Rate(29, 30),
        injected=(Injected(0.02, "extra bytes", 0.0201, Rate(29, 30)),),
    ),
    device_name="NVIDIA Scripted",
)
LINE = (
    "kernelperf: nvidia-scripted was calibrated on 2026-11-22 (1 card): false alarms at most 1 in "
    "10 (0 of 30); +2 % found in 29 of 30"
)


@pytest.fixture
def calibrated(project):
    project.write()
    project.run("--kernelperf-update")
    write_calibration(project.path / "baselines", SLUG, PROOF)
    return project


def test_the_terminal_and_the_json_say_what_was_calibrated(calibrated):
    result = calibrated.run("--kernelperf", "--kernelperf-json", "run.json")

    result.assert_outcomes(passed=1)
    assert LINE in result.outlines
    (slug, said), *rest = calibrated.read_json()["calibrations"].items()
    assert ([], SLUG) == (rest, slug)
    assert {"hits": 0, "trials": 30} == {
        name: said["false_alarms"][name] for name in ("hits", "trials")
    }


def test_a_quiet_run_and_an_uncalibrated_card_say_nothing(calibrated):
    assert LINE not in calibrated.run("--kernelperf", "-q").outlines
    calibration_path(calibrated.path / "baselines", SLUG).unlink()

    result = calibrated.run("--kernelperf", "--kernelperf-json", "run.json")

    assert LINE not in result.outlines
    assert {} == calibrated.read_json()["calibrations"]


def test_a_damaged_calibration_fails_before_anything_is_measured(calibrated):
    path = calibration_path(calibrated.path / "baselines", SLUG)
    path.write_text("{")

    result = calibrated.run("--kernelperf")

    assert 0 != result.ret
    result.stdout.fnmatch_lines([f"*calibration*{SLUG}*can't be read*"])
    assert "{" == path.read_text()
