"""
Calibration on a card: slowdowns of the wanted size, by a kernel's own dial and by extra launches.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from pytest_kernelperf import measure
from pytest_kernelperf.analysis import percentile_us
from pytest_kernelperf.calibration.injection import InjectingRoom
from pytest_kernelperf.calibration.order import Order, read_diallings
from pytest_kernelperf.calibration.slowdowns import Dialled
from pytest_kernelperf.model import Case
from pytest_kernelperf.store.runs import read_run

pytestmark = pytest.mark.h100


def chain(x, extra, *, steps):
    from pytest_kernelperf.calibration import kernels

    return kernels.chain(x, steps + extra)


def make_subject(name):
    import torch

    from pytest_kernelperf.calibration import kernels

    x = torch.randn(128 * 132, device="cuda")
    a = torch.randn(2048, 2048, device="cuda", dtype=torch.float16)
    big = torch.randn(1 << 23, device="cuda")
    short = Dialled(partial(chain, steps=400), "extra arithmetic", share=1 / 400)
    adding = Dialled(kernels.add, "extra bytes", share=kernels.ADD_BLOCK / (1 << 22) / 3)
    rows = Dialled(kernels.softmax, "a worse tile", share=1 / 4096)
    return {
        "chain of 3 us": measure.Subject(short, (x,)),
        "add": measure.Subject(adding, (big, big[: 1 << 22].clone())),
        "softmax": measure.Subject(rows, (a.view(4096, 1024),)),
        "torch": measure.Subject(torch.matmul, (a, a.clone())),
    }[name]


@pytest.mark.parametrize("name", ["chain of 3 us", "add", "softmax", "torch"])
def test_a_slowdown_of_five_percent_is_five_percent_slower(name, tmp_path: Path):
    subject = make_subject(name)
    case = Case("calibrate", name, "", "device", "cold", "paced")
    dialled = tmp_path / "slowdowns.json"
    sizing = InjectingRoom(measure, Order(str(dialled), sizes=(0.05,)))
    _, (first,) = sizing.measure(subject, [measure.Job(case)], progress=print)
    sizing.finish()
    (found,) = read_diallings(dialled).values()
    assert () == found.missing

    record = tmp_path / "slowed.run.gz"
    room = InjectingRoom(measure, Order(str(dialled), record=str(record)))
    job = measure.Job(case, pinned=first.plan)
    _, (unslowed,) = room.measure(subject, [job], progress=print)
    room.finish()

    (slowed,) = (one.measurement for one in read_run(record).recorded)
    ratio = percentile_us(slowed.processes, 50) / percentile_us(unslowed.processes, 50)
    assert 0.05 == pytest.approx(ratio - 1, abs=0.02)
    assert unslowed.method == slowed.method == "graph"
