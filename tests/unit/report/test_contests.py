"""
Tables of compared callables.
"""

from __future__ import annotations

from pytest_kernelperf import report
from pytest_kernelperf.model import Case, Comparison, Interval, Ratio, Standing, Status, Verdict
from pytest_kernelperf.report.contests import matrices


def a_case(test: str) -> Case:
    return Case("t/test_a.py", test, "compare", "device", "cold", "paced")


def a_ratio(name: str, speedup: float, least: float | None = None, **verdict: object) -> Ratio:
    interval = Interval(speedup - 0.05, speedup + 0.05)
    judged = Verdict(a_case("test_x"), 50.0, sentence="", **verdict) if verdict else None
    standing = Standing.FASTER if speedup > 1 else Standing.SLOWER
    return Ratio(name, 5.0 / speedup, speedup, interval, None, standing, least, judged)


def a_comparison(test: str, *ratios: Ratio) -> Comparison:
    reference = Ratio("sdpa", 5.0, 1.0, Interval(1.0, 1.0), standing=Standing.REFERENCE)
    case = a_case(test)
    return Comparison(case.label, "sdpa", (reference, *ratios), case)


MET = {"status": Status.UNCHANGED, "reason": "FAST_ENOUGH"}
MISSED = {"status": Status.MISSED_TARGET, "reason": "BELOW_SPEEDUP"}
UNSURE = {"status": Status.INCONCLUSIVE, "reason": "SPEEDUP_IN_INTERVAL"}


def lines(text: str) -> list[str]:
    return text.strip("\n").splitlines()


def test_a_comparison_without_ratios_has_no_table() -> None:
    assert "" == report.comparisons([Comparison("x", "a", ())], width=80, color=False)


def test_each_callable_has_a_row_with_its_verdict_or_how_it_stands() -> None:
    found = a_comparison("test_x", a_ratio("ours", 1.25, 1.1, **MET), a_ratio("old", 0.8))
    expected = """
compared                     callable       P50              speed-up  asked  verdict
───────────────────────────────────────────────────────────────────────────────────────────────────
t/test_a.py::test_x compare  sdpa      5.000 µs                1.000x         reference
                             ours      4.000 µs  1.250x (1.200…1.300)   1.1x  UNCHANGED FAST_ENOUGH
                             old       6.250 µs  0.800x (0.750…0.850)         slower
"""

    assert lines(expected) == report.comparisons([found], width=120, color=False).splitlines()


def test_a_narrow_terminal_keeps_the_verdict() -> None:
    found = a_comparison("test_x", a_ratio("ours", 0.8, 1.1, **MISSED))

    shown = report.comparisons([found], width=72, color=False)

    assert "1.1x  MISSED_TARGET" in shown
    assert max(map(len, shown.splitlines())) <= 72


def test_several_parameter_sets_make_a_matrix() -> None:
    found = [
        a_comparison("test_x[8]", a_ratio("ours", 1.25, 1.1, **MET), a_ratio("old", 0.8)),
        a_comparison("test_x[16]", a_ratio("ours", 0.9, 1.1, **MISSED), a_ratio("old", 0.8)),
        a_comparison("test_x[32]", a_ratio("ours", 1.1, 1.1, **UNSURE), a_ratio("old", 0.8)),
    ]
    expected = """
t/test_a.py::test_x: speed-up over sdpa, device
parameters  sdpa (P50)                    ours                   old
────────────────────────────────────────────────────────────────────
8             5.000 µs    1.250x (1.200…1.300)  0.800x (0.750…0.850)
16            5.000 µs  0.900x (0.850…0.950) !  0.800x (0.750…0.850)
32            5.000 µs  1.100x (1.050…1.150) ?  0.800x (0.750…0.850)
"""

    assert lines(expected) == matrices(found, width=120, color=False).splitlines()


def test_one_parameter_set_or_other_callables_make_no_matrix() -> None:
    found = [
        a_comparison("test_x[8]", a_ratio("ours", 1.25)),
        a_comparison("test_x[16]", a_ratio("theirs", 1.25)),
        a_comparison("test_y[8]", a_ratio("ours", 1.25)),
        a_comparison("test_z", a_ratio("ours", 1.25)),
    ]

    assert "" == matrices(found, width=120, color=False)
