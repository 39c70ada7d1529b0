"""
What a test failed by: two questions that are one for most tests, and where they part.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_kernelperf.failures import excused, failed_beyond, untold
from pytest_kernelperf.model import Compiled, Status, Verdict
from pytest_kernelperf.outcome import Outcome
from pytest_kernelperf.settings import Settings

NODEID = "test_it.py::test_it"
FAILED, IN_TEARDOWN, PASSED = {NODEID: False}, {NODEID: True}, {}


@pytest.fixture
def outcome(make):
    """
    Return a function that makes the outcome of a test with one measurement.
    """

    def build(status=Status.UNCHANGED, *, body_passed=True, compiled=None):
        recorded = make.recorded(status, body_passed=body_passed)
        case = make.case(timer="device", l2="sm_90")
        verdict = Verdict(case, 50.0, compiled, "", "") if compiled else None
        kernels = (Compiled(case, (), verdict=verdict),) if verdict else ()
        return Outcome(NODEID, "test_it.py", recorded=(recorded,), compiled=kernels)

    return build


@pytest.mark.parametrize(
    ("what", "failed", "beyond_all", "beyond_recorded", "told"),
    [
        ({}, PASSED, False, False, True),
        ({"status": Status.REGRESSED}, FAILED, False, False, True),
        ({"body_passed": False}, FAILED, True, True, True),
        # As in a teardown: the record was closed over a test that had passed.
        ({}, FAILED, True, True, False),
        ({}, IN_TEARDOWN, True, True, False),
        ({"status": Status.REGRESSED}, IN_TEARDOWN, True, True, False),
        ({"body_passed": False}, IN_TEARDOWN, True, True, True),
        # Its code is slower, its time is not: the record holds no verdict on code.
        ({"compiled": Status.REGRESSED}, FAILED, False, True, False),
        # As an expected failure: pytest reports none, and still nothing of it is stored.
        ({"body_passed": False}, PASSED, True, True, True),
    ],
    ids=[
        *("passed", "slow", "wrong", "otherwise", "teardown", "slow, teardown", "wrong, teardown"),
        *("slow code", "xfail"),
    ],
)
def test_what_failed_a_test_is_told_by_its_record_or_a_verdict_or_neither(
    outcome, what, failed, beyond_all, beyond_recorded, told
):
    one, settings = outcome(**what), Settings()

    assert beyond_all == failed_beyond(one.verdicts, one, failed, settings)
    assert beyond_recorded == failed_beyond(one.verdicts_in_record, one, failed, settings)
    assert (() if told else (NODEID,)) == untold([one], failed, settings)


def test_what_strict_fails_is_told_by_its_verdict(outcome):
    one = outcome(Status.NO_BASELINE)

    assert (NODEID,) == untold([one], FAILED, Settings())
    assert () == untold([one], FAILED, Settings(strict=True))


def test_a_failed_test_that_brought_nothing_is_untold():
    assert (NODEID,) == untold([], FAILED, Settings())


def test_what_is_excused_has_a_record_and_did_not_fail_at_another_attempt(outcome):
    one = replace(outcome(Status.REGRESSED), excused="xfail")
    bare = replace(Outcome("test_it.py::test_skipped", "test_it.py"), excused="skip")

    assert {NODEID: "xfail"} == excused([one, bare], PASSED)
    assert {} == excused([one, bare], FAILED)


def test_what_is_excused_is_not_so_where_its_record_could_be_a_failed_tests(outcome):
    one = replace(outcome(), nodeid="a/test_it.py::test_it", excused="xfail")
    other = replace(outcome(), nodeid="b/test_it.py::test_it")

    assert {} == excused([one, other], {other.nodeid: False})
    assert {one.nodeid: "xfail"} == excused([one, other], PASSED)


def test_that_nothing_was_measured_is_no_verdict_of_the_record(outcome):
    one = Outcome(NODEID, "test_it.py").without_measurement()

    assert not failed_beyond(one.verdicts, one, FAILED, Settings())
    assert (NODEID,) == untold([one], FAILED, Settings())
