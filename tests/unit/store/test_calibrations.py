"""
A calibration beside the baselines.
"""

from __future__ import annotations

import json

import pytest

from pytest_kernelperf.analysis.proof import Proof
from pytest_kernelperf.errors import BaselineFormatError, BaselineVersionError
from pytest_kernelperf.gate import Gate
from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.calibrations import (
    calibration_path,
    read_calibration,
    write_calibration,
)

PROOF = Proof("NVIDIA H100 80GB HBM3", "0.1.0", "2026-11-22T10:00:00Z", {"torch": "2.11"})
SLUG = "nvidia-h100-80gb-hbm3"


def test_what_is_kept_comes_back(tmp_path):
    write_calibration(tmp_path, SLUG, PROOF)

    assert PROOF == read_calibration(tmp_path, SLUG)


def test_without_a_file_there_is_none(tmp_path):
    assert read_calibration(tmp_path, SLUG) is None


def test_it_lies_beside_the_baselines_and_is_not_taken_for_one(tmp_path):
    path = write_calibration(tmp_path, SLUG, PROOF)

    assert tmp_path / f"{SLUG}.calibration.json" == path
    assert [] == Baselines(tmp_path).slugs()


def test_the_schema_version_comes_first(tmp_path):
    path = write_calibration(tmp_path, SLUG, PROOF)

    assert "schema_version" == next(iter(json.loads(path.read_text())))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema_version": 1, "proof": {}}', "\xff"])
def test_a_damaged_file_is_named_and_left_alone(tmp_path, text):
    path = calibration_path(tmp_path, SLUG)
    path.write_text(text)

    with pytest.raises(BaselineFormatError, match=SLUG):
        read_calibration(tmp_path, SLUG)

    assert text == path.read_text()


def test_a_file_of_a_newer_program_is_refused(tmp_path):
    path = write_calibration(tmp_path, SLUG, PROOF)
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))

    with pytest.raises(BaselineVersionError):
        read_calibration(tmp_path, SLUG)


def test_the_gate_finds_the_calibration_of_the_cards_that_were_measured_on(tmp_path, make):
    write_calibration(tmp_path, SLUG, PROOF)
    write_calibration(tmp_path, "other-card", PROOF)

    assert {SLUG: PROOF} == Gate(tmp_path).calibrations([make.recorded()])


def test_a_damaged_calibration_is_found_before_anything_is_measured(tmp_path):
    calibration_path(tmp_path, SLUG).write_text("{")
    (tmp_path / SLUG).mkdir()

    with pytest.raises(BaselineFormatError):
        Gate(tmp_path).check_all()
