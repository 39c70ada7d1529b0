"""
Figures from an earlier report, to be shown beside ours with what they measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_kernelperf.errors import OptionsError

_PARAMETERS = re.compile(r"\[(.*)\]$", re.DOTALL)
_SHAPE = (
    'expected {"name": ..., "source": ..., "protocol": ..., "per": ..., "times_us": '
    '{"128-8": {"50": 2.6, ...}, ...}, "peers_us": {"sdpa": {"128-8": 2.2, ...}, ...}}'
)


@dataclass(frozen=True)
class Earlier:
    """
    Figures that somebody else measured, as the report found them.

    Attributes:
        name: What columns call them.
        source: Where they were found.
        protocol: In plain words, what they measure.
        per: What an item is ("sequence").
        times_us: Test parameters ("128-8") to percentile to microseconds per item.
        peers_us: Callable to test parameters to the P50, microseconds per item.
    """

    name: str
    source: str
    protocol: str
    per: str
    times_us: Mapping[str, Mapping[float, float]]
    peers_us: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def time_us(self, test: str, percentile: float) -> float | None:
        """
        Return the figure for a test, found by its parameters; None if there is none.
        """
        return self.times_us.get(parameters(test), {}).get(percentile)

    def speedup(self, test: str, name: str, reference: str) -> float | None:
        """
        Return the reference's P50 over the callable's; None unless these figures have both.
        """
        own, theirs = (self._p50_us(test, each) for each in (name, reference))
        return theirs / own if own and theirs else None

    def _p50_us(self, test: str, name: str) -> float | None:
        peer = self.peers_us.get(name)
        return peer.get(parameters(test)) if peer is not None else None


def parameters(test: str) -> str:
    """
    Return a test's parameters as its name shows them ("128-8"), or "".
    """
    found = _PARAMETERS.search(test)
    return found[1] if found else ""


def read_earlier(document: Mapping[str, Any]) -> Earlier:
    """
    Check a JSON document of earlier figures.

    Raises:
        OptionsError: If it is not of the shape that docs/usage.md describes.
    """
    texts = {key: document.get(key) for key in ("name", "source", "protocol", "per")}
    for key, text in texts.items():
        if not isinstance(text, str) or not text:
            raise OptionsError(f"earlier figures: {key!r} is {text!r}, not a text; {_SHAPE}")
    times = _mapping(document.get("times_us"), "times_us")
    peers = _mapping(document.get("peers_us", {}), "peers_us")
    return Earlier(
        **{key: str(text) for key, text in texts.items()},
        times_us={key: _percentiles(row, f"times_us.{key}") for key, row in times.items()},
        peers_us={key: _times(row, f"peers_us.{key}") for key, row in peers.items()},
    )


def _percentiles(row: Any, where: str) -> dict[float, float]:
    times = _times(row, where)
    try:
        return {float(percentile): time_us for percentile, time_us in times.items()}
    except ValueError as error:
        raise OptionsError(
            f"earlier figures: {where} has a key that is no percentile ({error}); {_SHAPE}"
        ) from None


def _times(row: Any, where: str) -> dict[str, float]:
    found = _mapping(row, where)
    for key, value in found.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= 0:
            raise OptionsError(
                f"earlier figures: {where}.{key} is {value!r}, not microseconds above 0; {_SHAPE}"
            )
    return {key: float(value) for key, value in found.items()}


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise OptionsError(f"earlier figures: {where!r} is {value!r}, not an object; {_SHAPE}")
    return value
