"""
Write what attention_table.py measured as Markdown: every figure comes from its JSON.

    python benchmarks/attention_report.py FILE [FILE ...] > docs/attention-table.md

Where several files have a slice, the last one's counts. What has changed since a slice was measured
is its "since" in the JSON, written by hand: it stands under the title, and goes with the slice when
that is measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attention_peers import FA4

Document = dict[str, Any]
TITLES = {
    "nine": "The nine shapes of the report, float16, 8 heads of 64",
    "bf16": "The same in bfloat16, against float16",
    "causal": "The same under a causal mask",
    "long": "16384 tokens, 32 heads of 64",
    "d128": "16384 tokens, 16 heads of 128",
    "ragged": "Odd lengths, batch 16, against the next larger multiple of 64",
    "grouped": "8 query heads on 1, 2 and 4 key heads, batch 16, against 8 on 8",
    "lone": "A lone call: what its caller waits on new inputs (cold), on the same (warm); host",
    "decode": "One new token on a cache, against a copy of as many bytes",
}
MEAN_MUST = {"nine": 1.25}
STAYED_DISTURBED = re.compile(r": (?P<why>[^:]+): [^:]+, [1-9]\d* stay disturbed$")
HEAD = "| shape | ours, us | compared with | times as fast | must | | floor |"
RULE = "|---|---:|---|---|---:|---|---|"
INTRODUCTION = """\
# The attention kernels beside their peers

Written by `benchmarks/attention_report.py`; the commands stand in the head of
`benchmarks/attention_table.py`. Ratios are the other's time over ours, with 95 %
intervals over rounds; a `?` means that the interval holds the limit. Floor: the
least time by the resource in brackets, over ours. A mean is over shapes, each against
the best of all, and its interval takes them for independent; FA4 is flash-attn-4.
Where kernels have changed since a slice was measured, its first words say which.
"""


def table(document: Document) -> Iterator[str]:
    """One slice: its lines, then what they come to."""
    yield f"## {TITLES[document['slice']]}"
    yield ""
    if "since" in document:
        yield from (document["since"], "")
    yield HEAD
    yield RULE
    yield from (row(line) for line in document["lines"])
    yield ""
    yield from outcome(document)


def row(line: dict[str, Any]) -> str:
    """One line of the table."""
    other = f"{line['against']} {figure(line['times_us'][line['against']])}"
    interval = "" if line["low"] is None else f" [{line['low']:.3f}, {line['high']:.3f}]"
    must = "" if line["must"] is None else f"{line['must']:.2f}"
    share = line["floor_share"]
    floor = "" if share is None else f"{share:.0%} ({line['bound_by']})"
    cells = (line["shape"], figure(line["ours_us"]), other, f"{line['ratio']:.3f}{interval}")
    return f"| {' | '.join((*cells, must, line['verdict'], floor))} |"


def figure(time_us: float) -> str:
    """A time with four digits that mean something."""
    return f"{time_us:.0f}" if time_us >= 1000 else f"{time_us:#.4g}"


def outcome(document: Document) -> Iterator[str]:
    """What a slice comes to, and what it lacks."""
    found = document["summary"]
    if found:
        size = f"Geometric mean {mean(document)}, least {found['least']:.3f}."
        yield f"{size} Missed: {'; '.join(found['missed']) or 'nothing'}."
    of = len({line["shape"] for line in document["lines"]})
    for why, shapes in disturbed(document["lines"]).items():
        yield f"At {len(shapes)} of {of} shapes rounds stayed disturbed, alike for all: {why}."
    yield from (f"Not measured: {reason}" for reason in document["failed"])
    yield ""


def disturbed(lines: list[dict[str, Any]]) -> dict[str, set[str]]:
    """What disturbed rounds that were taken again in vain, and of which shapes."""
    found: dict[str, set[str]] = {}
    for line in lines:
        for note in filter(None, map(STAYED_DISTURBED.search, line["notes"])):
            found.setdefault(note["why"], set()).add(line["shape"])
    return found


def card(machine: dict[str, str]) -> str:
    """The card's name, as the other documents have it."""
    return f"; card GPU-{machine['uuid'].split('-')[0]}" if "uuid" in machine else ""


def least_by_shape(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each shape's lines that were measured side by side, the one with the least ratio."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line["low"] is not None:
            known = found.setdefault(line["shape"], line)
            found[line["shape"]] = min(known, line, key=lambda one: one["ratio"])
    return found


def mean(document: Document) -> str:
    """The geometric mean over shapes, each against the best of all; beside it, of each peer."""
    lines = document["lines"]
    all_peers = geometric_mean(list(least_by_shape(lines).values()))
    text = spanned(*all_peers)
    must = MEAN_MUST.get(document["slice"])
    if must is not None:
        found, low, high = all_peers
        text += f" (must {must:.2f}: {judged(found, low, high, must)})"
    fa4 = [line for line in lines if line["against"] == FA4]
    if fa4:
        sdpa = [line for line in lines if line["low"] is not None and line["against"] != FA4]
        text += f", against SDPA {spanned(*geometric_mean(sdpa))}"
        text += f", against {FA4} {spanned(*geometric_mean(fa4))}"
    return text


def judged(ratio: float, low: float | None, high: float | None, must: float | None) -> str:
    """What a ratio says to what is asked; "?" where its interval holds the limit."""
    if must is None:
        return ""
    answer = "ok" if ratio >= must else "MISSED"
    if low is None or high is None:
        return answer
    return answer + ("?" if low < must <= high else "")


def geometric_mean(lines: list[dict[str, Any]]) -> tuple[float, float, float]:
    """A mean of ratios, and the interval that its lines' give if they are independent."""
    found = math.exp(sum(math.log(one["ratio"]) for one in lines) / len(lines))
    spans = [math.log(one["high"] / one["low"]) for one in lines]
    half = math.exp(math.hypot(*spans) / 2 / len(spans))
    return found, found / half, found * half


def spanned(found: float, low: float, high: float) -> str:
    """A ratio and its interval."""
    return f"{found:.3f} [{low:.3f}, {high:.3f}]"


def report(documents: list[Document]) -> str:
    """All slices, in the table's order, headed by what they were measured on."""
    order = list(TITLES)
    documents = sorted(documents, key=lambda document: order.index(document["slice"]))
    machines = {json.dumps(document["machine"], sort_keys=True) for document in documents}
    lines = [INTRODUCTION]
    for machine in sorted(machines):
        named = json.loads(machine)
        lines.append(f"* {', '.join(f'{key} {named[key]}' for key in sorted(named))}")
    for document in documents:
        limits = document["ceilings"]
        lines.append(
            f"* {document['slice']}: {document['seconds']:.0f} s; copies "
            f"{limits['copy_bytes_per_us'] / 1e3:.0f} GB/s, multiplies "
            f"{limits['matmul_flops_per_us'] / 1e6:.0f} TFLOP/s, "
            f"{limits['exponentials_per_us'] / 1e6:.2f} T exponentials/s"
            f"{card(document['machine'])}"
        )
    lines.append("")
    for document in documents:
        lines += table(document)
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Print the report of some files."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE", help="of attention_table.py --out")
    slices: dict[str, Document] = {}
    for file in parser.parse_args().files:
        slices |= json.loads(Path(file).read_text(encoding="utf-8"))
    sys.stdout.write(report(list(slices.values())))


if __name__ == "__main__":
    main()
