"""
A card's peaks from what is stated about it, and sizes of what its ceilings are measured with.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

from pytest_kernelperf.measure import ceilings, peaks
from pytest_kernelperf.measure.canary import Shot
from pytest_kernelperf.measure.nvml import Facts, NvmlCard
from pytest_kernelperf.model import Peaks

torch = pytest.importorskip("torch")


@pytest.fixture
def stated(monkeypatch):
    """
    Return a function that says what torch and the driver state about card 0.
    """

    def say(major, minor, sms, clock_mhz, memory_gbs=None, torch_clock_khz=0):
        properties = SimpleNamespace(
            major=major, minor=minor, multi_processor_count=sms, clock_rate=torch_clock_khz
        )
        nvml = SimpleNamespace(
            facts=lambda: Facts(max_sm_clock_mhz=clock_mhz), memory_peak_gbs=lambda: memory_gbs
        )
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
        monkeypatch.setattr(ceilings, "nvml_card", lambda index: nvml)

    return say


@pytest.mark.parametrize(
    ("major", "minor", "sms", "boost_mhz", "datasheet_tflops"),
    [
        (7, 0, 80, 1530, 125),  # V100
        (8, 0, 108, 1410, 312),  # A100
        (8, 9, 142, 2520, 362),  # L40S
        (9, 0, 132, 1830, 989),  # H100 SXM, whose clock goes to 1980
    ],
)
def test_the_table_gives_the_datasheets_figures(
    stated, major, minor, sms, boost_mhz, datasheet_tflops
):
    stated(major, minor, sms, boost_mhz)

    assert peaks("cuda:0").tflops == pytest.approx(datasheet_tflops, rel=0.02)


@pytest.mark.parametrize(
    ("major", "minor", "factor"),
    [(7, 0, 1), (8, 0, 4), (9, 0, 2), (10, 0, 4), (10, 3, 6)],
)
def test_the_narrowest_numbers_are_as_much_faster_as_the_datasheet_says(
    stated, major, minor, factor
):
    """
    V100 has none; A100 int4; H100 FP8; B200 and B300 FP4.
    """
    stated(major, minor, 100, 2000)

    found = peaks("cuda:0")

    assert found.narrowest_tflops == pytest.approx(factor * found.tflops)


def test_a_card_that_is_not_in_the_table_has_no_known_peak(stated):
    stated(99, 0, 100, 2000.0, 8000.0)

    assert Peaks(None, 8000.0) == peaks("cuda:0")


def test_without_the_driver_the_clock_is_torchs(stated):
    stated(9, 0, 132, None, torch_clock_khz=1_980_000)

    assert Peaks(1070.5, None, 2141.0) == peaks("cuda:0")


def test_a_cpu_has_no_peaks():
    assert peaks("cpu") is None


class Nvml:
    """
    A driver that knows one card's memory: an H100's 2619 MHz and 5120 bits.
    """

    NVMLError = RuntimeError

    def __init__(self, **unknown):
        self.unknown = unknown

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802 - NVML's name
        return "card"

    def nvmlDeviceGetMaxClockInfo(self, handle, kind):  # noqa: N802
        return {1: 1980, 2: 2619}[kind]

    def nvmlDeviceGetMemoryBusWidth(self, handle):  # noqa: N802
        if self.unknown:
            raise RuntimeError("not supported")
        return 5120


def test_memory_carries_data_on_both_edges_of_its_clock():
    assert NvmlCard(Nvml(), "1").memory_peak_gbs() == pytest.approx(3352.3, abs=0.1)


def test_a_driver_that_does_not_tell_the_width_gives_no_peak():
    assert NvmlCard(Nvml(width=True), "1").memory_peak_gbs() is None
    assert NvmlCard(None, "1").memory_peak_gbs() is None
    assert not NvmlCard(None, "1").readable()


@pytest.mark.parametrize(("free_gib", "rows"), [(78, 8192), (0.5, 4096), (0.02, 1024)])
def test_a_product_takes_at_most_half_of_the_free_memory(free_gib, rows):
    assert rows == ceilings._product_rows(2, int(free_gib * 2**30))


def test_a_card_without_room_for_a_product_is_refused():
    with pytest.raises(RuntimeError, match="free memory"):
        ceilings._product_rows(4, 2**20)


class FakeCard:
    """
    A card whose work takes a fixed time per call, and which runs on the CPU.
    """

    index, blocker = 0, None

    def wake(self):
        pass

    def spin(self, cycles):
        pass

    def free_bytes(self):
        return 16 * 2**20


@pytest.fixture
def fake_card(monkeypatch):
    """
    Return the calls that were timed: their number per sample and TF32 setting.
    """
    timed = []

    def paced_us(card, call, calls, gap_us):
        call(0)
        timed.append((calls, gap_us, torch.get_float32_matmul_precision()))
        return 10.0

    for name in ("ones", "randn"):
        original = getattr(torch, name)
        monkeypatch.setattr(
            torch, name, lambda *size, device, real=original, **how: real(*size, **how)
        )
    monkeypatch.setattr(ceilings, "_paced_us", paced_us)
    monkeypatch.setattr(ceilings, "card_for", lambda index: FakeCard())
    monkeypatch.setattr(ceilings, "_LEAST_ROWS", 64)
    monkeypatch.setattr(
        ceilings, "environment", lambda device: SimpleNamespace(versions={"torch": "2", "cpu": "x"})
    )
    monkeypatch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
    return timed


def test_ceilings_are_counted_work_over_time(fake_card):
    """
    16 MiB free: two buffers of 4 MiB, and products of 1024 rows (512 in float32), twice the cube.
    """
    found = ceilings.measure_ceilings(0)

    assert round(2 * 4 * 2**20 / 10.0 * 1e-3, 1) == found.copy_gbs
    assert {
        "float16": round(2 * 1024**3 / 10.0 * 1e-6, 1),
        "bfloat16": round(2 * 1024**3 / 10.0 * 1e-6, 1),
        "float32": round(2 * 512**3 / 10.0 * 1e-6, 1),
    } == found.matmul_tflops
    assert 10.0 == found.empty_kernel_us
    assert {"torch": "2"} == found.versions


def test_products_of_float32_use_the_matrix_units_and_leave_the_setting_as_it_was(fake_card):
    before = torch.get_float32_matmul_precision()

    ceilings.measure_ceilings(0)

    assert "high" == fake_card[-2][2]
    assert before == fake_card[-1][2] == torch.get_float32_matmul_precision()


def test_a_ceiling_is_the_median_of_paced_samples_of_a_settled_graph(monkeypatch):
    """
    Four graphs are captured before the one that counts has settled; no sample follows at once.
    """
    log = []
    times_us = iter(range(1, 100))
    card = FakeCard()
    card.shoot_unblocked = lambda run, calls, flush: run() or Shot(float(next(times_us)))
    monkeypatch.setattr(ceilings, "warm_side_stream", lambda call: call())
    monkeypatch.setattr(
        ceilings,
        "capture",
        lambda call, calls: log.append("capture") or SimpleNamespace(run=lambda: log.append("run")),
    )
    monkeypatch.setattr(ceilings, "rest", lambda gap_us: log.append(f"rest {gap_us:g}"))

    found = ceilings._paced_us(card, lambda index: log.append(f"call {index}"), 5, 7.0)

    assert 10.5 == found
    assert ["call 0"] * 4 + ["capture", "run"] * 4 + ["rest 7", "run"] * 20 == log
