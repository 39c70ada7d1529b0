"""
What `kernelperf doctor` says: a line per finding with its cure, and the same as JSON.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from pytest_kernelperf.model import Ceilings, Finding, Level
from pytest_kernelperf.units import counted

#: 1: the first.
SCHEMA_VERSION = 1
_STYLES = {Level.OK: "green", Level.NOTE: "yellow", Level.BAD: "bold red"}


def checkup_text(findings: Sequence[Finding], *, color: bool) -> str:
    """
    Return the findings, one or two lines each, and the summary.
    """
    from rich.text import Text

    width = max((len(finding.topic) for finding in findings), default=0)
    lines = []
    for finding in findings:
        level = Text(f"{finding.level.value:<4}", _STYLES[finding.level])
        shown = _styled(level) if color else level.plain
        lines.append(f"{shown}  {finding.topic:<{width}}  {finding.text}")
        if finding.cure:
            lines.append(f"{'':<{width + 8}}-> {finding.cure}")
    return "\n".join([*lines, _summary(findings)])


def checkup_json(findings: Sequence[Finding], ceilings: Ceilings | None) -> str:
    """
    Return the same as one JSON document, with a final newline.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "kind": "kernelperf-doctor",
        "trustworthy": not _count(findings)[Level.BAD],
        "findings": [{**asdict(each), "level": each.level.value} for each in findings],
        "ceilings": asdict(ceilings) if ceilings else None,
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _summary(findings: Sequence[Finding]) -> str:
    count = _count(findings)
    notes = f", {counted(count[Level.NOTE], 'note')}" if count[Level.NOTE] else ""
    if count[Level.BAD]:
        bad = counted(count[Level.BAD], "finding")
        return f"kernelperf doctor: measurements here can NOT be trusted: {bad} BAD{notes}"
    return f"kernelperf doctor: measurements here can be trusted{notes}"


def _count(findings: Sequence[Finding]) -> Counter[Level]:
    return Counter(finding.level for finding in findings)


def _styled(text: object) -> str:
    from rich.console import Console

    console = Console(force_terminal=True, color_system="standard", _environ={})
    with console.capture() as captured:
        console.print(text, end="")
    return captured.get()
