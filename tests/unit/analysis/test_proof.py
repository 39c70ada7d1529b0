"""
What a kept calibration proves that a new one does not.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from proofs import case_proof, proof

from pytest_kernelperf.analysis.proof import joined, lost

OTHER = replace(case_proof().case, test="test_other")
KEPT = proof(case_proof(), case_proof(case=OTHER))


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ((case_proof(),), "1 of 2 cases"),
        ((case_proof(), case_proof(case=OTHER, card="GPU-2")), "1 of 2 cases"),
        ((case_proof(injected=()), case_proof(case=OTHER)), "slowdowns of 1 %, 2 %"),
        ((case_proof(processes=8), case_proof(case=OTHER)), "12 processes of a case, not 8"),
        ((case_proof(injected=(), processes=8),), "1 of 2 cases; slowdowns of 1 %, 2 %; 12 proc"),
    ],
)
def test_what_a_new_calibration_lacks_is_named(new, expected) -> None:
    assert lost(KEPT, proof(*new)).startswith(expected)


@pytest.mark.parametrize(
    "more",
    [
        (),
        (case_proof(card="GPU-2"),),
        # Folders of one card, taken together: the larger counts.
        (case_proof(processes=8, injected=()),),
    ],
)
def test_one_that_proves_as_much_or_more_lacks_nothing(more) -> None:
    new = proof(case_proof(processes=20), case_proof(case=OTHER), *more)

    assert "" == lost(KEPT, new)


def test_what_was_measured_with_several_versions_is_named_where_taken_together() -> None:
    first = replace(KEPT, versions={"torch": "2.11.0", "triton": "3.6.0"}, left_out=("a",))
    second = replace(KEPT, versions={"torch": "2.12.0", "triton": "3.6.0"})

    assert ("a", "one version of torch: measured with 2.11.0, 2.12.0") == joined(
        [first, second]
    ).left_out
    assert ("a", "a") == joined([first, first]).left_out
