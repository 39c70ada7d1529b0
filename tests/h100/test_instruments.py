"""
On a real card: what holds the stream back, reads the clock and names the card.
"""

from __future__ import annotations

import time

import pytest

torch = pytest.importorskip("torch")

from pytest_kernelperf.measure import blocker, environment  # noqa: E402
from pytest_kernelperf.measure.nvml import nvml_card  # noqa: E402

pytestmark = pytest.mark.h100


def test_the_stream_itself_waits_for_the_host(card):
    assert "wait-value" == card.blocker.name


def test_the_polling_kernel_holds_a_stream_back_too():
    assert blocker._holds_back(blocker._polling_blocker())


@pytest.mark.parametrize("make", [blocker._wait_value_blocker, blocker._polling_blocker])
def test_a_callable_that_waits_for_itself_is_freed(make):
    instrument = make()
    with instrument.hold():
        torch.zeros(8, device="cuda")
    torch.cuda.synchronize()
    began = time.monotonic()

    with instrument.hold() as hold:
        torch.cuda.synchronize()

    assert hold.slack_us < 0
    assert 1.5 < time.monotonic() - began < 4.0


def test_an_error_in_a_blocked_stretch_leaves_the_device_usable(card):
    with pytest.raises(ZeroDivisionError), card.hold():
        _ = 1 / 0

    assert 3.0 == (torch.ones(1, device="cuda") + 2).item()


def test_a_blocker_works_on_any_stream():
    """
    Blocking a side stream must not block the default one.
    """
    instrument = blocker._wait_value_blocker()
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side), instrument.hold():
        marked = torch.cuda.Event()
        marked.record()
        free = torch.cuda.Stream()
        with torch.cuda.stream(free):
            passed = torch.cuda.Event()
            passed.record()
        passed.synchronize()
        held = not marked.query()
    torch.cuda.synchronize()

    assert held


def test_the_canary_reads_the_cards_clock(card):
    # The first shots after the card was idle meet a rising clock (1484 MHz was seen): not these.
    card.wake()
    shots = [card.shoot(lambda: None, 1, flush=False) for _ in range(8)][3:]
    limit = nvml_card(card.index).facts().max_sm_clock_mhz or 2100.0

    clocks = [clock for shot in shots for clock in (shot.before_mhz, shot.after_mhz)]
    assert 0.5 * limit < min(clocks)
    assert max(clocks) < 1.02 * limit
    assert max(clocks) / min(clocks) < 1.02


def test_the_canarys_own_overhead_is_that_of_two_events(card):
    assert 0.5 < card.canary.overhead_us < 6.0


def test_every_sample_proves_that_all_was_enqueued_before_the_release(card):
    shots = [card.shoot(lambda: torch.cuda._sleep(1000), 1, flush=True) for _ in range(20)]

    assert all(0 <= shot.slack_us < 1000 for shot in shots)


def test_the_fingerprint_names_card_driver_and_tick():
    found = environment(f"cuda:{torch.cuda.current_device()}")

    assert found.gpu is not None
    assert "H100" in found.gpu.name
    assert found.gpu.uuid.startswith(("GPU-", "MIG-"))
    assert 50 * 2**20 == pytest.approx(found.gpu.l2_bytes, rel=0.3)
    assert {"python", "torch", "cuda", "driver"} <= set(found.versions)
    assert 0.032 == pytest.approx(found.tick_us, rel=0.05)
    assert 0.3 < found.empty_interval_us < 4.0


def test_nobody_else_is_on_the_card(card):
    assert 0 == nvml_card(card.index).foreign_processes()


def test_nvml_reads_clock_power_and_temperature(card):
    card.wake()
    reading = nvml_card(card.index).read()

    assert None not in (reading.clock_mhz, reading.power_w, reading.temperature_c)
