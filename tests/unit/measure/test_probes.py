"""
The clock's tick and the machine's fingerprint.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_kernelperf.measure.environment import cpu_name, environment, split_mig
from pytest_kernelperf.measure.probes import smallest_step_us


def test_the_tick_is_the_smallest_gap():
    """
    Multiples of 32 ns, as `elapsed_time` gives them: rounded to 32 bits, here by a picosecond.
    """
    intervals = [1.28, 1.312, 1.312001, 1.376, 5.024]

    assert 0.032 == smallest_step_us(intervals)


def test_equal_intervals_show_no_tick():
    assert 0.0 == smallest_step_us([1.28, 1.28])


@pytest.mark.parametrize(
    ("device_name", "split"),
    [
        ("NVIDIA H100 80GB HBM3", ("NVIDIA H100 80GB HBM3", "")),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", ("NVIDIA H100 80GB HBM3", "1g.10gb")),
    ],
)
def test_a_slice_has_its_cards_name(device_name, split):
    """
    Baselines are filed under the model: a slice must find them, and be told that it differs.
    """
    assert split == split_mig(device_name)


def test_a_machine_without_a_card_is_named_by_its_processor():
    found = environment("cpu")

    assert (None, cpu_name(), "none") == (found.gpu, found.card, found.blocker)
    assert sys.version.split()[0] == found.versions["python"]


def test_the_fingerprint_of_a_cpu_imports_no_torch():
    """
    A measurement of plain Python must not wait seconds for a library that it doesn't use.
    """
    code = (
        "import sys; from pytest_kernelperf.measure.environment import environment;"
        "environment('cpu'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "False" == done.stdout.strip()
