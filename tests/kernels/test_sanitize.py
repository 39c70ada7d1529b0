"""What `sanitize.py` makes of a racecheck report, and that it ends in time; no GPU, no tool."""

from __future__ import annotations

import sys
import time

import pytest
import racecheck_report
import sanitize

DISPATCH = """
        /*0010*/                   BAR.SYNC.DEFER_BLOCKING 0x1 ;
        /*0020*/                   LDS.U8 R2, [R2+UR4+0x3016c] ;
        /*0030*/               @P0 BAR.SYNC.DEFER_BLOCKING 0x1 ;
        /*0040*/                   STS.64 [UR45+0x30170], R4 ;
        /*0050*/                   BAR.SYNC.DEFER_BLOCKING 0x1 ;
"""
OURS = """
        /*0060*/                   STS.64 [R7], R4 ;
        /*0070*/                   BAR.SYNC.DEFER_BLOCKING 0x2, 0x80 ;
"""
LISTINGS = {
    "control_loads": racecheck_report.listing(DISPATCH),
    "attention_ws_kernel": racecheck_report.listing(DISPATCH + OURS),
}
IN_CONTROL = """
========= Error: Race reported between Read access at control_loads+0x20 in control.py:25
=========     and Write access at control_loads+0x40 in control.py:23 [8 hazards]
=========
"""
IN_BOTH = (
    IN_CONTROL
    + """========= Error: Race reported between Read access at attention_ws_kernel+0x20 in ws.py:370
=========     and Write access at attention_ws_kernel+0x40 in ws.py:407 [64 hazards]
=========
"""
)


def judged(report: str, hazards: int) -> racecheck_report.Findings:
    summary = (
        f"========= RACECHECK SUMMARY: {hazards} hazards displayed ({hazards} errors, 0 warnings)"
    )
    return racecheck_report.judged(report + summary, LISTINGS)


def counts(found: racecheck_report.Findings) -> tuple[int, int, int]:
    return len(found.control), len(found.shared), len(found.ours)


def test_a_hazard_that_the_control_has_too_is_not_ours():
    found = judged(IN_BOTH, 2)

    assert (1, 1, 0) == counts(found)
    assert found.complete
    assert found.shared == (
        "attention_ws_kernel at +0x20, +0x40: "
        "Read LDS.U8 behind BAR.SYNC 0x1 with Write STS.64 before BAR.SYNC 0x1",
    )


def test_a_hazard_is_ours_where_the_control_has_none():
    only_ws = IN_BOTH.removeprefix(IN_CONTROL)

    assert (0, 0, 1) == counts(judged(only_ws, 1))


@pytest.mark.parametrize(
    "further",
    [
        "Write access at attention_ws_kernel+0x60 in ws.py:300",  # before a barrier of our own
        "Read access at attention_ws_kernel+0x20 in ws.py:370",  # of another kind
        "Write access at attention_ws_kernel+0x48",  # no instruction there
        "Write access at 0x40 in attention_ws_kernel",  # words of another release
    ],
)
def test_one_access_that_the_control_lacks_makes_a_hazard_ours(further):
    report = IN_BOTH.rstrip("=\n") + f"\n=========     and {further} [1 hazard]\n"

    assert (1, 0, 1) == counts(judged(report, 2))


def test_a_kernel_without_machine_code_is_not_excused():
    report = IN_BOTH.replace("attention_ws_kernel", "another_kernel")

    assert (1, 0, 1) == counts(judged(report, 2))


def test_an_unreadable_hazard_of_the_control_excuses_nothing():
    report = IN_BOTH.replace("control_loads+0x", "control_loads+0xf")
    report = report.replace("attention_ws_kernel+0x", "attention_ws_kernel+0xf")

    assert (1, 0, 1) == counts(judged(report, 2))


@pytest.mark.parametrize("report", ["", IN_BOTH])
def test_a_report_that_does_not_add_up_is_not_complete(report):
    assert not judged(report, 3).complete
    assert not racecheck_report.judged(report, LISTINGS).complete


def test_warnings_count_too():
    report = IN_BOTH.replace("Error", "Warning")
    summary = "========= RACECHECK SUMMARY: 2 hazards displayed (0 errors, 2 warnings)"
    found = racecheck_report.judged(report + summary, LISTINGS)

    assert ((1, 1, 0), True) == (counts(found), found.complete)


def test_machine_code_is_found_whatever_the_kernels_name_is():
    """The controls are one function, compiled under several names."""
    files = {f"control_kernel.{kind}": f"/cache/{kind}" for kind in ("json", "ptx", "cubin")}

    assert sanitize.machine_code(files) == "/cache/cubin"


def test_the_threads_of_a_hazard_are_shown_without_stacks():
    report = """========= COMPUTE-SANITIZER
========= Error: Potential RAW hazard detected at __shared__ 0x188 in block (0,0,0) :
=========     Write Thread (0,0,0) at control_loads+0x40 in control.py:23
=========     Read Thread (320,0,0) at control_loads+0x20 in control.py:25
=========     Current Value : 0
=========         Host Frame: [0x1] in libcuda.so
"""

    assert racecheck_report.records(report) == [
        "Error: Potential RAW hazard detected at __shared__ 0x188 in block (0,0,0) :",
        "Write Thread (0,0,0) at control_loads+0x40 in control.py:23",
        "Read Thread (320,0,0) at control_loads+0x20 in control.py:25",
        "Current Value : 0",
    ]


def test_a_run_ends_in_time_with_all_that_it_started():
    """A grandchild that holds the output open must not be waited for."""
    grandchild = "import time; time.sleep(60)"
    child = (
        "import subprocess, sys; print('begun', flush=True); "
        f"subprocess.run([sys.executable, '-c', {grandchild!r}])"
    )
    began = time.monotonic()
    outcome = sanitize.run([sys.executable, "-c", child], began + 2)

    assert (None, "begun\n") == (outcome.status, outcome.said)
    assert time.monotonic() - began < 2 + sanitize.GRACE_S


def test_a_run_that_ends_by_itself_keeps_its_status():
    outcome = sanitize.run([sys.executable, "-c", "raise SystemExit(9)"], time.monotonic() + 30)

    assert outcome.status == 9
