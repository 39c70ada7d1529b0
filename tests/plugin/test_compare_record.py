"""
What `kernelperf.compare` leaves in a recorded run.
"""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

COMPARED = """
    import torch
    from pytest_kernelperf import kernel_perf

    @kernel_perf({keywords})
    def test_it(kernelperf):
        x = torch.full((4,), 2.0)
        kernelperf.compare(
            {{"ours": lambda x: x + 1.001, "torch": lambda x: x + 1.0}}, (x,), reference="torch"
        )
"""


def ratios(project) -> dict[str, float | None]:
    """
    Return the recorded differences by callable.
    """
    (comparison,) = project.read_run().comparisons
    return {ratio.name: ratio.max_abs_difference for ratio in comparison.ratios}


def test_how_far_the_outputs_are_apart_is_recorded(project):
    project.write(COMPARED.format(keywords=""))

    result = project.run("--kernelperf", "--kernelperf-record", "run.jsonl")

    result.assert_outcomes(passed=1)
    found = ratios(project)
    assert None is found["torch"]
    assert 0.001 == round(found["ours"], 5)


def test_the_json_document_has_it_too(project):
    project.write(COMPARED.format(keywords=""))

    project.run("--kernelperf", "--kernelperf-json", "run.json")

    (comparison,) = json.loads((project.path / "run.json").read_text())["comparisons"]
    assert 0.001 == round(comparison["ratios"][0]["max_abs_difference"], 5)


def test_random_outputs_have_no_difference_to_tell(project):
    project.write(COMPARED.format(keywords="deterministic=False"))

    project.run("--kernelperf", "--kernelperf-record", "run.jsonl")

    assert {"ours": None, "torch": None} == ratios(project)
