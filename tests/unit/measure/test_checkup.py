"""
Doctor's probes: what they return on this machine, and on a simulated card.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

from pytest_kernelperf.analysis.diagnosis import diagnose
from pytest_kernelperf.measure import card as card_module
from pytest_kernelperf.measure import checkup, graph, kernel_profile
from pytest_kernelperf.measure import nvml as nvml_module
from pytest_kernelperf.measure.canary import Shot
from pytest_kernelperf.measure.nvml import NvmlCard
from pytest_kernelperf.model import Answer, Level

torch = pytest.importorskip("torch")


def levels(name, facts):
    """
    Return what diagnosis says of a probe's facts: it must understand all of them.
    """
    return {each.topic: each.level for each in diagnose({name: Answer(facts)})}


def test_the_software_is_told_without_importing_it():
    facts = checkup.look_at_software(0)

    assert {"python", "torch", "pytest"} <= facts["versions"].keys()
    assert Level.OK == levels("software", facts)["software"]


def test_the_host_is_looked_at():
    facts = checkup.look_at_host(0)

    assert facts["p95_over_p50"] >= 1.0
    assert facts["tick_us"] > 0
    assert ["host"] == list(levels("host", facts))


def test_cards_are_told_as_torch_finds_them():
    facts = checkup.look_for_cards(0)

    assert torch.cuda.is_available() == bool(facts["cards"])
    assert ["gpu"] == list(levels("cards", facts))


@pytest.mark.parametrize(
    "look",
    [
        checkup.look_at_card,
        checkup.look_at_graphs,
        checkup.look_at_profiler,
        checkup.look_at_state,
        checkup.look_at_ceilings,
    ],
)
def test_a_card_that_is_not_there_has_no_facts(look):
    assert {} == look(99)


class FakeCard:
    """
    A card at 1980 MHz that does nothing.
    """

    canary = True

    def wake(self):
        pass

    def spin(self, cycles):
        pass

    def shoot(self, run, calls, *, flush):
        run()
        return Shot(1000.0, 1980.0, 1980.0, 50.0)


@pytest.fixture
def one_card(monkeypatch):
    """
    Make torch find one card, whose tensors are on the CPU.
    """
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, device: zeros(*size))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (70 << 30, 80 << 30))
    monkeypatch.setattr(card_module, "card_for", lambda index: FakeCard())
    monkeypatch.setattr(nvml_module, "nvml_card", lambda index: NvmlCard(None, ""))


@pytest.mark.usefixtures("one_card")
def test_a_cards_state_is_what_canary_and_driver_say():
    facts = checkup.look_at_state(0)

    assert 1980.0 == facts["canary_mhz"]
    assert facts["nvml_mhz"] is None
    assert {"driver data": Level.NOTE, "clock": Level.OK, "memory": Level.OK} == levels(
        "state", facts
    )


@pytest.mark.usefixtures("one_card")
@pytest.mark.parametrize(("times", "level"), [(1, Level.OK), (0, Level.BAD)])
def test_a_graph_is_replayed_and_its_result_looked_at(monkeypatch, times, level):
    def capture(call, calls):
        return SimpleNamespace(run=lambda: [call(index) for index in range(times * calls)])

    monkeypatch.setattr(graph, "capture", capture)
    monkeypatch.setattr(graph, "nodes_of", lambda captured: SimpleNamespace(count=10))

    assert {"graphs": level} == levels("graphs", checkup.look_at_graphs(0))


@pytest.mark.usefixtures("one_card")
def test_a_profile_counts_its_records(monkeypatch):
    profile = contextlib.nullcontext(SimpleNamespace(records=("kernel",)))
    monkeypatch.setattr(kernel_profile, "KernelProfile", lambda device: profile)

    assert {"profiler": Level.OK} == levels("profiler", checkup.look_at_profiler(0))
