"""
The baseline and the record in this repository: what users' first command judges.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

from live import flat, to_six_digits

from pytest_kernelperf.gate import Gate
from pytest_kernelperf.model import Status
from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.runs import read_run

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "baselines"
SLUG = "nvidia-h100-80gb-hbm3"
FILE = "tests/perf/test_attention.py"
#: Of another card, as users' will be.
RECORD = ROOT / "records" / "h100-attention.json.gz"


def test_the_shipped_baseline_is_below_200_kb() -> None:
    assert Baselines(SHIPPED).path(SLUG, FILE).stat().st_size < 200_000


def test_another_process_as_latest_of_every_entry_still_fits(tmp_path: Path) -> None:
    """What the next `--kernelperf-update` of unchanged kernels will store."""
    entries = {
        key: replace(
            entry,
            latest=replace(
                entry.reference,
                margins={},
                processes=(replace(entry.reference.processes[0], id="f" * 32),),
            ),
        )
        for key, entry in Baselines(SHIPPED).load(SLUG, FILE).items()
    }

    assert Baselines(tmp_path).write(SLUG, FILE, entries).stat().st_size < 220_000


def test_the_shipped_baseline_is_as_the_store_writes_it(tmp_path: Path) -> None:
    """An update must not change lines of entries that it leaves alone."""
    shipped = Baselines(SHIPPED)
    written = Baselines(tmp_path).write(SLUG, FILE, shipped.load(SLUG, FILE))

    assert shipped.path(SLUG, FILE).read_bytes() == written.read_bytes()


def test_the_shipped_record_of_another_card_is_judged_as_it_was_there() -> None:
    """Every field of every verdict, numbers to six digits; all 36 unchanged."""
    recorded = read_run(RECORD).recorded
    gate = Gate(SHIPPED)
    live = [verdict for one in recorded for verdict in one.verdicts]
    now = [v for one in recorded for v in gate.judge(one.measurement, one.limits)]

    assert {(Status.UNCHANGED, "OTHER_CARD"): 36} == Counter((v.status, v.reason) for v in now)
    assert [flat(v) for v in live] == [to_six_digits(flat(v)) for v in now]


def test_the_shipped_baseline_is_of_the_kernels_that_are_compiled_here() -> None:
    """The machine code that was measured is what the gate compiles without a GPU."""
    measured = json.loads((SHIPPED / SLUG / FILE).with_suffix(".json").read_text())["entries"]
    compiled = json.loads((SHIPPED / "sm_90" / FILE).with_suffix(".json").read_text())["kernels"]
    on_the_card = {
        key: [kernel["code_hash"] for kernel in entry["reference"]["kernels"]]
        for key, entry in measured.items()
        if "| device " in key
    }
    here = {
        f"{test} | device cold paced": [kernel["code_hash"] for kernel in kernels]
        for test, kernels in compiled.items()
    }

    assert len(here) == 9
    assert on_the_card == here
