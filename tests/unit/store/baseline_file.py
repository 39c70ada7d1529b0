"""
The names in the baseline file that several tests write.
"""

from __future__ import annotations

SLUG = "nvidia-h100-80gb-hbm3"
FILE = "tests/perf/test_attention.py"


def keys(timer: str = "device") -> list[str]:
    """
    Return the names of its entries.
    """
    return [f"test_attention[{n}] | {timer} cold paced" for n in range(9)]
