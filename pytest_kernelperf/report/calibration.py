"""
A calibration as text: the table of cases, the plain sentences, the line under each verdict table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_kernelperf.analysis.proof import CaseProof, Proof
from pytest_kernelperf.analysis.rates import Rate
from pytest_kernelperf.report.layout import DROP_EMPTY, Column, Row, draw, drop
from pytest_kernelperf.units import counted, format_percent, format_percentile, format_us

_BAR = 40
_NARROWING = (DROP_EMPTY, drop("card"), drop("round sd"), drop("process sd"), drop("time"))


def calibration_table(proof: Proof, *, width: int, color: bool) -> str:
    """
    Return a row per case, percentile and card: noise, margin, unchanged verdicts, slowdowns found.
    """
    sizes = list(proof.power)
    columns = (
        Column("test", folds=True),
        Column("card", optional=True),
        Column("timer"),
        Column("pct", right=True),
        Column("time", right=True),
        Column("process sd", right=True),
        Column("round sd", right=True),
        Column("margin", right=True),
        Column("finds", right=True),
        Column("unchanged"),
        *(Column(f"+{100 * size:g} %", right=True) for size in sizes),
    )
    several = len(proof.cards) > 1
    rows = [Row(_cells(each, sizes, several), style=_style(each)) for each in proof.cases]
    return draw(columns, rows, _NARROWING, title=proof.device_name, width=width, color=color)


def calibration_sentences(proof: Proof) -> str:
    """
    Return what was proven, in sentences with their confidence limits.
    """
    alarms = proof.false_alarms
    disjoint = sum(each.disjoint for each in proof.cases)
    lines = [
        f"false alarms: {alarms.hits} of {alarms.trials} unchanged candidates REGRESSED; "
        f"{_at_most(alarms)} with 95 % confidence",
        f"  each process of each case was the candidate once, judged against 5 others; these "
        f"share processes: {disjoint} comparisons share none",
        f"INCONCLUSIVE after all looks: {_share(proof.inconclusive)}",
        f"shown intervals that hold no change where there is none: {_share(proof.covered)}",
    ]
    for size, rate in proof.power.items():
        lines += _found_lines(proof, size, rate)
    if proof.across_cards:
        rate = proof.alarms_across_cards
        lines.append(
            f"one card against another's baseline: {rate.hits} of {rate.trials} unchanged "
            f"candidates REGRESSED ({_counts(proof.across_cards)})"
        )
    lines += [
        f"noise of {one.timer} {one.l2} {one.pace} {format_percentile(one.percentile)} "
        f"({counted(one.cases, 'case')}): {_percent(one.process_sd)} between processes, "
        f"{_percent(one.round_sd)} between rounds"
        for one in proof.noise
    ]
    lines += [f"left out: {text}" for text in proof.left_out]
    return "\n".join(lines)


def _found_lines(proof: Proof, size: float, rate: Rate) -> list[str]:
    """
    Return how often one size was found, where it can be, and how large it was in truth.
    """
    name = f"+{100 * size:g} %"
    where = proof.power_where_detectable(size)
    expected = f"{_share(where)} of tests that find it" if where.trials else "no test finds it"
    injected = [(each, one) for each in proof.cases for one in each.injected if one.size == size]
    real = [one.real for _, one in injected if one.real is not None and one.is_its_size]
    truth = f"; in truth {_percent(min(real))} to {_percent(max(real))} slower" if real else ""
    return [
        f"{name} found: {_share(rate)}, at least {_percent(rate.at_least)} with 95 % confidence",
        f'  {expected} (column "finds"){truth}',
        *(
            f"  but {name} of {each.case.test} is {_percent(one.real)} "
            f"[{_percent(one.real_interval.low)}, {_percent(one.real_interval.high)}] in truth"
            for each, one in injected
            if one.real is not None and one.real_interval is not None and not one.is_its_size
        ),
    ]


def calibration_plot(proof: Proof) -> str:
    """
    Return the share of slowdowns found, as bars of text; "" where none was injected.
    """
    lines = []
    for size, rate in proof.power.items():
        share = rate.share or 0.0
        bar = "#" * round(_BAR * share)
        name = f"+{100 * size:g} %"
        lines.append(f"{name:>8} |{bar:<{_BAR}}| {100 * share:.0f} %")
    return "\n".join(["found, by size of the slowdown", *lines]) if lines else ""


def calibration_line(slug: str, proof: Proof) -> str:
    """
    Return the one line that stands under a table of verdicts.
    """
    found = [
        f"+{100 * size:g} % found in {rate.hits} of {rate.trials}"
        for size, rate in proof.power.items()
    ]
    return "; ".join(
        [
            f"{slug} was calibrated on {proof.date[:10]} ({counted(len(proof.cards), 'card')}): "
            f"{_at_most(proof.false_alarms)} "
            f"({proof.false_alarms.hits} of {proof.false_alarms.trials})",
            *found,
        ]
    )


def calibration_json(proof: Proof) -> dict[str, Any]:
    """
    Return what the JSON document of a run says about a calibration.
    """
    return {
        "date": proof.date,
        "cards": list(proof.cards),
        "program": proof.program,
        "false_alarms": rate_json(proof.false_alarms),
        "inconclusive": rate_json(proof.inconclusive),
        "covered": rate_json(proof.covered),
        "across_cards": rate_json(proof.alarms_across_cards),
        "found": {f"{size:g}": rate_json(rate) for size, rate in proof.power.items()},
        "detectable": _detectable(proof.cases),
    }


def rate_json(rate: Rate) -> dict[str, Any]:
    """
    Return a rate with its limits.
    """
    return {
        "hits": rate.hits,
        "trials": rate.trials,
        "at_least": rate.at_least,
        "at_most": rate.at_most,
    }


def _detectable(cases: Sequence[CaseProof]) -> Mapping[str, float | None]:
    """
    Return, per case and percentile, the smallest slowdown found; of several cards the worst.
    """
    found: dict[str, float | None] = {}
    for each in cases:
        key = f"{each.case.file}::{each.case.key} {format_percentile(each.percentile)}"
        before = found.get(key, 0.0)
        worse = None if None in (before, each.detectable) else max(before, each.detectable)  # type: ignore[type-var]
        found[key] = worse
    return found


def _cells(each: CaseProof, sizes: Sequence[float], several: bool) -> tuple[str, ...]:
    found = {one.size: one.found for one in each.injected}
    case = each.case
    return (
        f"{case.test} {case.name}".strip(),
        each.card.removeprefix("GPU-")[:8] if several else "",
        f"{case.timer} {case.l2}",
        format_percentile(each.percentile),
        format_us(each.time_us),
        _percent(each.process_sd),
        _percent(each.round_sd),
        _percent(each.margin),
        "-" if each.detectable is None else _percent(each.detectable),
        _counts(each.statuses),
        *(f"{found[s].hits}/{found[s].trials}" if s in found else "-" for s in sizes),
    )


def _counts(statuses: Mapping[str, int]) -> str:
    return ", ".join(
        f"{count} {'ok' if status == 'UNCHANGED' else status}" for status, count in statuses.items()
    )


def _style(each: CaseProof) -> str:
    return "bold red" if each.false_alarms.hits else ""


def _at_most(rate: Rate) -> str:
    if rate.at_most >= 1:
        return "false alarms unknown"
    return f"false alarms at most 1 in {int(1 / rate.at_most)}"


def _share(rate: Rate) -> str:
    share = f" ({format_percent(rate.share, signed=False)})" if rate.trials else ""
    return f"{rate.hits} of {rate.trials}{share}"


def _percent(fraction: float) -> str:
    return format_percent(fraction, signed=False)
