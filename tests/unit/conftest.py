"""
Settings of the property tests.
"""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says what else the machine does, not whether a property holds.
settings.register_profile("kernelperf", deadline=None)
settings.load_profile("kernelperf")
