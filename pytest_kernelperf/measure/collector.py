"""
Keeps Python's garbage collector out of what is measured.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """
    Keep the garbage collector out of samples, and from freeing a graph inside a capture.
    """
    # The young generations only: a full collection takes 0.2 s beside torch, for each measurement.
    gc.collect(1)
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
