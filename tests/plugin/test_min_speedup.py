"""
`kernelperf.compare(min_speedup=...)`: the verdict, the exit status, the record and the documents.
"""

from __future__ import annotations

import subprocess
import sys

import needs
import pytest

ASKED = """
    import pytest

    @pytest.mark.parametrize("size", {sizes})
    def test_it(kernelperf, size):
        kernelperf.compare(
            {{"ours": abs, "theirs": abs, "old": abs}},
            (-1,),
            reference="theirs",
            min_speedup={{"ours": 1.1}},
        )
"""
ONE = ASKED.format(sizes=[8])


@pytest.mark.parametrize(
    ("ours", "ret", "row", "last"),
    [
        (5.0, 0, "*ours*2.000x*1.1x*UNCHANGED", "kernelperf: 1 judged"),
        (10.0, 1, "*ours*1.000x*1.1x*MISSED_TARGET", "kernelperf: 1 judged"),
        (
            9.09,
            0,
            "*ours*1.100x*1.1x*INCONCLUSIVE",
            "kernelperf: 0 judged, 1 NOT judged (1 INCONCLUSIVE)",
        ),
    ],
)
def test_an_asked_speedup_is_judged_by_the_whole_interval(project, ours, ret, row, last):
    project.times(10.0, ours=ours, theirs=10.0, old=12.0)
    project.write(ONE)

    result = project.run("--kernelperf")

    assert result.ret == ret
    result.stdout.fnmatch_lines([row, "*old*0.833x*slower"])
    assert last == result.outlines[-1]


def test_a_missed_speedup_fails_after_the_body_with_its_gist(project):
    project.times(10.0, ours=10.0, theirs=10.0, old=10.0)
    project.write(ONE)

    result = project.run("--kernelperf")

    result.stdout.fnmatch_lines(["FAILED *MISSED_TARGET P50 [[]device[]] 1.000x (0.99*"])


def test_what_straddles_fails_under_strict(project):
    project.times(10.0, ours=9.09, theirs=10.0, old=10.0)
    project.write(ONE)

    result = project.run("--kernelperf", "--kernelperf-strict")

    result.assert_outcomes(failed=1)


def test_unmeasured_nothing_is_judged(project):
    project.times(10.0, ours=20.0, theirs=10.0, old=10.0)
    project.write(ONE)

    assert project.run().ret == pytest.ExitCode.OK


def test_a_number_holds_for_every_callable_but_the_reference(project):
    project.times(10.0, ours=5.0, theirs=10.0, old=12.0)
    project.write(ONE.replace('{"ours": 1.1}', "1.1"))

    result = project.run("--kernelperf")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "kernelperf: 2 judged" == result.outlines[-1]
    result.stdout.fnmatch_lines(["*ours*UNCHANGED", "*old*MISSED_TARGET"])


def test_record_document_and_judge_tell_what_the_run_told(project):
    project.times(10.0, ours=10.0, theirs=10.0, old=12.0)
    project.write(ONE)

    live = project.run(
        "--kernelperf", "--kernelperf-record", "run.jsonl", "--kernelperf-json", "run.json"
    )

    assert live.ret == pytest.ExitCode.TESTS_FAILED
    (comparison,) = project.read_run().comparisons
    (verdict,) = comparison.verdicts
    assert ("MISSED_TARGET", "BELOW_SPEEDUP") == (verdict.status.value, verdict.reason)
    document = project.read_json()
    assert {"judged": 1, "not_judged": 0, "statuses": {"MISSED_TARGET": 1}} == document["counts"]
    shown = {one["name"]: one for one in document["comparisons"][0]["ratios"]}
    assert (1.1, verdict.sentence) == (
        shown["ours"]["min_speedup"],
        shown["ours"]["verdict"]["sentence"],
    )
    command = [sys.executable, "-m", "pytest_kernelperf", "judge", "run.jsonl"]
    judged = subprocess.run(
        [*command, "--json", "judged.json"], cwd=project.path, capture_output=True, text=True
    )
    assert 1 == judged.returncode
    assert live.outlines[-1] == judged.stdout.splitlines()[-1]
    assert document["comparisons"] == project.read_json("judged.json")["comparisons"]


def test_several_parameter_sets_end_in_a_matrix(project):
    project.times(10.0, ours=5.0, theirs=10.0, old=12.0)
    project.write(ASKED.format(sizes=[8, 16]))

    result = project.run("--kernelperf")

    result.stdout.fnmatch_lines(
        [
            "test_it.py::test_it: speed-up over theirs, device",
            "parameters*theirs (P50)*ours*old",
            "8*10.00*2.000x*0.833x*",
            "16*10.00*2.000x*0.833x*",
        ]
    )


WITHIN = """
    import torch

    def test_it(kernelperf):
        x = torch.full((2, 3), 2.0)
        def off(x):
            y = x.clone()
            y[1, 2] += 0.25
            return y
        kernelperf.compare({{"a": torch.clone, "b": off}}, (x,), reference="a"{more})
"""


@needs.TORCH
@pytest.mark.parametrize("measure", [(), ("--kernelperf",)])
@pytest.mark.parametrize(
    ("more", "agree"),
    [("", False), (", atol=0.3", True), (", rtol=0.2", True), (", atol=0.2", False)],
)
def test_tolerances_say_how_far_outputs_may_be_apart(project, measure, more, agree):
    project.write(WITHIN.format(more=more))

    result = project.run(*measure)

    assert agree is (result.ret == pytest.ExitCode.OK)
    if not agree:
        result.stdout.fnmatch_lines(
            ["*1 of 6 elements differ, most by 0.25 at [[]1, 2]: expected 2.0, got 2.25*"]
        )
