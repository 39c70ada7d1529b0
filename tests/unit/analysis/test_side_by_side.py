"""
Two states side by side: whose noise a case is judged by.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from measured import CASE, a_measurement, a_process, a_reference

from pytest_kernelperf.analysis import judge, noise_from
from pytest_kernelperf.model import Entry, Limits
from pytest_kernelperf.side_by_side import Side, compare_sides

LIMITS = Limits()


def side(name, *cases) -> Side:
    """
    Return a side of (model, case, measurement).
    """
    return Side(name, {(slug, c.file, c.key): (one, LIMITS) for slug, c, one in cases})


@pytest.mark.parametrize(
    ("model", "pace"), [("h100", "sustained"), ("b200", "paced")], ids=["pace", "model"]
)
def test_cases_of_another_pace_or_card_model_lend_a_case_no_noise(model, pace):
    quiet = [("h100", replace(CASE, test=f"test_{at}"), 0.001) for at in range(3)]
    noisy = [(model, replace(CASE, test=f"noisy_{at}", pace=pace), 0.03) for at in range(3)]
    stored, before, now = {}, [], []
    for slug, case, sd in (*quiet, *noisy):
        reference = a_reference(sd=sd)
        stored[slug, case] = reference
        before.append((slug, case, a_measurement(*reference.processes, case=case)))
        now.append((slug, case, a_measurement(a_process(20.0), case=case)))

    found = compare_sides(side("before", *before), side("now", *now)).verdicts

    slug, case, _ = quiet[0]
    alike = noise_from((c.regime, stored[s, c]) for s, c, _ in quiet)
    expected = judge(now[0][2], Entry(stored[slug, case]), LIMITS, alike)
    assert expected == tuple(each for each in found if each.case == case)
